"""The peak frame of a clip: where the expression is strongest.

Source: Emotion-LLaMA's issue 12 and figure. The intensities of the label's action units are summed
per frame; the maximum is the peak.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from data_pipeline.annotate.unit_tracks import UnitTrack
from data_pipeline.annotate.units import Table, units_of
from data_pipeline.media.clip import SAMPLE_RATE, Sampling, read_clip
from data_pipeline.media.file_times import TOLERANCE
from data_pipeline.media.stream import open_recording, read_frames

# How a peak was found.
LABEL_UNITS = "units of the label"
ALL_UNITS = "all units"
AT_REST = "face at rest"
APEX = "motion and energy apex"
_BLINKS = (43, 45)  # are not expressions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peak:
    """The peak frame of a clip.

    Attributes:
      index: frame number, from 0.
      time: seconds from the file's first shown frame, None if unknown.
      by: LABEL_UNITS, ALL_UNITS, AT_REST or APEX.
      units: the label's units that are present at the peak; without a label, all present ones.
      all_units: all units that are present at the peak.
      intensities: unit -> intensity at the peak.
    """

    index: int
    time: float | None
    by: str
    units: tuple[int, ...] = ()
    all_units: tuple[int, ...] = ()
    intensities: Mapping[int, float] = dataclasses.field(default_factory=dict)


def find_peak(track: UnitTrack, label: str | None, table: Table) -> Peak | None:
    """Finds the frame with the highest summed intensity of the label's action units.

    All units are summed if there is no label or none of its units is ever present. Of a face that
    never moves the middle frame is used. Ties go to the first frame.

    Args:
      track: the clip's action units.
      label: the emotion, None if unknown.
      table: action units of each label.

    Returns:
      The peak, None if nothing was measured.
    """
    usable = {u: x for u, x in track.intensity.items() if u not in _BLINKS}
    if not usable or all(np.isnan(x).all() for x in usable.values()):
        return None
    label_units = units_of(label, table) if label else None
    anywhere = set(track.present_anywhere())
    chosen = [u for u in label_units or () if u in usable and u in anywhere]
    by = LABEL_UNITS if chosen else ALL_UNITS
    total = np.zeros(len(track.frames))
    for unit in chosen or usable:
        total += np.nan_to_num(usable[unit])
    row = int(total.argmax())
    if not total.any():
        with_face = ~np.isnan(next(x for x in usable.values() if not np.isnan(x).all()))
        rows = np.flatnonzero(with_face)
        by, row = AT_REST, int(rows[len(rows) // 2])
    present = tuple(u for u in track.active(row) if u not in _BLINKS)
    time = None if track.times is None or np.isnan(track.times[row]) else float(track.times[row])
    return Peak(
        index=int(track.frames[row]),
        time=time,
        by=by,
        units=present if label_units is None else tuple(u for u in present if u in label_units),
        all_units=present,
        intensities={u: round(float(np.nan_to_num(x[row])), 3) for u, x in usable.items()},
    )


def find_apex(path: str, *, start: float | None = None, end: float | None = None) -> Peak | None:
    """Finds the peak without action units: where motion and loudness together are highest.

    Both are smoothed over a quarter of a second and standardized, then added.

    Args:
      path: the media file.
      start: seconds, where a span begins; frames are counted from its first one.
      end: seconds, its end; both from the file's first shown frame, as `Peak.time`.

    Returns:
      The peak, None without a picture.

    Raises:
      ClipError: the file cannot be read.
    """
    first = start or 0.0
    recording = open_recording(path)
    shown = recording.times.shown(start, end)
    if not len(shown):
        return None
    decoded = itertools.takewhile(
        lambda p: p.time <= shown[-1] + TOLERANCE,
        read_frames(path, [], times=recording.times, keep=False),
    )
    motion = [(p.time, p.change) for p in decoded if p.time >= shown[0] - TOLERANCE]
    if not motion:
        return None
    times, change = (np.array(x) for x in zip(*motion, strict=True))
    score = _standardize(_smooth(change, times))
    wave = read_clip(path, sampling=Sampling(num_frames=1), start=first, end=end).waveform
    if wave is not None and len(wave):
        window = SAMPLE_RATE // 4
        rms = np.sqrt(np.convolve(np.square(wave), np.full(window, 1 / window), "same"))
        loudness = np.interp(times - first, np.arange(len(rms)) / SAMPLE_RATE, rms)
        score = score + _standardize(loudness)
    best = int(score.argmax())
    return Peak(index=best, time=float(times[best]), by=APEX)


def _smooth(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Averages over a quarter of a second."""
    step = max(1e-3, float(np.median(np.diff(times)))) if len(times) > 1 else 1.0
    width = max(1, round(0.25 / step))
    return np.convolve(values, np.full(width, 1 / width), "same")


def _standardize(x: np.ndarray) -> np.ndarray:
    return np.asarray((x - x.mean()) / max(float(x.std()), 1e-9))
