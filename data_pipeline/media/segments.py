"""A recording cut into segments as it is read: at changes of shot and in pauses of speech, or in windows of one length.

A boundary is decided from what lies LOOKAHEAD seconds around it and nothing else, so it depends neither on how the file was read nor
on how long it is, and no more than a segment is ever in memory.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import webrtcvad

from data_pipeline.media.clip import SAMPLE_RATE, ClipError, Sampling, fit, uniform_indices
from data_pipeline.media.stream import Picture, Recording, open_recording, pictures, sound
from data_pipeline.schema import Clip

STEP = 0.03  # seconds of one decision speech or not
LOOKAHEAD = 3.0  # seconds behind a boundary that must be known before it is set
KEPT = 8.0  # frames a second that are kept for answers
SILENCE = 2.5  # seconds of no speech from which they are a segment of their own
_MARGIN = 0.3  # seconds of quiet that stay with the speech beside a long silence
_NEAR = 0.5  # a pause this near to a change of shot is the same boundary
# A change of shot: the picture changes by more than CUT grey levels and RATIO times as much as it did around it. On joins of real
# clips of one room and person the change is 10 and more, inside them 2.2 at most in 99 of 100 frames (scripts/timeline_check.py).
CUT, RATIO, AROUND = 6.0, 4.0, 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmenting:
    """How a recording is cut.

    Attributes:
      mode: `speech` (changes of shot and pauses) or `window` (equal parts).
      window: seconds of a part in mode `window`.
      shortest, longest: seconds of a segment in mode `speech`; a longer one is cut where it is quietest.
      pause: seconds without speech that are a boundary.
      strictness: 0 to 3, how sure the voice detector must be that something is speech.
    """

    mode: str = "speech"
    window: float = 3.0
    shortest: float = 0.6
    longest: float = 10.0
    pause: float = 0.3
    strictness: int = 2

    def __post_init__(self) -> None:
        if self.mode not in ("speech", "window"):
            raise ValueError(f"segments are cut by 'speech' or 'window', not '{self.mode}'")
        if not 0.2 <= self.window <= 60:
            raise ValueError(f"a window of {self.window:g} s can not be: give 0.2 to 60")
        if not 0 < self.shortest <= self.longest / 2 or not self.longest <= 60:
            raise ValueError(
                f"segments of {self.shortest:g} to {self.longest:g} s can not be: the longest may have {2 * self.shortest:g} to 60 s"
            )
        if not 0.1 <= self.pause < SILENCE:
            raise ValueError(f"a pause of {self.pause:g} s can not be: give 0.1 to {SILENCE:g}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a recording.

    Attributes:
      index: number, from 0.  start, end: seconds from the recording's start.
      ends_at: why it ends: `cut` (change of shot), `pause`, `length`, `window` or `end`.
      speech: share of its time in which somebody speaks, None without sound.
      clip: what is seen and heard in it, as `read_clip` would give it.
      motion: time (s, of the recording) of the greatest change of the picture inside it, None without picture.
    """

    index: int
    start: float
    end: float
    ends_at: str
    speech: float | None
    clip: Clip
    motion: float | None = None


def is_speech(samples: np.ndarray, detector: webrtcvad.Vad) -> bool:
    """Whether 30 ms of sound at 16 kHz are speech."""
    return detector.is_speech(
        (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), SAMPLE_RATE
    )


