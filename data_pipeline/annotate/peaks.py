"""Where an expression is strongest: action units measured by OpenFace or py-feat, and the frame at which they are highest.

Frames are counted from 0 here and in everything that is written (as a video reader seeks); OpenFace's CSV counts from 1.
Source: Emotion-LLaMA's issue 12 and figure: intensities of the label's units are summed for each frame, the maximum is the peak.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv

from data_pipeline.annotate.units import units_of
from data_pipeline.media.clip import ClipError, Sampling, read_clip
from data_pipeline.media.stream import read_frames

_COLUMN = re.compile(r"^AU(\d{1,2})(_r|_c|)$", re.IGNORECASE)
LEAST_CONFIDENCE = 0.5  # of a face, below which a frame is not measured
# intensity from which a unit counts as present where the program does not say: of OpenFace's 0 to 5, of py-feat's 0 to 1
PRESENT = {"openface": 0.5, "py-feat": 0.5}
SCALES = {"openface": 5.0, "py-feat": 1.0}
LABEL_UNITS, ALL_UNITS, AT_REST, APEX = (
    "units of the label",
    "all units",
    "face at rest",
    "motion and energy apex",
)


class UnitsError(ValueError):
    """A file of action units that can not be read; str() names file and cause."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitTrack:
    """Units of one face over a clip.

    Attributes:
      source: `openface`, `py-feat`, or a provider's name.
      frames: int[F], from 0, rising.  times: float[F] s, or None.
      intensity: unit -> float[F], NaN where there is no face.  presence: unit -> bool[F], as the program says.
      scale: the highest intensity there can be.  present: intensity from which a unit counts where presence is not told.
      notes: what was irregular.
    """

    source: str
    frames: np.ndarray
    times: np.ndarray | None
    intensity: Mapping[int, np.ndarray]
    presence: Mapping[int, np.ndarray]
    scale: float = 5.0
    present: float = 0.5
    notes: tuple[str, ...] = ()

    def active(self, row: int) -> tuple[int, ...]:
        """Units that are present in one row, by their numbers."""
        told = {u for u, p in self.presence.items() if p[row]}
        has_face = {
            u
            for u, x in self.intensity.items()
            if u not in self.presence and np.nan_to_num(x[row]) >= self.present
        }
        return tuple(sorted(told | has_face))

    def within(self, start: float, end: float | None) -> UnitTrack | None:
        """The rows of a span in seconds, frames counted from its first one; None where there is none.

        Raises:
          UnitsError: the rows have no times.
        """
        if self.times is None or np.isnan(self.times).any():
            raise UnitsError("the action units have no times, so those of a span can not be told")
        keep = (self.times >= start - 1e-6) & (self.times < (np.inf if end is None else end))
        if not keep.any():
            return None
        frames = self.frames[keep]
        cut = lambda group: {u: x[keep] for u, x in group.items()}  # noqa: E731
        return dataclasses.replace(
            self, frames=frames - frames[0], times=self.times[keep], intensity=cut(self.intensity),
            presence=cut(self.presence),
        )  # fmt: skip

    @property
    def has_face(self) -> bool:
        """Whether there is a face in any frame."""
        return any(not np.isnan(x).all() for x in self.intensity.values()) or any(
            p.any() for p in self.presence.values()
        )

    def present_anywhere(self) -> tuple[int, ...]:
        """Units that are present in any row."""
        return tuple(sorted({u for row in range(len(self.frames)) for u in self.active(row)}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peak:
    """One frame.

    Attributes:
      index: frame number, from 0.  time: s, None where not known.
      by: LABEL_UNITS, ALL_UNITS, AT_REST or APEX.
      units: of those present at the peak, the label's (all of them without a label).  all_units: all that are present.
      intensities: unit -> intensity at the peak.
    """

    index: int
    time: float | None
    by: str
    units: tuple[int, ...] = ()
    all_units: tuple[int, ...] = ()
    intensities: Mapping[int, float] = dataclasses.field(default_factory=dict)


class UnitProvider(Protocol):
    """Measures action units of a clip, live or from files. `name` stands in every record."""

    @property
    def name(self) -> str: ...

    def __call__(self, path: str) -> UnitTrack | None:
        """None: nothing is known of this clip."""
        ...


def read_units(path: Path, *, eight: tuple[int, ...] = ()) -> UnitTrack:
    """A CSV of OpenFace 2 or 3, or of py-feat.

    Args:
      eight: FACS numbers of columns AU01 to AU08 where a file numbers its units one after the other, as OpenFace 3 may do.

    Raises:
      UnitsError: no such file, no columns of units, values that are no numbers, or eight columns in a row and no `eight`.
    """
    try:
        data = path.read_bytes()
        table = pa.csv.read_csv(io.BytesIO(data)) if data.strip() else None
    except OSError as error:
        raise UnitsError(f"{path}: {error.strerror}") from error
    except pa.ArrowInvalid as error:
        raise UnitsError(
            f"{path}: no table of comma-separated values ({' '.join(str(error).split())[:120]})"
        ) from error
    if table is None or not table.num_rows:
        raise UnitsError(f"{path}: there is no row in it")
    table = table.rename_columns(
        [name.strip() for name in table.column_names]
    )  # OpenFace 2 puts a blank before names
    if len(set(table.column_names)) < len(table.column_names):
        raise UnitsError(f"{path}: a column stands there twice")
    columns = {name: _COLUMN.match(name) for name in table.column_names}
    found = {name: (int(m.group(1)), m.group(2).lower()) for name, m in columns.items() if m}
    if not found:
        raise UnitsError(
            f"{path}: no column of an action unit (AU01_r as OpenFace has it, AU01 as py-feat)"
        )
    numbers = sorted({number for number, _ in found.values()})
    rename: dict[int, int] = {}
    if numbers == [1, 2, 3, 4, 5, 6, 7, 8]:  # no set of FACS units has 3 and 8
        if len(eight) != 8:
            raise UnitsError(
                f"{path}: columns AU01 to AU08 are numbered one after the other, which are no FACS numbers; say which units they are"
                " (--eight-units 1,2,4,6,9,12,25,26)"
            )
        rename = dict(zip(numbers, eight, strict=True))
    values = {name: _numbers(table, name, path) for name in found}
    source = "py-feat" if any(kind == "" for _, kind in found.values()) else "openface"
    keep, notes = _one_face(table, path)
    frames = (
        _numbers(table, "frame", path)[keep]
        if "frame" in table.column_names
        else np.arange(table.num_rows)[keep]
    )
    if np.isnan(frames).any():
        raise UnitsError(f"{path}: a row has no frame number")
    if source == "openface":
        frames = frames - 1
    order = np.argsort(frames, kind="stable")
    time = next((n for n in ("timestamp", "approx_time", "time") if n in table.column_names), None)
    times = _seconds(table, time)[keep][order] if time else None
    bad = _without_face(table, path)[keep][order]
    intensity = {}
    for name, (number, kind) in found.items():
        if kind != "_c":
            x = values[name][keep][order].copy()
            x[bad] = np.nan
            intensity[rename.get(number, number)] = x
    presence = {
        rename.get(number, number): (values[name][keep][order] > 0.5) & ~bad
        for name, (number, kind) in found.items()
        if kind == "_c"
    }
    if bad.all():
        notes.append("no face was found in any frame")
    return UnitTrack(
        source=source,
        frames=frames[order].astype(int),
        times=times,
        intensity=intensity,
        presence=presence,
        scale=SCALES[source],
        present=PRESENT[source],
        notes=tuple(notes),
    )


def _numbers(table: pa.Table, name: str, path: Path) -> np.ndarray:
    try:
        return table[name].cast(pa.float64()).to_numpy(zero_copy_only=False).astype(float)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UnitsError(f"{path}, column '{name}': not numbers throughout") from error


def _seconds(table: pa.Table, name: str) -> np.ndarray:
    try:
        return table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # py-feat's approx_time is `00:01`
        return np.full(table.num_rows, np.nan)


def _one_face(table: pa.Table, path: Path) -> tuple[np.ndarray, list[str]]:
    """Rows of the face that is there longest, the surest of several that are."""
    name = next((n for n in ("face_id", "Identity", "face") if n in table.column_names), None)
    if name is None:
        return np.ones(table.num_rows, bool), []
    faces = np.array(["" if x is None else str(x) for x in table[name].to_pylist()])
    names, count = np.unique(faces, return_counts=True)
    sure = _confidence(table, path)
    mean = [float(np.nanmean(sure[faces == n])) if sure is not None else 0.0 for n in names]
    best = max(range(len(names)), key=lambda i: (count[i], mean[i]))
    notes = (
        [f"{len(names)} faces: the one that is there longest was taken"] if len(names) > 1 else []
    )
    return faces == names[best], notes


def _confidence(table: pa.Table, path: Path) -> np.ndarray | None:
    name = next(
        (n for n in ("confidence", "FaceScore", "face_detection") if n in table.column_names), None
    )
    return None if name is None else _numbers(table, name, path)


def _without_face(table: pa.Table, path: Path) -> np.ndarray:
    bad = np.zeros(table.num_rows, bool)
    if "success" in table.column_names:
        bad |= _numbers(table, "success", path) < 0.5
    sure = _confidence(table, path)
    if sure is not None:
        bad |= np.isnan(sure) | (sure < LEAST_CONFIDENCE)
    return bad


def find_peak(
    track: UnitTrack, label: str | None, table: Mapping[str, tuple[int, ...]]
) -> Peak | None:
    """The frame at which the summed intensity of the label's units is highest; of all units without a label, or where none of
    the label's is ever present; of a face that never moves the middle one. None where nothing was measured. The first of several
    equal frames is taken.
    """
    usable = {
        u: x for u, x in track.intensity.items() if u not in (43, 45)
    }  # a blink is no expression
    if not usable or all(np.isnan(x).all() for x in usable.values()):
        return None
    own = units_of(label, table) if label else None
    ever = set(track.present_anywhere())
    chosen = [u for u in own or () if u in usable and u in ever]
    by = LABEL_UNITS if chosen else ALL_UNITS
    total = np.zeros(len(track.frames))
    for unit in chosen or usable:
        total += np.nan_to_num(usable[unit])
    row = int(total.argmax())
    if not total.any():
        seen = np.flatnonzero(~np.isnan(next(x for x in usable.values() if not np.isnan(x).all())))
        by, row = AT_REST, int(seen[len(seen) // 2])
    present = tuple(u for u in track.active(row) if u not in (43, 45))
    time = None if track.times is None or np.isnan(track.times[row]) else float(track.times[row])
    return Peak(
        index=int(track.frames[row]),
        time=time,
        by=by,
        units=present if own is None else tuple(u for u in present if u in own),
        all_units=present,
        intensities={u: round(float(np.nan_to_num(x[row])), 3) for u, x in usable.items()},
    )


def find_apex(path: str, *, start: float | None = None, end: float | None = None) -> Peak | None:
    """Without action units: the frame where movement and loudness together are highest (sum of their standard scores over a
    quarter of a second). None where there is no picture. Of a span (s) frames are counted from its first one.

    Raises:
      ClipError: the file can not be read.
    """
    notes: list[str] = []
    begin, stop = start or 0.0, math.inf if end is None else end
    until = itertools.takewhile(lambda p: p.time < stop, read_frames(path, 1.0, notes))
    seen = [(p.time, p.change) for p in until if p.time >= begin - 1e-6]
    if not seen:
        return None
    times, change = (np.array(x) for x in zip(*seen, strict=True))
    score = _standard(_even(change, times))
    wave = read_clip(path, sampling=Sampling(num_frames=1), start=start, end=end).waveform
    if wave is not None and len(wave):
        power = np.sqrt(np.convolve(np.square(wave), np.full(4000, 1 / 4000), "same"))
        score = score + _standard(np.interp(times - begin, np.arange(len(power)) / 16_000, power))
    best = int(score.argmax())
    return Peak(index=best, time=float(times[best]), by=APEX)


def _even(x: np.ndarray, times: np.ndarray) -> np.ndarray:
    step = max(1e-3, float(np.median(np.diff(times)))) if len(times) > 1 else 1.0
    width = max(1, round(0.25 / step))
    return np.convolve(x, np.full(width, 1 / width), "same")


def _standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / max(float(x.std()), 1e-9)


@dataclasses.dataclass(frozen=True)
class UnitFiles:
    """CSV files of a folder, found by the clip's stem (`NAME.csv`, `NAME_openface.csv` or `NAME_pyfeat.csv`), in folders as the
    clips' where there are such.
    """

    folder: Path
    eight: tuple[int, ...] = ()
    name: str = "files"

    def file(self, path: str) -> Path | None:
        """Where the units of a clip lie."""
        own = Path(path)
        above = (
            [own.parent.name, ""]
            if own.parent.parent == own.parent
            else [f"{own.parent.parent.name}/{own.parent.name}", own.parent.name, ""]
        )
        names = (
            self.folder / a / f"{own.stem}{e}.csv"
            for a in above
            for e in ("", "_openface", "_pyfeat")
        )
        return next((p for p in names if p.is_file()), None)

    def __call__(self, path: str) -> UnitTrack | None:
        """The track of a clip; raises UnitsError."""
        found = self.file(path)
        return read_units(found, eight=self.eight) if found else None


class PyFeat:
    """py-feat 2's detector, run live (`pip install emojax[units]`); it fetches its own weights. Never run here: see docs/annotate.md."""

    name = "py-feat"

    def __init__(self) -> None:
        try:
            from feat import Detector
        except ImportError as error:
            raise ValueError(
                f"py-feat is not installed: pip install 'emojax[units]' ({error})"
            ) from error
        self._detector = Detector()

    def __call__(self, path: str) -> UnitTrack | None:
        """Measures a clip; raises ClipError."""
        import tempfile

        try:
            found = self._detector.detect(path, data_type="video", progress_bar=False)
        except (RuntimeError, OSError) as error:
            raise ClipError(f"py-feat can not read it ({error})") from error
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "units.csv"
            found.to_csv(file, index=False)
            return read_units(file)


def provider_named(name: str, *, eight: tuple[int, ...] = ()) -> UnitProvider | None:
    """`none`, `py-feat`, or a folder of CSV files; raises ValueError."""
    if name in ("", "none"):
        return None
    if name == "py-feat":
        return PyFeat()
    if not Path(name).is_dir():
        raise ValueError(
            f"--units {name}: neither a folder of CSV files, nor 'py-feat', nor 'none'"
        )
    return UnitFiles(Path(name), eight)
