"""Media file -> Clip: sequential PyAV decode of only the frames that are asked for.

Sources of the two temporal samplings: `window` is the released behaviour of Emotion-LLaMAv2 (16
consecutive frames at a random place), `uniform` spreads the frames over the whole clip.
"""

from __future__ import annotations

import dataclasses
import io
import os
import stat
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from data_pipeline.schema import Clip

SAMPLE_RATE = 16_000
MEDIA_SUFFIXES = frozenset(
    ".mp4 .mov .mkv .avi .webm .m4v .mpg .mpeg .flv .wmv .ts .3gp .wav .flac .mp3 .m4a .ogg .opus .aac".split()
)
# Demuxers that follow references to other files or draw text: never what a user means by a clip.
REFUSED_FORMATS = frozenset(
    {"hls", "concat", "dash", "tty", "image2", "lavfi", "txt", "webvtt", "srt"}
)
_MAX_PIXELS = 50_000_000

av.logging.set_level(av.logging.PANIC)  # what went wrong is told by ClipError and notes, once


class ClipError(ValueError):
    """A media file that can not be used; str() is one sentence that says what is wrong with it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which frames a Clip holds.

    Attributes:
      image: the one frame: `first`, `middle`, `peak` (the known apex) or `index`.
      index: frame number for `peak` and `index`; an unknown peak (None) falls back to the middle.
      temporal: `uniform` over the whole clip, or `window` of consecutive frames seeded by clip id.
      num_frames: F.
    """

    image: Literal["first", "middle", "peak", "index"] = "peak"
    index: int | None = None
    temporal: Literal["uniform", "window"] = "uniform"
    num_frames: int = 16


def uniform_indices(total: int, count: int) -> np.ndarray:
    """int64[count]: the middle of each of `count` equal spans of `total` frames; repeats if short."""
    return ((np.arange(count) + 0.5) * total / count).astype(np.int64)


def window_indices(total: int, count: int, rng: np.random.RandomState) -> np.ndarray:
    """int64[count]: `count` consecutive frames at a random place, or a truncated linspace if short.

    Source: the feature extractor of Emotion-LLaMAv2, which draws from NumPy's global RandomState.
    """
    if total > count:
        end = int(rng.randint(count, total))
        return np.arange(end - count, end)
    return np.linspace(0, total - 1, num=count).astype(np.int64)


def temporal_indices(total: int, sampling: Sampling, clip_id: str) -> np.ndarray:
    """int64[F] for one clip; `window` draws from a generator seeded by the clip's id alone."""
    if sampling.temporal == "uniform":
        return uniform_indices(total, sampling.num_frames)
    rng = np.random.RandomState(zlib.crc32(clip_id.encode()))
    return window_indices(total, sampling.num_frames, rng)


def image_index(total: int, sampling: Sampling) -> int:
    """The number of the one frame; out of range falls back to the middle, as the originals do."""
    if sampling.image == "first":
        return 0
    if sampling.image == "middle" or sampling.index is None or not 0 <= sampling.index < total:
        return total // 2
    return sampling.index


def read_clip(
    source: str | os.PathLike[str] | bytes,
    *,
    sampling: Sampling | None = None,
    clip_id: str | None = None,
    subtitle: str = "",
    start: float | None = None,
    end: float | None = None,
    timeout: float = 60.0,
) -> Clip:
    """Decodes one clip.

    Args:
      source: a path, or the bytes of a file.
      sampling: which frames are kept.
      clip_id: defaults to the file's stem.
      subtitle: the words spoken, "" when not known.
      start, end: span in seconds of the file's own clock; None is the file's border.
      timeout: seconds of decoding after which the file is refused.

    Returns:
      A Clip; without sound or picture it says so (`modalities`, `notes`).

    Raises:
      ClipError: nothing can be decoded, with the cause.
    """
    sampling = sampling or Sampling()
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    clip_id = clip_id if clip_id is not None else Path(name).stem
    data = source if isinstance(source, bytes) else _read_bytes(Path(name))
    reader = _Reader(data, start, end, time.monotonic() + timeout, timeout)
    frames = reader.frames(sampling, clip_id)
    waveform = reader.waveform()
    notes = list(reader.notes)
    if frames is None and (waveform is None or len(waveform) == 0):
        raise ClipError("; ".join(notes) or "neither picture nor sound could be decoded")
    clip = Clip(
        id=clip_id,
        path=name,
        frames=frames.pictures if frames else None,
        times=frames.times if frames else None,
        image=frames.image if frames else None,
        image_index=frames.image_index if frames else None,
        waveform=waveform,
        subtitle=subtitle,
        duration=max(
            frames.duration if frames else 0.0,
            len(waveform) / SAMPLE_RATE if waveform is not None else 0.0,
        ),
        num_frames=frames.total if frames else 0,
        notes=tuple(notes),
    )
    if clip.silent:
        return dataclasses.replace(clip, notes=(*clip.notes, "the sound track is digital silence"))
    return clip


