"""Action units over the frames of a clip, from CSV files of OpenFace or py-feat, or measured live.

Frames are counted from 0 here and in every output, as video readers do; OpenFace counts from 1.
"""

from __future__ import annotations

import dataclasses
import io
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from data_pipeline.io import refuse_device
from data_pipeline.media.container import ClipError

MIN_CONFIDENCE = 0.5  # of face detection; frames below it count as frames without a face
# Intensity from which a unit counts as present if the program reports no presence.
PRESENT = {"openface": 0.5, "py-feat": 0.5}
SCALES = {"openface": 5.0, "py-feat": 1.0}  # highest intensity of each program
_COLUMN = re.compile(r"^AU(\d{1,2})(_r|_c|)$", re.IGNORECASE)


class UnitsError(ValueError):
    """A file of action units cannot be read; the message names file and cause."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitTrack:
    """Action units of one face over a clip.

    Attributes:
      source: `openface`, `py-feat`, or the name of a provider.
      frames: int[F], frame numbers from 0, ascending.
      times: float[F] seconds, or None.
      intensity: unit -> float[F], NaN in frames without a face.
      presence: unit -> bool[F], as reported by the program.
      scale: the highest possible intensity.
      present: intensity from which a unit without reported presence counts as present.
      notes: irregularities of the file.
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
        """Returns the units that are present in one row, in ascending order."""
        reported = {u for u, p in self.presence.items() if p[row]}
        measured = {
            u
            for u, x in self.intensity.items()
            if u not in self.presence and np.nan_to_num(x[row]) >= self.present
        }
        return tuple(sorted(reported | measured))

    def within(self, start: float, end: float | None) -> UnitTrack | None:
        """Cuts a span out of the track; its frames are counted from its first one.

        Args:
          start: seconds.
          end: seconds (exclusive), None for the end of the clip.

        Returns:
          The span, None if it contains no frame.

        Raises:
          UnitsError: the rows have no times.
        """
        if self.times is None or np.isnan(self.times).any():
            raise UnitsError("the action units have no times, so a span cannot be cut out of them")
        keep = (self.times >= start - 1e-6) & (self.times < (np.inf if end is None else end))
        if not keep.any():
            return None
        frames = self.frames[keep]
        return dataclasses.replace(
            self,
            frames=frames - frames[0],
            times=self.times[keep],
            intensity={u: x[keep] for u, x in self.intensity.items()},
            presence={u: p[keep] for u, p in self.presence.items()},
        )

    @property
    def has_face(self) -> bool:
        """Whether any frame shows a face."""
        return any(not np.isnan(x).all() for x in self.intensity.values()) or any(
            p.any() for p in self.presence.values()
        )

    def present_anywhere(self) -> tuple[int, ...]:
        """Returns the units that are present in any row, in ascending order."""
        return tuple(sorted({u for row in range(len(self.frames)) for u in self.active(row)}))


class UnitProvider(Protocol):
    """Measures the action units of a clip, live or from files."""

    @property
    def name(self) -> str:
        """Identifies the provider in every record."""

    def __call__(self, path: str) -> UnitTrack | None:
        """Returns the action units of a clip, None if they are unknown."""


