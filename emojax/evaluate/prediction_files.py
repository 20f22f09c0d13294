"""Reads predictions, truths and reference texts from the files of any system.

JSON Lines with the keys of Emotion-LLaMAv2 and ours or of `emojax predict --json`, npz files of
AffectGPT, CSV files of EMER outputs and of any other system (`prediction_columns`).
docs/evaluation.md lists every key.
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
from data_pipeline.io import refuse_device
from emojax.evaluate.prediction_columns import CLIP, TRUTH, column_names, rename
from emojax.evaluate.predictions import (
    ID_KEYS,
    NO_ROW,
    Prediction,
    PredictionError,
    is_predict_output,
    parse_prediction,
    predict_output_fields,
)

_LABEL_COLUMNS = (*TRUTH[:1], "openset", "discrete", *TRUTH[1:])
_CSV_FIELDS = ("mode", "speaker", "new_response", "language", "subtitle", "reason")
_REFERENCE_COLUMNS = ("reference", "english", "reasons", "reason", "openset")
_REFERENCE_KEYS = ("reference", "reason", "answer")


def read_predictions(
    path: Path,
    *,
    truth: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[Prediction]:
    """Reads the predictions of one file, by its suffix: .jsonl (or .json), .npz, .csv (or .tsv).

    Args:
      path: the file.
      truth: label by clip, for files without truths; clips that it does not name are left out, and
        a clip without a prediction gets a row whose `error` is NO_ROW.
      columns: {field: its column or key in the file}, where the names are not known.

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
        ".tsv": _read_csv,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise PredictionError(
            f"{path}: predictions are read from .jsonl, .json, .npz and .csv files"
        )
    rows = reader(path, columns or {})
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


def _by_common_name(
    rows: Sequence[Prediction], truth: Mapping[str, str]
) -> tuple[Sequence[Prediction], Mapping[str, str]]:
    """Rows and truth by file name, or by file name without suffix, if no clip is in both as it is.

    A name counts only where it is that of one row and of one clip of the truth.
    """
    if any(row.clip in truth for row in rows):
        return rows, truth
    for part in ("name", "stem"):
        named = {getattr(Path(clip), part): label for clip, label in truth.items()}
        clips = [getattr(Path(row.clip), part) for row in rows]
        if len(named) == len(truth) and len(set(clips)) == len(clips) and set(clips) & set(named):
            return [
                dataclasses.replace(row, clip=clip) for row, clip in zip(rows, clips, strict=True)
            ], named
    return rows, truth


def _with_truth(
    path: Path, rows: Sequence[Prediction], truth: Mapping[str, str]
) -> list[Prediction]:
    for row in rows:
        if row.answer and row.clip in truth and row.answer.strip() != truth[row.clip].strip():
            raise PredictionError(
                f"{path}: clip '{row.clip}' has the answer '{row.answer}' here and "
                f"'{truth[row.clip]}' in the file of truths; leave out one of them"
            )
    rows, truth = _by_common_name(rows, truth)
    known = [dataclasses.replace(r, answer=truth[r.clip]) for r in rows if r.clip in truth]
    if not known:
        raise PredictionError(f"{path} and the truth have no clip in common")
    predicted = {r.clip for r in known}
    absent = [clip for clip in truth if clip not in predicted]
    return known + [
        Prediction(clip=c, answer=truth[c], mode=known[0].mode, set=known[0].set, error=NO_ROW)
        for c in absent
    ]


def _read_json_lines(path: Path, columns: Mapping[str, str]) -> list[Prediction]:
    rows = []
    for number, fields in _json_objects(path):
        try:
            rows.append(parse_prediction(_own_names(fields, columns), number=number))
        except ValueError as error:
            raise PredictionError(f"{path}, row {number}: {error}") from error
    return rows


def _own_names(fields: Any, columns: Mapping[str, str]) -> Any:
    """A JSON object under the names of our fields; other values as they are."""
    if not isinstance(fields, dict):
        return fields
    if is_predict_output(fields):
        named = {field: fields[key] for field, key in columns.items() if key in fields}
        return predict_output_fields(fields) | named
    if not columns and ({"response", "answer"} <= set(fields) or "new_response" in fields):
        return fields
    return rename(fields, column_names([*fields], columns))


def _json_objects(path: Path) -> list[tuple[int, Any]]:
    """(number, value) of every row of a JSON Lines file or a JSON list, or of {clip: response}."""
    text = _read_text(path)
    start = text.lstrip()[:1]
    if start == "[" or (start == "{" and path.suffix.lower() == ".json"):
        try:
            value = json.loads(text)
        except ValueError as error:
            if start == "[":
                raise PredictionError(f"{path} is not valid JSON ({error})") from error
        else:
            if isinstance(value, dict) and not {"response", "new_response"} & set(value):
                value = _rows_of_object(value)
            return list(enumerate(value if isinstance(value, list) else [value], 1))
    objects = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                objects.append((number, json.loads(line)))
            except ValueError as error:
                raise PredictionError(f"{path}, line {number}: not valid JSON ({error})") from error
    return objects


def _rows_of_object(value: dict[str, Any]) -> Any:
    """The rows of an object that holds them in a list, or by clip."""
    lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    if len(lists) == 1:
        return lists[0]
    if value and all(isinstance(v, str) for v in value.values()):
        return [{"video_id": clip, "response": text} for clip, text in value.items()]
    if value and all(isinstance(v, dict) for v in value.values()):
        return [{"video_id": clip, **fields} for clip, fields in value.items()]
    return [value]


