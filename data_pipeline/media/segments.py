"""Cuts a recording into segments as it is read: at shot changes and pauses, or in windows.

Each boundary depends only on what is within LOOKAHEAD seconds of it. It therefore depends neither
on how the file is read nor on its length, and at most one segment and the look-ahead are in memory.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import webrtcvad

from data_pipeline.media.clip import SAMPLE_RATE, Sampling, image_index, resize_to, uniform_indices
from data_pipeline.media.container import nothing_decoded, open_regular
from data_pipeline.media.file_times import HELD, TOLERANCE, end_of_recording
from data_pipeline.media.stream import (
    Recording,
    VideoFrame,
    open_recording,
    read_frames,
    read_sound,
)
from data_pipeline.schema import Clip

STEP = 0.03  # seconds per speech decision
LOOKAHEAD = 3.0  # seconds after a boundary that must be known before it is set
SILENCE = 2.5  # seconds without speech from which they become a segment of their own
_MARGIN = 0.3  # seconds of quiet that stay with the speech next to a long silence
_NEAR = 0.5  # a pause within this many seconds of a shot change is the same boundary
_SILENT = 1e-9  # power of the noise that codecs add to silence, at most
_STEP_SAMPLES = round(STEP * SAMPLE_RATE)
# A shot change: the picture changes by more than MIN_CHANGE grey levels and by MIN_RATIO times the
# median change of the NEIGHBOURS frames before and the three frames after. At the joins of real
# clips of one person in one room the change is at least 10; within them it is at most 2.2 in 99 %
# of the frames (scripts/timeline_check.py).
MIN_CHANGE, MIN_RATIO, NEIGHBOURS = 6.0, 4.0, 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """How a recording is cut.

    Attributes:
      mode: `speech` (at shot changes and pauses) or `window` (equal parts).
      window: seconds per part in mode `window`.
      shortest: minimum seconds of a segment in mode `speech`.
      longest: most seconds of a segment in mode `speech`; a longer one is cut where it is quietest.
      pause: seconds without speech that make a boundary.
      strictness: 0 to 3; the higher, the surer the voice detector must be to report speech.

    Raises:
      ValueError: a value is out of range.
    """

    mode: str = "speech"
    window: float = 3.0
    shortest: float = 0.6
    longest: float = 10.0
    pause: float = 0.3
    strictness: int = 2

    def __post_init__(self) -> None:
        if self.mode not in ("speech", "window"):
            raise ValueError(f"segment mode must be 'speech' or 'window', got '{self.mode}'")
        if not 0.2 <= self.window <= 60:
            raise ValueError(f"window must be between 0.2 and 60 s, got {self.window:g}")
        if not 0 < self.shortest <= self.longest / 2 or not self.longest <= 60:
            raise ValueError(
                f"segments of {self.shortest:g} to {self.longest:g} s are not possible: "
                f"the longest must have between {2 * self.shortest:g} and 60 s"
            )
        if not 0.1 <= self.pause < SILENCE:
            raise ValueError(f"pause must be between 0.1 and {SILENCE:g} s, got {self.pause:g}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a recording.

    Attributes:
      index: number of the segment, from 0.
      start: seconds from the first shown frame of the recording.
      end: seconds from the first shown frame of the recording.
      ends_at: why it ends: `cut` (shot change), `pause`, `length`, `window` or `end`.
      speech: proportion of its time with speech, None without sound.
      clip: its frames and sound, as `read_clip` would return them.
      motion: time (s, as `start`) of the greatest change between two frames
        inside the segment, None without picture.
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
    pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    return bool(detector.is_speech(pcm, SAMPLE_RATE))


def quiet_runs(flags: Sequence[bool], begin: float, pause: float) -> list[tuple[float, float]]:
    """Finds spans without speech.

    Args:
      flags: whether each step of STEP seconds is speech.
      begin: time of the first step in seconds.
      pause: minimum length of a span in seconds.

    Returns:
      (start, end) of each span in seconds.
    """
    if not len(flags):
        return []
    # One or two steps of "speech" between quiet ones are a click: a median over five removes them.
    padded = np.pad(np.asarray(flags, np.int8), 2, mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(padded, 5).sum(axis=1) >= 3
    runs, at = [], 0
    for speech, group in itertools.groupby(smooth[: len(flags)].tolist()):
        size = len(list(group))
        if not speech and size * STEP >= pause - 1e-9:
            runs.append((begin + at * STEP, begin + (at + size) * STEP))
        at += size
    return runs


def find_boundaries(
    runs: Sequence[tuple[float, float]], cuts: Sequence[float], start: float
) -> list[tuple[float, str]]:
    """Finds the times at which a segment may end.

    Args:
      runs: spans without speech, from `quiet_runs`.
      cuts: times of shot changes in seconds.
      start: start of the segment in seconds.

    Returns:
      (time in seconds, `cut` or `pause`), sorted.
    """
    boundaries = [(c, "cut") for c in cuts if c > start]
    for a, b in runs:
        if b - a < SILENCE:
            # A shot change in the pause is the boundary; a pause at `start` ends nothing.
            covered = any(a - _MARGIN <= c <= b + _MARGIN for c in cuts) or a <= start
            boundaries += [] if covered else [((a + b) / 2, "pause")]
        else:
            ends = [a + _MARGIN] * (a > start) + [b - _MARGIN]
            boundaries += [
                (t, "pause") for t in ends if t > start and all(abs(t - c) > _NEAR for c in cuts)
            ]
    return sorted(boundaries)


class _Cutter:
    """The content of a recording from the start of the current segment on."""

    def __init__(self, config: SegmentConfig, recording: Recording, sampling: Sampling):
        self.config, self.recording, self.sampling = config, recording, sampling
        self.detector = webrtcvad.Vad(config.strictness)
        self.start, self.index = 0.0, 0
        self.frames: list[VideoFrame] = []
        self.changes: list[tuple[float, float]] = []  # (time, change), also before the segment
        self.cuts: list[float] = []
        self.flags: list[bool] = []
        self.power: list[float] = []  # mean square of each step
        self.samples = np.zeros(0, np.float32)
        self.first_sample = 0  # number of self.samples[0] in the recording
        self.last = 0.0  # end of the recording, once it is read
        self.motions: list[tuple[float, float]] = []  # (change, time) of the current segment
        self.previous: VideoFrame | None = None  # the last frame before the current segment

    @property
    def begin(self) -> float:
        """Time in seconds of the first sample and flag in memory."""
        return self.first_sample / SAMPLE_RATE

    def add_frame(self, frame: VideoFrame) -> None:
        self.changes.append((frame.time, frame.change))
        self.motions.append((frame.change, frame.time))
        self.frames.append(frame)
        at = len(self.changes) - 4  # three later frames tell a flash from a cut
        if at >= 1:
            time, change = self.changes[at]
            nearby = self.changes[max(0, at - NEIGHBOURS) : at] + self.changes[at + 1 :]
            usual = float(np.median([c for _, c in nearby]))
            if change > MIN_CHANGE and change > MIN_RATIO * usual:
                self.cuts.append(time)
        del self.changes[: -(NEIGHBOURS + 4)]

    def add_sound(self, piece: np.ndarray) -> None:
        self.samples = np.concatenate([self.samples, piece])
        size = _STEP_SAMPLES
        while len(self.samples) >= (len(self.flags) + 1) * size:
            step = self.samples[len(self.flags) * size : (len(self.flags) + 1) * size]
            self.flags.append(is_speech(step, self.detector))
            self.power.append(float(np.square(step).mean()))

    def next_end(self, now: float, *, over: bool) -> tuple[float, str] | None:
        """The end of the current segment, None while it cannot be decided.

        Args:
          now: time in seconds up to which the recording has been read.
          over: whether the recording ends at `now`.

        Returns:
          (time in seconds, reason).
        """
        config = self.config
        if config.mode == "window":
            # A remainder of less than `spare` at the end is added to the last window.
            end, spare = (self.index + 1) * config.window, min(0.5, config.window / 4)
            return (end, "window") if now > end + spare else None
        known = now if over else now - LOOKAHEAD
        limit = self.start + config.longest
        # A pause that lasts up to `now` would end with the recording.
        runs = quiet_runs(self.flags, self.begin, config.pause)
        for time, reason in find_boundaries(runs, self.cuts, self.start):
            if time > min(known, limit):
                break
            if time - self.start >= config.shortest and not (over and now - time < config.shortest):
                return time, reason
        if known >= limit and not (over and now - limit < config.shortest):
            return self._quietest(limit), "length"
        return None

    def _quietest(self, limit: float) -> float:
        """Time of the quietest step in the second half of a segment that is too long."""
        first = max(0, int((self.start + self.config.longest / 2 - self.begin) / STEP))
        power = self.power[first : int((limit - self.begin) / STEP)]
        if len(power) < 5:
            return limit
        smooth = np.convolve(power, np.ones(5) / 5, mode="valid")
        # The first one within 1 dB: codecs change which of equally quiet ones is the quietest.
        quiet = smooth <= 10**0.1 * max(float(smooth.min()), _SILENT)
        return self.begin + (first + 2 + int(quiet.argmax())) * STEP

    def finish_segment(self, end: float, reason: str) -> Segment:
        """Returns the segment up to `end` and drops what later segments do not need."""
        end = round(end, 3)  # the times in outputs cut the same picture and sound
        begin = self.begin
        frames = [f for f in self.frames if f.time < end - TOLERANCE]
        late = not frames or frames[0].time > self.start + HELD
        if self.previous is not None and late:
            # The previous frame is shown until the next one.
            frames = [dataclasses.replace(self.previous, time=self.start), *frames]
        motions = [m for m in self.motions if self.start < m[1] < end]
        last = max(0, round(end * SAMPLE_RATE) - self.first_sample)
        first = max(0, round(self.start * SAMPLE_RATE) - self.first_sample)
        waveform = self.samples[first:last]
        flags = self.flags[max(0, int((self.start - begin) / STEP)) : int((end - begin) / STEP)]
        segment = Segment(
            index=self.index,
            start=self.start,
            end=end,
            ends_at=reason,
            speech=float(np.mean(flags)) if flags else None,
            clip=self._clip(frames, waveform if len(waveform) else None, end),
            motion=max(motions)[1] if motions else None,
        )
        self.previous = frames[-1] if frames else self.previous
        self.motions = [m for m in self.motions if m[1] >= end]
        self.frames = [f for f in self.frames if f.time >= end - TOLERANCE]
        self.cuts = [c for c in self.cuts if c > end]
        # Whole steps are dropped. The last SILENCE seconds stay, so that a pause across the
        # boundary keeps its full length.
        steps = max(0, min(int((end - SILENCE - begin) / STEP), len(self.flags)))
        self.flags, self.power = self.flags[steps:], self.power[steps:]
        self.samples = self.samples[steps * _STEP_SAMPLES :].copy()
        self.first_sample += steps * _STEP_SAMPLES
        self.start, self.index = end, self.index + 1
        return segment

    def _clip(self, frames: Sequence[VideoFrame], waveform: np.ndarray | None, end: float) -> Clip:
        clip = Clip(
            id=f"{self.index:05d}",
            path=self.recording.path,
            frames=None,
            times=None,
            image=None,
            image_index=None,
            waveform=waveform,
            subtitle="",
            duration=end - self.start,
        )
        if not frames:
            return clip
        indices = uniform_indices(len(frames), self.sampling.num_frames).tolist()
        middle = image_index(len(frames), self.sampling)
        pixels = {i: frames[i].pixels for i in {*indices, middle}}
        return dataclasses.replace(
            clip,
            # A stream may change its size half-way; the frames take the size of the image.
            frames=np.stack([resize_to(pixels[i], pixels[middle].shape) for i in indices]),
            times=np.array([frames[i].time - self.start for i in indices]),
            image=pixels[middle],
            image_index=middle,
            num_frames=len(frames),
        )


def read_segments(
    path: str,
    config: SegmentConfig,
    sampling: Sampling,
    *,
    notes: list[str] | None = None,
    recording: Recording | None = None,
) -> Iterator[Segment]:
    """Yields the segments of a recording, in order and without gaps, in one pass.

    Args:
      path: the file.
      config: how the recording is cut.
      sampling: number of frames per segment and which one is its image. The frames are always
        spread over the segment (`sampling.temporal` is ignored).
      notes: receives irregularities of the file.
      recording: the opened file, opened here if not given.

    Raises:
      ClipError: not a media file, or nothing can be decoded.
    """
    notes = [] if notes is None else notes
    recording = recording or open_recording(path, notes)
    cutter = _Cutter(config, recording, sampling)
    for now in _read_both(cutter, recording, notes):
        while end := cutter.next_end(now, over=False):
            yield cutter.finish_segment(*end)
    last = cutter.last
    if last == 0.0:
        with open_regular(path) as file:
            raise nothing_decoded(file, notes)
    while end := cutter.next_end(last, over=True):
        yield cutter.finish_segment(*end)
    if last - cutter.start > 1e-3:
        yield cutter.finish_segment(last, "end")


def _read_both(cutter: _Cutter, recording: Recording, notes: list[str]) -> Iterator[float]:
    """Feeds picture and sound to a cutter; yields now and then the time up to which both are read.

    At the end `cutter.last` is the end of the recording.
    """
    times = recording.times
    frames = read_frames(recording.path, notes, times=times)
    sound = read_sound(recording.path, notes, times=times)
    # The track that is behind is read next; infinity marks a track that has ended.
    video = 0.0 if recording.has_video else np.inf
    audio = 0.0 if recording.has_audio else np.inf
    picture_end, samples, checked = 0.0, 0, 0.0
    while video < np.inf or audio < np.inf:
        if audio <= video:
            piece = next(sound, None)
            if piece is None:
                audio = np.inf
                continue
            cutter.add_sound(piece)
            samples += len(piece)
            audio = samples / SAMPLE_RATE
        else:
            frame = next(frames, None)
            if frame is None:
                if picture_end and video >= times.frames[-1] - TOLERANCE:
                    picture_end = times.picture_end  # the last picture may last long
                video = np.inf
                continue
            cutter.add_frame(frame)
            video = max(frame.time, video)
            picture_end = video + min(times.step, 0.1)
        now = min(video, audio)
        if now < np.inf and now - checked >= 0.25:
            checked = now
            yield now
    cutter.last = end_of_recording(picture_end, samples / SAMPLE_RATE)