def read_units(path: Path, *, eight_units: tuple[int, ...] = ()) -> UnitTrack:
    """Reads a CSV file of OpenFace 2 or 3 (of a video or a picture), or of py-feat.

    Blank cells are measurements that do not exist.

    Args:
      path: the file.
      eight_units: FACS numbers of the columns AU01 to AU08, for files that number their units
        consecutively, as OpenFace 3 may do.

    Returns:
      The track of the face that is visible longest, of several the one detected most confidently.

    Raises:
      UnitsError: the file is missing, has no columns of action units or holds values that are not
        numbers; or the columns are numbered consecutively and `eight_units` is not given.
    """
    table = _read_table(path)
    columns = {name: _COLUMN.match(name) for name in table.column_names}
    # Column -> (FACS number, kind): `_r` intensity, `_c` presence, "" py-feat's intensity.
    unit_columns = {name: (int(m[1]), m[2].lower()) for name, m in columns.items() if m}
    if not unit_columns:
        raise UnitsError(
            f"{path}: no column of an action unit (AU01_r in OpenFace's files, AU01 in py-feat's)"
        )
    facs = _facs_numbers(sorted({n for n, _ in unit_columns.values()}), eight_units, path)
    values = {name: _numbers(table, name, path) for name in unit_columns}
    source = "py-feat" if any(kind == "" for _, kind in unit_columns.values()) else "openface"
    keep, notes = _one_face(table, path)
    if "frame" in table.column_names:
        frames = _numbers(table, "frame", path)
        blank = np.isnan(frames) & np.isnan(np.stack([*values.values()])).all(axis=0)
        keep = keep & ~blank
        frames = frames[keep] - (source == "openface")
    else:  # of a picture, by OpenFace's FaceLandmarkImg: a row is a face
        frames = np.arange(keep.sum(), dtype=float)
    if np.isnan(frames).any():
        raise UnitsError(f"{path}: a row has no frame number")
    order = np.argsort(frames, kind="stable")
    time = next((n for n in ("timestamp", "approx_time", "time") if n in table.column_names), None)
    no_face = _without_face(table, path)[keep][order]
    intensity, presence = {}, {}
    for name, (number, kind) in unit_columns.items():
        column = values[name][keep][order]
        if kind == "_c":
            presence[facs[number]] = (column > 0.5) & ~no_face
        else:
            intensity[facs[number]] = np.where(no_face, np.nan, column)
    if no_face.all():
        notes.append("no face was found in any frame")
    return UnitTrack(
        source=source,
        frames=frames[order].astype(int),
        times=_seconds(table, time)[keep][order] if time else None,
        intensity=intensity,
        presence=presence,
        scale=SCALES[source],
        present=PRESENT[source],
        notes=tuple(notes),
    )


def _read_table(path: Path) -> pa.Table:
    try:
        data = refuse_device(path).read_bytes()
        table = pa.csv.read_csv(io.BytesIO(data)) if data.strip() else None
    except OSError as error:
        raise UnitsError(f"{path}: {error.strerror}") from error
    except pa.ArrowInvalid as error:
        cause = " ".join(str(error).split())[:120]
        raise UnitsError(f"{path}: not a table of comma-separated values ({cause})") from error
    if table is None or not table.num_rows:
        raise UnitsError(f"{path}: the file has no rows")
    # OpenFace 2 writes a blank before names.
    table = table.rename_columns([name.strip() for name in table.column_names])
    if len(set(table.column_names)) < len(table.column_names):
        raise UnitsError(f"{path}: a column name occurs twice")
    return table


def _facs_numbers(
    numbers: list[int], eight_units: tuple[int, ...], path: Path
) -> Mapping[int, int]:
    """Returns the FACS number of each column's number."""
    if numbers != [1, 2, 3, 4, 5, 6, 7, 8]:  # no set of FACS units contains 3 and 8
        return {n: n for n in numbers}
    if len(eight_units) != 8:
        raise UnitsError(
            f"{path}: columns AU01 to AU08 are numbered consecutively, which are no FACS numbers; "
            "specify which units they are (--eight-units 1,2,4,6,9,12,25,26)"
        )
    return dict(zip(numbers, eight_units, strict=True))


def _numbers(table: pa.Table, name: str, path: Path) -> np.ndarray:
    column = table[name]
    if pa.types.is_string(column.type):  # some cells are blanks, or `-nan(ind)` as on Windows
        column = pc.utf8_trim_whitespace(column)
        missing = pc.match_substring_regex(column, r"(?i)^(-?nan(\(.*\))?|none|null|n/?a|)$")
        column = pc.if_else(missing, pa.scalar(None, pa.string()), column)
    try:
        column = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UnitsError(f"{path}, column '{name}': not all values are numbers") from error
    return np.asarray(column, float)


def _seconds(table: pa.Table, name: str) -> np.ndarray:
    try:
        return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # py-feat's approx_time is `00:01`
        return np.full(table.num_rows, np.nan)