def _read_bytes(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ClipError("this is a folder, not a media file")
        if not stat.S_ISREG(mode):  # a pipe or a device may never end
            raise ClipError("this is no ordinary file")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ClipError("there is no such file") from error
    except OSError as error:
        raise ClipError(f"the file can not be read ({error.strerror})") from error
    if not data:
        raise ClipError("the file is empty (0 bytes)")
    return data


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Frames:
    pictures: np.ndarray
    times: np.ndarray
    image: np.ndarray
    image_index: int
    total: int
    duration: float


class _Reader:
    """One file's bytes, opened anew for each pass; collects notes of what is irregular."""

    def __init__(
        self, data: bytes, start: float | None, end: float | None, deadline: float, timeout: float
    ):
        self.data, self.start, self.end = data, start, end
        self.deadline, self.timeout = deadline, timeout
        self.notes: list[str] = []

    def open(self) -> Any:
        return open_media(io.BytesIO(self.data), "pipe")

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise ClipError(
                f"decoding took more than {self.timeout:g} s; cut the file, or allow more time"
            )

    def inside(self, seconds: float | None) -> bool:
        if seconds is None:
            return True
        return (self.start is None or seconds >= self.start) and (
            self.end is None or seconds < self.end
        )

    def decoded(self, kind: str) -> Iterator[Any]:
        """Frames of one stream inside the span; a damaged tail ends the stream with a note."""
        with self.open() as container:
            streams = [s for s in getattr(container.streams, kind) if not is_cover(s)]
            if not streams:
                return
            stream = streams[0]
            if kind == "video":
                check_size(stream)
                stream.thread_type = "SLICE"  # frame threads would decode ahead of what is needed
            last = 0.0
            try:
                for packet in container.demux(stream):
                    self.check_time()
                    for frame in packet.decode():
                        last = frame.time if frame.time is not None else last
                        if (
                            self.end is not None
                            and frame.time is not None
                            and frame.time >= self.end
                        ):
                            return
                        if self.inside(frame.time):
                            yield frame
            except ClipError:
                raise  # out of time: part of a clip is not the clip
            except (av.error.FFmpegError, ValueError, MemoryError) as error:
                self.notes.append(
                    f"the {kind} track is damaged after {last:.2f} s ({cause_of(error)})"
                )

    def count_packets(self) -> int:
        """Video packets inside the span, without decoding; headers' frame counts are often wrong."""
        with self.open() as container:
            streams = [s for s in container.streams.video if not is_cover(s)]
            if not streams:
                return 0
            count = 0
            try:
                for packet in container.demux(streams[0]):
                    self.check_time()
                    seconds = None if packet.pts is None else float(packet.pts * packet.time_base)
                    if packet.size and not packet.is_discard and self.inside(seconds):
                        count += 1
            except ClipError:
                raise
            except (av.error.FFmpegError, ValueError) as error:
                self.notes.append(f"the file ends early ({cause_of(error)})")
            return count

    def frames(self, sampling: Sampling, clip_id: str) -> _Frames | None:
        total = self.count_packets()
        if total == 0:
            self.notes.append("there is no picture" + self._span())
            return None
        converter = (
            av.video.reformatter.VideoReformatter()
        )  # shared: setting one up costs more than its use
        for _ in range(3):  # a file may decode to fewer frames than it has packets: then plan anew
            wanted = temporal_indices(total, sampling, clip_id)
            chosen = image_index(total, sampling)
            need = set(wanted.tolist()) | {chosen}
            kept: dict[int, tuple[np.ndarray, float]] = {}
            seen, last_time = 0, 0.0
            for frame in self.decoded("video"):
                last_time = frame.time if frame.time is not None else last_time
                if seen in need:
                    kept[seen] = (to_rgb(frame, converter), last_time)
                seen += 1
                if len(kept) == len(need):
                    break
            if len(kept) == len(need):
                if (
                    sampling.index is not None
                    and chosen != sampling.index
                    and sampling.image in ("peak", "index")
                ):
                    self.notes.append(
                        f"there is no frame {sampling.index}; the middle one, {chosen}, stands for the clip"
                    )
                return _gather(kept, wanted, chosen, total, last_time)
            if seen == 0:
                if not any("damaged" in note for note in self.notes):
                    self.notes.append("the picture track holds no frame that can be decoded")
                return None
            self.notes.append(f"{total} frames announced, {seen} decode")
            total = seen
        self.notes.append("the picture track decodes differently each time")
        return None

    def waveform(self) -> np.ndarray | None:
        resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
        pieces: list[np.ndarray] = []
        found = False
        try:
            for frame in self.decoded("audio"):
                if not found and frame.time:
                    self.notes.append(
                        f"the sound starts at {frame.time:.2f} s"
                    ) if frame.time > 0.05 else None
                found = True
                frame.pts = None  # gaps in the clock would make the resampler refuse
                for out in resampler.resample(frame):
                    pieces.append(
                        out.to_ndarray().mean(axis=0)
                    )  # mean of channels, as the originals do
            if found:
                pieces += [out.to_ndarray().mean(axis=0) for out in resampler.resample(None)]
        except ClipError:
            raise
        except (av.error.FFmpegError, ValueError, MemoryError) as error:
            self.notes.append(
                f"the sound track changes its format and is cut there ({cause_of(error)})"
            )
        if not pieces:
            self.notes.append("there is no sound" + self._span())
            return None
        samples = np.concatenate(pieces).astype(np.float32)
        if not np.all(np.isfinite(samples)):
            self.notes.append(
                "the sound track holds samples that are not numbers; they are set to 0"
            )
            samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        return np.clip(samples, -1.0, 1.0)

    def _span(self) -> str:
        if self.start is None and self.end is None:
            return ""
        return f" between {self.start or 0:g} s and {'the end' if self.end is None else f'{self.end:g} s'}"


def open_media(source: Any, protocol: str) -> Any:
    """A PyAV container of a path (protocol `file`) or an open file (`pipe`); nothing else is followed from inside it.

    Raises:
      ClipError: not a media file.
    """
    try:
        container = av.open(
            source, options={"protocol_whitelist": protocol}, metadata_errors="replace"
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise ClipError(f"not a media file that can be read ({cause_of(error)})") from error
    if set(container.format.name.split(",")) & REFUSED_FORMATS:
        kind = container.format.name
        container.close()
        raise ClipError(f"not a video or sound file (its content is of kind '{kind}')")
    return container


def _gather(
    kept: dict[int, tuple[np.ndarray, float]],
    wanted: np.ndarray,
    chosen: int,
    total: int,
    last: float,
) -> _Frames:
    shape = kept[chosen][0].shape
    # A stream may change its size half-way; the sampled frames share the first one's shape.
    pictures = [
        kept[i][0] if kept[i][0].shape == shape else fit(kept[i][0], shape) for i in wanted.tolist()
    ]
    times = np.array([kept[i][1] for i in wanted.tolist()])
    return _Frames(
        pictures=np.stack(pictures),
        times=times,
        image=kept[chosen][0],
        image_index=chosen,
        total=total,
        duration=last,
    )


def fit(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """uint8[H, W, 3] -> uint8 of `shape`, PIL bilinear."""
    from PIL import Image

    return np.asarray(
        Image.fromarray(picture).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    )


def to_rgb(frame: Any, converter: Any) -> np.ndarray:
    """A decoded frame -> uint8[H, W, 3], upright."""
    picture = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    turns = round(frame.rotation / 90) % 4  # telephones store portrait as turned landscape
    return np.rot90(picture, turns).copy() if turns else picture


def is_cover(stream: Any) -> bool:
    """Cover art of a sound file is a video stream of one still: not a picture of the clip."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def check_size(stream: Any) -> None:
    """Raises ClipError for sizes that only a damaged header tells."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > _MAX_PIXELS:
        raise ClipError(
            f"the picture size {width}x{height} is beyond what a clip can have; the header is damaged"
        )


def cause_of(error: BaseException) -> str:
    """One line of what went wrong."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