def quiet_runs(flags: Sequence[bool], begin: float, pause: float) -> list[tuple[float, float]]:
    """(from, to) in seconds of spans without speech of at least `pause` seconds; `begin`: time of the first flag."""
    if not len(flags):
        return []
    # A step or two of "speech" between quiet ones is a click: the middle of five decides.
    padded = np.pad(np.asarray(flags, np.int8), 2, mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(padded, 5).sum(axis=1) >= 3
    runs, at = [], 0
    for speech, group in itertools.groupby(smooth[: len(flags)].tolist()):
        size = len(list(group))
        if not speech and size * STEP >= pause - 1e-9:
            runs.append((begin + at * STEP, begin + (at + size) * STEP))
        at += size
    return runs


def boundaries(
    runs: Sequence[tuple[float, float]], cuts: Sequence[float], start: float
) -> list[tuple[float, str]]:
    """Where a segment that began at `start` may end, in order: (seconds, `cut` or `pause`)."""
    found = [(c, "cut") for c in cuts if c > start]
    for a, b in runs:
        if b - a < SILENCE:
            # A pause that a cut lies in is that cut; one the segment began in belongs to it.
            taken = any(a - _MARGIN <= c <= b + _MARGIN for c in cuts) or a <= start
            found += [] if taken else [((a + b) / 2, "pause")]
        else:
            ends = [a + _MARGIN] * (a > start) + [b - _MARGIN]
            found += [
                (t, "pause") for t in ends if t > start and all(abs(t - c) > _NEAR for c in cuts)
            ]
    return sorted(found)


class _Cutter:
    """What is known of a recording from the start of the segment that is open."""

    def __init__(self, how: Segmenting, recording: Recording, sampling: Sampling):
        self.how, self.recording, self.sampling = how, recording, sampling
        self.detector = webrtcvad.Vad(how.strictness)
        self.start, self.index = 0.0, 0
        self.pictures: list[Picture] = []
        self.changes: list[tuple[float, float]] = []  # (time, change), some before the segment
        self.cuts: list[float] = []
        self.flags: list[bool] = []
        self.loud: list[float] = []  # mean square of each step
        self.samples = np.zeros(0, np.float32)
        self.first_sample = 0  # number of self.samples[0] in the recording
        self.checked = 0.0
        self.moved: list[tuple[float, float]] = []  # (change, time) of the open segment's frames
        self.before: Picture | None = None  # the picture that stands when the segment begins

    def see(self, picture: Picture) -> None:
        self.changes.append((picture.time, picture.change))
        self.moved.append((picture.change, picture.time))
        if picture.pixels is not None:
            self.pictures.append(picture)
        at = len(self.changes) - 4  # three frames behind are known: a flash is no cut
        if at >= 1:
            time, change = self.changes[at]
            around = [c for _, c in self.changes[max(0, at - AROUND) : at] + self.changes[at + 1 :]]
            if change > CUT and change > RATIO * float(np.median(around)):
                self.cuts.append(time)
        del self.changes[: -(AROUND + 4)]

    def hear(self, piece: np.ndarray) -> None:
        self.samples = np.concatenate([self.samples, piece])
        size = round(STEP * SAMPLE_RATE)
        while len(self.samples) >= (len(self.flags) + 1) * size:
            step = self.samples[len(self.flags) * size : (len(self.flags) + 1) * size]
            self.flags.append(is_speech(step, self.detector))
            self.loud.append(float(np.square(step).mean()))

    def next_end(self, now: float, over: bool) -> tuple[float, str] | None:
        """The end of the open segment, once everything around it is known; `over`: the recording ends at `now`."""
        how = self.how
        if how.mode == "window":
            end, rest = (self.index + 1) * how.window, min(0.5, how.window / 4)
            return (
                (end, "window") if now > end + rest else None
            )  # less than that at the end belongs to the last one
        known = now if over else now - LOOKAHEAD
        limit = self.start + how.longest
        begin = self.first_sample / SAMPLE_RATE
        runs = quiet_runs(self.flags, begin, how.pause)
        # what is still going on at `now` ends when the recording does
        for time, why in boundaries(runs, self.cuts, self.start):
            if time > min(known, limit):
                break
            if time - self.start >= how.shortest and not (over and now - time < how.shortest):
                return time, why
        if known >= limit and not (over and now - limit < how.shortest):
            return self.quietest(limit), "length"
        return None

    def quietest(self, limit: float) -> float:
        """The quietest step of the second half of a segment that has become too long."""
        begin = self.first_sample / SAMPLE_RATE
        first = max(0, int((self.start + self.how.longest / 2 - begin) / STEP))
        loud = self.loud[first : int((limit - begin) / STEP)]
        if len(loud) < 5:
            return limit
        smooth = np.convolve(loud, np.ones(5) / 5, mode="valid")
        return begin + (first + 2 + int(smooth.argmin())) * STEP

    def close(self, end: float, why: str) -> Segment:
        begin = self.first_sample / SAMPLE_RATE
        shown = [p for p in self.pictures if p.time < end]
        if self.before is not None and (not shown or shown[0].time > self.start + 2 / KEPT):
            shown = [
                dataclasses.replace(self.before, time=self.start),
                *shown,
            ]  # it stands until the next frame comes
        inside = [m for m in self.moved if self.start < m[1] < end]
        split = max(0, round(end * SAMPLE_RATE) - self.first_sample)
        low = max(0, round(self.start * SAMPLE_RATE) - self.first_sample)
        heard = self.samples[low:split]
        flags = self.flags[max(0, int((self.start - begin) / STEP)) : int((end - begin) / STEP)]
        segment = Segment(
            index=self.index,
            start=round(self.start, 3),
            end=round(end, 3),
            ends_at=why,
            speech=float(np.mean(flags)) if flags else None,
            clip=self.clip(shown, heard if len(heard) else None, end),
            motion=max(inside)[1] if inside else None,
        )
        self.before = shown[-1] if shown else self.before
        self.moved = [m for m in self.moved if m[1] >= end]
        self.pictures = [p for p in self.pictures if p.time >= end]
        self.cuts = [c for c in self.cuts if c > end]
        # Flags stay on the grid of steps; a little before the boundary is kept so that a pause around it is seen whole.
        steps = max(0, min(int((end - SILENCE - begin) / STEP), len(self.flags)))
        size = round(STEP * SAMPLE_RATE)
        self.flags, self.loud = self.flags[steps:], self.loud[steps:]
        self.samples = self.samples[steps * size :].copy()
        self.first_sample += steps * size
        self.start, self.index = end, self.index + 1
        return segment

    def clip(self, shown: Sequence[Picture], heard: np.ndarray | None, end: float) -> Clip:
        name = f"{self.index:05d}"
        if shown:
            chosen = uniform_indices(len(shown), self.sampling.num_frames)
            middle = 0 if self.sampling.image == "first" else len(shown) // 2
            first = shown[middle].pixels
            assert first is not None
            kept = [p for i in chosen if (p := shown[i].pixels) is not None]
            # A stream may change its size half-way; frames share the middle one's.
            frames = [p if p.shape == first.shape else fit(p, first.shape) for p in kept]
            times = np.array([shown[i].time - self.start for i in chosen])
            return Clip(
                id=name,
                path=self.recording.path,
                frames=np.stack(frames),
                times=times,
                image=first,
                image_index=middle,
                waveform=heard,
                subtitle="",
                duration=end - self.start,
                num_frames=len(shown),
            )
        return Clip(
            id=name,
            path=self.recording.path,
            frames=None,
            times=None,
            image=None,
            image_index=None,
            waveform=heard,
            subtitle="",
            duration=end - self.start,
        )


def segments(
    path: str, how: Segmenting, sampling: Sampling, *, notes: list[str] | None = None
) -> Iterator[Segment]:
    """The segments of a recording, in order and without a gap; one pass, whatever the length.

    Frames of a segment are spread over it, whatever `sampling.temporal` says: of the KEPT frames a second that stay in memory.

    Args:
      notes: receives what is irregular about the file.

    Raises:
      ClipError: not a media file; nothing could be decoded.
    """
    notes = [] if notes is None else notes
    recording = open_recording(path)
    cutter = _Cutter(how, recording, sampling)
    seen, heard = pictures(path, KEPT, notes), sound(path, notes)
    video = 0.0 if recording.has_video else np.inf
    audio = 0.0 if recording.has_audio else np.inf
    last, given = 0.0, 0
    while video < np.inf or audio < np.inf:
        if audio <= video:
            piece = next(heard, None)
            if piece is None:
                audio = np.inf
                continue
            cutter.hear(piece)
            given += len(piece)
            audio = given / SAMPLE_RATE
            last = max(last, audio)
        else:
            picture = next(seen, None)
            if picture is None:
                video = np.inf
                continue
            cutter.see(picture)
            video = max(picture.time, video)
            last = max(last, video + picture.lasts)
        now = min(video, audio)
        if now < np.inf and now - cutter.checked >= 0.25:
            cutter.checked = now
            while end := cutter.next_end(now, over=False):
                yield cutter.close(*end)
    if last == 0.0:
        raise ClipError(
            "; ".join(dict.fromkeys(notes)) or "neither picture nor sound could be decoded"
        )
    while end := cutter.next_end(last, over=True):
        yield cutter.close(*end)
    if last - cutter.start > 1e-6:
        yield cutter.close(last, "end")