def _one_face(table: pa.Table, path: Path) -> tuple[np.ndarray, list[str]]:
    """Selects the face that is visible longest, of several the one detected most confidently.

    Returns:
      (bool[rows], notes).
    """
    name = next((n for n in ("face_id", "Identity", "face") if n in table.column_names), None)
    if name is None:
        return np.ones(table.num_rows, bool), []
    faces = np.array(["" if x is None else str(x) for x in table[name].to_pylist()])
    names, count = np.unique(faces, return_counts=True)
    confidence = _confidence(table, path)
    mean = np.zeros(len(names))
    if confidence is not None:
        mean = np.array([np.nan_to_num(confidence[faces == n]).mean() for n in names])
    best = max(range(len(names)), key=lambda i: (count[i], mean[i]))
    which = "detected most confidently" if count.max() == 1 else "visible longest"
    notes = [f"{len(names)} faces: the one that is {which} is used"] if len(names) > 1 else []
    return faces == names[best], notes


def _confidence(table: pa.Table, path: Path) -> np.ndarray | None:
    names = ("confidence", "FaceScore", "face_detection")
    name = next((n for n in names if n in table.column_names), None)
    return None if name is None else _numbers(table, name, path)


def _without_face(table: pa.Table, path: Path) -> np.ndarray:
    """Returns bool[rows]: the rows whose measurements do not count."""
    out = np.zeros(table.num_rows, bool)
    if "success" in table.column_names:
        out |= ~(_numbers(table, "success", path) >= 0.5)  # a blank cell is no success
    confidence = _confidence(table, path)
    if confidence is not None:
        out |= np.isnan(confidence) | (confidence < MIN_CONFIDENCE)
    return out


@dataclasses.dataclass(frozen=True)
class UnitFiles:
    """A folder of CSV files named after the clips.

    Attributes:
      folder: holds `NAME.csv`, `NAME_openface.csv` or `NAME_pyfeat.csv` for a clip NAME, in
        subfolders named like the clips' where there are any.
      eight_units: see `read_units`.
      name: see `UnitProvider`.
    """

    folder: Path
    eight_units: tuple[int, ...] = ()
    name: str = "files"

    def file(self, path: str) -> Path | None:
        """Returns the file of a clip, None if there is none."""
        clip = Path(path)
        parents = [clip.parent.name, ""]
        if clip.parent.parent != clip.parent:
            parents.insert(0, f"{clip.parent.parent.name}/{clip.parent.name}")
        candidates = (
            self.folder / parent / f"{clip.stem}{suffix}.csv"
            for parent in parents
            for suffix in ("", "_openface", "_pyfeat")
        )
        return next((p for p in candidates if p.is_file()), None)

    def __call__(self, path: str) -> UnitTrack | None:
        """Reads the file of a clip, None if there is none.

        Raises:
          UnitsError: the file cannot be read.
        """
        file = self.file(path)
        return read_units(file, eight_units=self.eight_units) if file else None


class PyFeat:
    """Live measurement by py-feat 2 (`pip install -e '.[units]'`), which downloads its weights.

    Not run in development, see docs/annotate.md.
    """

    name = "py-feat"

    def __init__(self) -> None:
        """Loads the detector.

        Raises:
          ValueError: py-feat is not installed.
        """
        try:
            from feat import Detector
        except ImportError as error:
            raise ValueError(
                f"py-feat is not installed: pip install -e '.[units]' ({error})"
            ) from error
        self._detector = Detector()

    def __call__(self, path: str) -> UnitTrack | None:
        """Measures a clip.

        Raises:
          ClipError: py-feat cannot read the clip.
        """
        try:
            faces = self._detector.detect(path, data_type="video", progress_bar=False)
        except (RuntimeError, OSError) as error:
            raise ClipError(f"py-feat cannot read it ({error})") from error
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "units.csv"
            faces.to_csv(file, index=False)
            return read_units(file)


def provider_named(name: str, *, eight_units: tuple[int, ...] = ()) -> UnitProvider | None:
    """Opens a provider of action units.

    Args:
      name: `none`, `py-feat`, or a folder of CSV files.
      eight_units: see `read_units`.

    Raises:
      ValueError: there is no such folder, or py-feat is not installed.
    """
    if name in ("", "none"):
        return None
    if name == "py-feat":
        return PyFeat()
    if not Path(name).is_dir():
        raise ValueError(
            f"--units {name}: neither a folder of CSV files, nor 'py-feat', nor 'none'"
        )
    return UnitFiles(Path(name), eight_units)