def _read_npz(path: Path, columns: Mapping[str, str]) -> list[Prediction]:  # noqa: ARG001
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
    """The column of the first of some names that a header has, whatever its case."""
    lower = {column.strip().lower(): column for column in header}
    return next((lower[name] for name in names if name in lower), None)


def _read_text(path: Path) -> str:
    try:
        return refuse_device(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PredictionError(f"{path} is not UTF-8 text (byte {error.start})") from error


def _npz_arrays(path: Path) -> dict[str, Any]:
    try:
        return load_object_npz(path)
    except ValueError as error:
        raise PredictionError(f"{path}: {error}") from error


def _csv_rows(path: Path) -> list[dict[str, str]]:
    """The rows below the header; columns are separated by a comma, a semicolon or a tab."""
    try:
        with refuse_device(path).open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            separator = max(",;\t", key=header.count)
            return list(csv.DictReader(file, delimiter=separator))
    except (UnicodeDecodeError, csv.Error) as error:
        raise PredictionError(f"{path} is not a CSV file in UTF-8 ({error})") from error


def _read_csv(path: Path, columns: Mapping[str, str]) -> list[Prediction]:
    """EMER outputs (`names`, `chi_reasons`, which is English) or any CSV with clip and response."""
    rows = _csv_rows(path)
    if not rows:
        raise PredictionError(f"{path} has no rows below its header")
    try:
        names = column_names([n for n in rows[0] if n], columns)
    except ValueError as error:
        raise PredictionError(f"{path} {error}") from error
    if "clip" not in names:
        raise PredictionError(
            f"{path} has the columns {', '.join(filter(None, rows[0]))}: none is known as the "
            "clip; name it with --columns clip=NAME"
        )
    kept = {"clip", "response", "answer", *columns, *_CSV_FIELDS}
    out = []
    for number, row in enumerate(rows, 1):
        fields = {k: v for k, v in rename(row, names).items() if k in kept}
        full = {k: v for k, v in fields.items() if v or k == "response"}
        try:
            out.append(parse_prediction({"response": "", **full}, number=number))
        except ValueError as error:
            raise PredictionError(f"{path}, row {number}: {error}") from error
    return out


def read_truth(path: Path, *, columns: Mapping[str, str] | None = None) -> dict[str, str]:
    """Reads labels by clip.

    Args:
      path: an .npz of the official scorer (one array per clip), a .csv (a clip and one of answer,
        openset, discrete, truth, label, emotion and other names), or .jsonl rows with an answer.
      columns: {`clip` or `answer`: its column}, where the names are not known; names that the file
        lacks are those of the predictions.

    Raises:
      PredictionError: it is none of these, cannot be read, or labels one clip in two ways.
    """
    if not path.is_file():
        raise PredictionError(f"there is no truth file '{path}'")
    if path.suffix.lower() == ".npz":
        return {clip: str(value) for clip, value in _npz_arrays(path).items()}
    if path.suffix.lower() not in (".csv", ".tsv"):
        return {r.clip: r.answer for r in _read_truth_lines(path, columns or {})}
    rows = _csv_rows(path)
    header = [n for n in rows[0] if n] if rows else []
    given = {field: name for field, name in (columns or {}).items() if name in header}
    clip = given.get("clip") or _first_of(CLIP, header)
    label = given.get("answer") or _first_of(_LABEL_COLUMNS, header)
    if not clip or not label:
        raise PredictionError(
            f"{path} has the columns {', '.join(header)}; it needs a clip and a label: rename "
            "them, or name them with --columns clip=NAME,answer=NAME"
        )
    truth: dict[str, str] = {}
    for row in rows:
        if truth.setdefault(row[clip], row[label] or "") != (row[label] or ""):
            raise PredictionError(
                f"{path} labels clip '{row[clip]}' both '{truth[row[clip]]}' and '{row[label]}'"
            )
    return truth


def _read_truth_lines(path: Path, columns: Mapping[str, str]) -> list[Prediction]:
    rows = []
    for number, fields in _json_objects(path):
        try:
            if not isinstance(fields, dict):
                raise PredictionError("needs a JSON object")
            lower = {k.lower(): k for k in fields}
            own = {k: n for k, n in columns.items() if k in ("clip", "answer") and n in fields}
            key = own.get("answer") or next((lower[k] for k in TRUTH if k in lower), "answer")
            clip = own.get("clip") or next((lower[k] for k in CLIP if k in lower), None)
            row = {"response": "", "answer": fields.get(key)}
            rows.append(
                parse_prediction(row | ({"clip": fields[clip]} if clip else {}), number=number)
            )
        except ValueError as error:
            raise PredictionError(f"{path}, row {number}: {error}") from error
    return rows


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
        clip, text = _first_of(CLIP, header), _first_of(_REFERENCE_COLUMNS, header)
        if clip and text:
            return {row[clip]: row[text] for row in rows if row[text]}
        raise PredictionError(
            f"{path} has the columns {', '.join(header)}; it needs a clip ({CLIP[0]}, {CLIP[1]}, "
            f"...) and a text ({', '.join(_REFERENCE_COLUMNS)}): rename them"
        )
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
