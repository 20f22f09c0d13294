"""One clock for the tracks of a file: seconds from its first shown frame.

Containers start their time stamps anywhere (a transport stream often after hours), parts that were
joined start them again, and the last picture is shown as long as the file says. One pass over the
packets, without decoding them, finds all of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from array import array
from collections.abc import Callable
from typing import IO, Any

import av
import numpy as np
from av.format import Flags

from data_pipeline.media.container import cause_of
from data_pipeline.media.file_faults import is_whole_matroska
from data_pipeline.media.tracks import default_track

# A codec starts with up to this many seconds of sound before the first picture and ends with as
# many behind the last one; not all containers say so. The clock counts from the picture.
PADDING = 0.15
TOLERANCE = 0.0015  # seconds; times of tables and of some containers are rounded to 0.001
HELD = 0.25  # seconds without a new picture from which the one before is part of a span
# Seconds; a time stamp that jumps further back, or ahead, belongs to the next joined part.
_BACK, _AHEAD = 1.0, 3600.0
_AHEAD_IN_STREAM = 10.0  # in formats whose clock may jump, where all tracks jump
# Formats whose header has no length: what FFmpeg reports is estimated.
_WITHOUT_LENGTH = frozenset({"aac", "ac3", "h264", "hevc", "m4v", "mpegvideo"})


def end_of_recording(picture: float, sound: float) -> float:
    """The later end of picture and sound in seconds; a codec's padding of the sound does not count.

    Args:
      picture: end of the picture, s; 0 if there is none.
      sound: end of the sound, s; 0 if there is none.
    """
    return picture if picture and sound <= picture + PADDING else max(picture, sound)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileTimes:
    """When the tracks of a file are shown, in seconds by its clock (see the module).

    Attributes:
      frames: float64[n], sorted times of the pictures.
      picture_end: when the last picture disappears, 0 without picture.
      sound_start: when the sound starts; None without sound.
      sound_end: when the sound ends, 0 without sound.
      announced: length by the file's header, 0 if it gives none.
      joins: where parts were joined and the time stamps jump.
      offsets: {kind of track: what is added to the time stamps of each joined part}.
      ahead: seconds of a jump ahead that belongs to the next part.
      step: nominal seconds from one picture to the next.
    """

    frames: np.ndarray
    picture_end: float = 0.0
    sound_start: float | None = None
    sound_end: float = 0.0
    announced: float = 0.0
    joins: tuple[float, ...] = ()
    offsets: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    ahead: float = _AHEAD
    step: float = 0.04

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return end_of_recording(self.picture_end, self.sound_end)

    def shown(self, start: float | None, end: float | None) -> np.ndarray:
        """Times of the pictures that are seen in a span, float[n], s.

        A picture is shown until the next one, so the first may have come before `start`.

        Args:
          start: s, None for the beginning.
          end: s, None for the end.
        """
        first, stop = 0, len(self.frames)
        if end is not None:
            stop = int(np.searchsorted(self.frames, end - TOLERANCE))
        if start is not None:
            first = int(np.searchsorted(self.frames, start - TOLERANCE))
            late = first >= stop or self.frames[first] > start + HELD
            if 0 < first and late and start < self.seconds:
                first -= 1
        return self.frames[first:stop]

    def notes(self, start: float | None = None, end: float | None = None) -> tuple[str, ...]:
        """What is irregular about the clock in a span, as sentences.

        Args:
          start: s, None for the beginning.
          end: s, None for the end.
        """
        inside = [t for t in self.joins if (start or 0) < t < (np.inf if end is None else end)]
        if not inside:
            return ()
        places = f"at {inside[0]:.2f} s" if len(inside) == 1 else f"in {len(inside)} places"
        return (f"the time stamps jump {places}, as in joined recordings; the jump is ignored",)

    def clock(self, kind: str) -> Clock:
        """The clock of a track for one pass over its decoded frames."""
        return Clock(self.offsets.get(kind, (0.0,)), self.ahead)


class Clock:
    """Converts the time stamps of one track's frames, in their order, to the file's clock."""

    def __init__(self, offsets: tuple[float, ...], ahead: float):
        self._offsets, self._ahead = offsets, ahead
        self._part, self._last = 0, 0.0
        self._stamp: float | None = None

    def __call__(self, stamp: float | None, step: float) -> float:
        """Converts one time stamp.

        Args:
          stamp: the time stamp in seconds, None if missing.
          step: expected seconds since the previous frame.

        Returns:
          Seconds from the first shown frame of the file.
        """
        if stamp is None or stamp == self._stamp:
            self._last += step
            return self._last
        if self._stamp is not None and not (
            self._stamp - _BACK <= stamp <= self._stamp + self._ahead
        ):
            self._part += 1
            if self._part >= len(self._offsets):
                self._offsets = (*self._offsets, self._last + step - stamp)
        self._stamp = stamp
        now = stamp + self._offsets[self._part]
        self._last = max(self._last, now)
        return now


class _Track:
    """The time stamps of one track, as its packets come."""

    def __init__(self, stream: Any):
        self.stream = stream
        rate = stream.average_rate if stream.type == "video" else None
        self.step = 1 / float(rate or 25)
        # Start and end of each packet that is shown; times of decoding never go back within a part.
        self.starts, self.ends, self.order = array("d"), array("d"), array("d")
        self.first: float | None = None  # time stamp of the first frame that was decoded
        self.guessed = False  # the file gives no times of presentation

    def add(self, packet: Any) -> None:
        """Notes one packet, in the order of the file."""
        if self.first is None:
            self._decode(packet)
        if not packet.size or packet.is_discard:
            return
        base = packet.time_base
        length = float((packet.duration or 0) * base)
        stamp = packet.pts if packet.pts is not None else packet.dts
        previous = self.starts[-1] if self.starts else -self.step
        start = previous + (length or self.step) if stamp is None else float(stamp * base)
        self.guessed |= packet.pts is None
        self.order.append(start if packet.dts is None else float(packet.dts * base))
        self.starts.append(start)
        self.ends.append(start + (length or (self.step if self.stream.type == "video" else 0.0)))

    def _decode(self, packet: Any) -> None:
        with contextlib.suppress(av.error.FFmpegError, ValueError, MemoryError):
            for frame in packet.decode():
                if self.first is None:
                    self.first = frame.time

    def parts(self, ahead: float) -> list[np.ndarray]:
        """Finds the joined parts.

        Args:
          ahead: see FileTimes.

        Returns:
          float64[n, 2]: start and end of each packet that is shown, for each part.
        """
        spans, jumps = np.column_stack([self.starts, self.ends]), np.diff(self.order)
        found = np.split(spans, np.flatnonzero((jumps < -_BACK) | (jumps > ahead)) + 1)
        if self.first is None:
            return found
        if self.guessed:  # times of decoding: as much earlier as frames are reordered
            return [part + self.first - spans[:, 0].min() for part in found]
        # What comes before the first frame could not be decoded: the file begins between key frames
        shown = found[0][found[0][:, 0] >= self.first - 1e-3]
        if not len(shown):
            return found
        if self.stream.type == "audio":  # part of a packet that is left out may be heard
            shown[0, 0] = min(shown[0, 0], self.first)
        return [shown, *found[1:]]


def read_times(
    container: Any,
    file: IO[bytes],
    *,
    notes: list[str] | None = None,
    check: Callable[[], None] = lambda: None,
) -> FileTimes:
    """Reads the times of a file's tracks from its packets.

    Args:
      container: the file, opened by PyAV for this pass.
      file: the same file, to see whether it is complete.
      notes: receives what is irregular about the file.
      check: called for each packet; may raise.
    """
    streams = (default_track(container, kind) for kind in ("video", "audio"))
    tracks = {s.index: _Track(s) for s in streams if s}
    try:
        for packet in container.demux([t.stream for t in tracks.values()]) if tracks else ():
            check()
            tracks[packet.stream.index].add(packet)
    except (av.error.FFmpegError, MemoryError) as error:
        if notes is not None:
            notes.append(f"the file ends early ({cause_of(error)})")
    return _file_times(container, {t.stream.type: t for t in tracks.values() if t.starts}, file)


def _file_times(container: Any, tracks: dict[str, _Track], file: IO[bytes]) -> FileTimes:
    if not tracks:
        return FileTimes(frames=np.zeros(0))
    ahead, may_jump = _AHEAD, bool(container.format.flags & Flags.ts_discont.value)
    parts = {kind: track.parts(ahead) for kind, track in tracks.items()}
    if may_jump and "audio" in tracks:
        near = {kind: track.parts(_AHEAD_IN_STREAM) for kind, track in tracks.items()}
        if len({len(p) for p in near.values()}) == 1:
            parts, ahead = near, _AHEAD_IN_STREAM
    offsets, joins = _align(parts)
    by_clock = {
        kind: np.concatenate([p + o for p, o in zip(parts[kind], offsets[kind], strict=True)])
        for kind in parts
    }
    pictures, sound = (by_clock.get(kind, np.zeros((0, 2))) for kind in ("video", "audio"))
    names = set(container.format.name.split(","))
    announced = (container.duration or 0) / av.time_base
    if "matroska" in names:  # its header gives the last time stamp
        announced = max(0.0, announced + next(iter(offsets.values()))[0])
    if joins or may_jump or names & _WITHOUT_LENGTH:
        announced = 0.0
    step = tracks["video"].step if "video" in tracks else 0.04
    picture_end = float(pictures[:, 1].max(initial=0.0))
    if announced and len(pictures):
        last = float(pictures[:, 0].max())
        picture_end = max(min(picture_end, announced), last + min(step, 0.1))
        if "matroska" in names and announced > picture_end + PADDING and is_whole_matroska(file):
            picture_end = announced  # it does not give the length of single pictures
    return FileTimes(
        frames=np.sort(pictures[:, 0]),
        picture_end=picture_end,
        sound_start=float(sound[:, 0].min()) if len(sound) else None,
        sound_end=float(sound[:, 1].max(initial=0.0)),
        announced=announced,
        joins=joins,
        offsets=offsets,
        ahead=ahead,
        step=step,
    )


def _align(
    parts: dict[str, list[np.ndarray]],
) -> tuple[dict[str, tuple[float, ...]], tuple[float, ...]]:
    """What is added to the time stamps of each part, by kind of track, and where parts are joined.

    The tracks of a part keep their distance, so they do not drift apart over many parts. Tracks
    with different numbers of parts cannot be matched: each one continues on its own.
    """
    if len({len(p) for p in parts.values()}) > 1:
        origin = _start(parts, 0)
        own = {kind: _align({kind: p}) for kind, p in parts.items()}
        late = {kind: _start({kind: p}, 0) - origin for kind, p in parts.items()}
        offsets = {kind: tuple(o + late[kind] for o in own[kind][0][kind]) for kind in parts}
        return offsets, max((ends for _, ends in own.values()), key=len)
    added: list[float] = []
    ends: list[float] = []
    end = 0.0
    for i in range(len(next(iter(parts.values())))):
        added.append(end - _start(parts, i))
        end = max(float(p[i][:, 1].max()) for p in parts.values()) + added[-1]
        ends.append(round(end, 3))
    return {kind: tuple(added) for kind in parts}, tuple(ends[:-1])


def _start(parts: dict[str, list[np.ndarray]], number: int) -> float:
    """Time stamp at which a part starts: that of its first picture, unless sound comes earlier."""
    starts = {kind: float(p[number][:, 0].min()) for kind, p in parts.items()}
    sound, picture = starts.get("audio", np.inf), starts.get("video", np.inf)
    return picture if picture <= sound + PADDING else sound
