"""Reads predictions, truths and reference texts from the files of any system.

JSON Lines with the keys of Emotion-LLaMAv2 and ours, npz files of AffectGPT, CSV files of EMER
outputs. docs/evaluation.md lists every key.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.datasets.unpickle import load_object_npz
from emojax.evaluate.predictions import (
    ID_KEYS,
    NO_ROW,
    Prediction,
    PredictionError,
    parse_prediction,
)

_CLIP_COLUMNS = ("names", *ID_KEYS)
_RESPONSE_COLUMNS = (
    *("response", "chi_reasons", "reasons", "reason"),
    *("openset", "prediction", "discrete", "label"),
)
_LABEL_COLUMNS = ("answer", "openset", "discrete", "label", "emotions", "emotion")
_REFERENCE_COLUMNS = ("reference", "english", "reasons", "reason", "openset")
_REFERENCE_KEYS = ("reference", "reason", "answer")


def read_predictions(path: Path, *, truth: Mapping[str, str] | None = None) -> list[Prediction]:
    """Reads the predictions of one file, by its suffix: .jsonl (or .json), .npz, .csv.

    Args:
      path: the file.
      truth: label by clip, for files without truths; clips that it does not name are left out, and
        a clip without a prediction gets a row whose `error` is NO_ROW.

    Raises:
      PredictionError: there is no such file, its format is not supported, a row cannot be used, or
        a clip occurs twice.
    """
    if not path.is_file():
        raise PredictionError(f"there is no predictions file '{path}'")
    readers = {
        ".jsonl": _read_json_lines,
        ".json": _read_json_lines,
        ".npz": _read_npz,
        ".csv": _read_csv,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise PredictionError(
            f"{path}: predictions are read from .jsonl, .json, .npz and .csv files"
        )
    rows = reader(path)
    if truth is not None:
        rows = _with_truth(path, rows, truth)
    rows = _each_once(path, rows)
    if not rows:
        raise PredictionError(f"{path} contains no prediction")
    return rows


def _each_once(path: Path, rows: Sequence[Prediction]) -> list[Prediction]:
    """The rows, with a number after a clip of E3 that occurs again.

    E3 asks about several people per clip, and the official files do not name them; the official
    script scores row by row.
    """
    first_row: dict[tuple[str, ...], int] = {}
    seen: Counter[tuple[str, ...]] = Counter()
    out = []
    for number, row in enumerate(rows, 1):
        key = (row.set, row.mode, row.clip, row.speaker)
        seen[key] += 1
        if seen[key] > 1:
            if (row.set or path.stem) != "e3" or row.speaker:
                raise PredictionError(
                    f"{path}: clip '{row.clip}' occurs twice (rows {first_row[key]} and {number})"
                )
            out.append(dataclasses.replace(row, clip=f"{row.clip}#{seen[key]}"))
            continue
        first_row[key] = number
        out.append(row)
    return out


def _with_truth(
    path: Path, rows: Sequence[Prediction], truth: Mapping[str, str]
) -> list[Prediction]:
    for row in rows:
        if row.answer and row.clip in truth and row.answer.strip() != truth[row.clip].strip():
            raise PredictionError(
                f"{path}: clip '{row.clip}' has the answer '{row.answer}' here and "
                f"'{truth[row.clip]}' in the file of truths; leave out one of them"
            )
    known = [dataclasses.replace(r, answer=truth[r.clip]) for r in rows if r.clip in truth]
    if not known:
        raise PredictionError(f"{path} and the truth have no clip in common")
    predicted = {r.clip for r in known}
    absent = [clip for clip in truth if clip not in predicted]
    return known + [
        Prediction(clip=c, answer=truth[c], mode=known[0].mode, set=known[0].set, error=NO_ROW)
        for c in absent
    ]


def _read_json_lines(path: Path) -> list[Prediction]:
    text = _read_text(path)
    if text.lstrip().startswith("["):
        try:
            objects = list(enumerate(json.loads(text), 1))
        except ValueError as error:
            raise PredictionError(f"{path} is not valid JSON ({error})") from error
    else:
        objects = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    objects.append((number, json.loads(line)))
                except ValueError as error:
                    raise PredictionError(
                        f"{path}, line {number}: not valid JSON ({error})"
                    ) from error
    rows = []
    for number, fields in objects:
        try:
            rows.append(parse_prediction(fields, number=number))
        except ValueError as error:
            raise PredictionError(f"{path}, row {number}: {error}") from error
    return rows


def _read_npz(path: Path) -> list[Prediction]:
    """AffectGPT: `name2reason` (text by clip), or `filenames` and `fileitems` (labels by clip)."""
    arrays = _npz_arrays(path)
    if "name2reason" in arrays:
        array = arrays["name2reason"]
        texts = array.tolist() if hasattr(array, "tolist") else array
        if not isinstance(texts, dict):
            raise PredictionError(f"{path}: 'name2reason' is not a dictionary of texts")
        return [Prediction(clip=str(clip), response=str(text)) for clip, text in texts.items()]
    if {"filenames", "fileitems"} <= set(arrays):
        clips, items = (_to_list(arrays[k]) for k in ("filenames", "fileitems"))
        return [
            Prediction(
                clip=str(clip),
                response=item if isinstance(item, str) else ", ".join(map(str, item)),
            )
            for clip, item in zip(clips, items, strict=True)
        ]
    raise PredictionError(
        f"{path} contains {', '.join(sorted(arrays)) or 'nothing'}; expected 'name2reason', or "
        "'filenames' with 'fileitems'"
    )


def _to_list(array: Any) -> list[Any]:
    return array.tolist() if hasattr(array, "tolist") else list(array)


def _first_of(names: Sequence[str], header: Sequence[str]) -> str | None:
    return next((name for name in names if name in header), None)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PredictionError(f"{path} is not UTF-8 text (byte {error.start})") from error


def _npz_arrays(path: Path) -> dict[str, Any]:
    try:
        return load_object_npz(path)
    except ValueError as error:
        raise PredictionError(f"{path}: {error}") from error


def _csv_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise PredictionError(f"{path} is not a CSV file in UTF-8 ({error})") from error


def _read_csv(path: Path) -> list[Prediction]:
    """EMER outputs (`names`, `chi_reasons`, which is English) or any CSV with clip and response."""
    rows = _csv_rows(path)
    if not rows:
        raise PredictionError(f"{path} has no rows below its header")
    header = [*rows[0]]
    clip, response = _first_of(_CLIP_COLUMNS, header), _first_of(_RESPONSE_COLUMNS, header)
    if clip is None or response is None:
        raise PredictionError(
            f"{path} has the columns {header}; it needs one of {', '.join(_CLIP_COLUMNS)} and one "
            f"of {', '.join(_RESPONSE_COLUMNS)}"
        )
    return [
        Prediction(
            clip=row[clip] or "",
            answer=row.get("answer") or "",
            response=row[response] or "",
            mode=row.get("mode") or "",
        )
        for row in rows
    ]


def read_truth(path: Path) -> dict[str, str]:
    """Reads labels by clip.

    Args:
      path: an .npz of the official scorer (one array per clip), a .csv (a clip and one of answer,
        openset, discrete, label, emotions, emotion), or .jsonl rows with an answer.

    Raises:
      PredictionError: it is none of these, cannot be read, or labels one clip in two ways.
    """
    if not path.is_file():
        raise PredictionError(f"there is no truth file '{path}'")
    if path.suffix.lower() == ".npz":
        return {clip: str(value) for clip, value in _npz_arrays(path).items()}
    if path.suffix.lower() != ".csv":
        return {r.clip: r.answer for r in _read_json_lines(path)}
    rows = _csv_rows(path)
    header = [*rows[0]] if rows else []
    clip, label = _first_of(_CLIP_COLUMNS, header), _first_of(_LABEL_COLUMNS, header)
    if not clip or not label:
        raise PredictionError(f"{path} has the columns {header}; it needs a clip and a label")
    truth: dict[str, str] = {}
    for row in rows:
        if truth.setdefault(row[clip], row[label] or "") != (row[label] or ""):
            raise PredictionError(
                f"{path} labels clip '{row[clip]}' both '{truth[row[clip]]}' and '{row[label]}'"
            )
    return truth


def read_references(path: Path) -> dict[str, str]:
    """Reads reference texts by clip, for judges.

    Args:
      path: a .csv (a clip and one of reference, english, reasons, reason, openset), or .jsonl rows
        with `reference`, `reason` or `answer`.

    Raises:
      PredictionError: it is neither, or cannot be read.
    """
    if not path.is_file():
        raise PredictionError(f"there is no file of references '{path}'")
    if path.suffix.lower() == ".csv":
        rows = _csv_rows(path)
        header = [*rows[0]] if rows else []
        clip, text = _first_of(_CLIP_COLUMNS, header), _first_of(_REFERENCE_COLUMNS, header)
        if clip and text:
            return {row[clip]: row[text] for row in rows if row[text]}
        raise PredictionError(f"{path} has the columns {header}; it needs a clip and a reference")
    references: dict[str, str] = {}
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if line.strip():
            try:
                fields = json.loads(line)
                clip = next(str(fields[k]) for k in ID_KEYS if fields.get(k))
                references[clip] = next(str(fields[k]) for k in _REFERENCE_KEYS if fields.get(k))
            except (ValueError, AttributeError, StopIteration) as error:
                raise PredictionError(
                    f"{path}, line {number}: needs a clip and a `reference`"
                ) from error
    return references
