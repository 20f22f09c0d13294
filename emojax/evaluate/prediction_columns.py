"""Which column of a predictions file holds the clip, the response and the truth.

A column of truths is never read as the response. If none or several columns have a known name of
a response, the file is refused; the message lists the known names. `--columns` names any column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline.suggestions import did_you_mean, no_such
from emojax.evaluate.predictions import ID_KEYS, PredictionError

CLIP = (
    *("names", *ID_KEYS, "clip_id", "clip_name", "videoid", "video_name", "video_file", "vid"),
    *("file", "file_name", "filename", "filepath", "file_path", "video_path", "path", "video"),
    *("sample", "sample_id", "utterance_id", "utt_id", "segment_id", "uid", "key", "index"),
)
RESPONSE = (
    *("response", "prediction", "predictions", "predicted", "predict", "pred", "preds", "y_pred"),
    *("ypred", "pred_label", "predicted_label", "label_pred", "predicted_emotion", "pred_emotion"),
    *("emotion_pred", "pred_class", "predicted_class", "model_answer", "model_response", "output"),
    *("model_output", "model_prediction", "generated", "generated_text", "generation", "hyp"),
    *("hypothesis", "system_output", "pred_answer", "predicted_answer", "llm_output", "model_pred"),
)
TRUTH = (
    *("answer", "truth", "gt", "ground_truth", "groundtruth", "gold", "gold_label", "y_true"),
    *("ytrue", "true_label", "true", "label_true", "actual", "target", "gt_label", "gt_answer"),
    *("correct_answer", "true_emotion", "gt_emotion", "ref", "expected", "label", "labels"),
    *("emotions", "emotion", "emotion_label", "class", "sentiment"),
)
# texts of EMER and AffectGPT: responses where the file has no other column that could be one
_TEXTS = ("chi_reasons", "reasons", "reason", "openset")
OTHERS = (
    *("mode", "set", "speaker", "new_response", "language", "subtitle", "duration", "split"),
    *("start", "end", "modalities", "probabilities", "error", "valence", "valence_answer"),
    *("confidence", "score", "text", "transcript", "sentence", "question", "prompt", "dataset"),
)
# what `--columns` can name
FIELDS = (
    *("clip", "response", "answer", "mode", "set", "new_response", "speaker", "video", "language"),
    *("path", "subtitle", "reason", "duration", "start", "end", "valence", "valence_answer"),
)


def column_names(header: Sequence[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """{field: column of the file} for clip, response, answer and every field that is named.

    Args:
      header: the names of the file's columns.
      given: {one of FIELDS: column}; it overrides the known names.

    Raises:
      PredictionError: a column that is named is missing, or none or several are known as the
        response.
    """
    plain = {re.sub(r"\W+", "_", name.strip().lower()).strip("_"): name for name in header if name}
    found: dict[str, str] = {}
    for field, column in (given or {}).items():
        if field not in FIELDS:
            raise PredictionError(f"--columns: {no_such('field of predictions', field, FIELDS)}")
        own = next((n for n in header if n and n.strip().lower() == column.strip().lower()), None)
        if own is None:
            near = did_you_mean(column, filter(None, header))
            raise PredictionError(f"there is no column '{column}' among {', '.join(header)}{near}")
        found[field] = own
    left = {key: name for key, name in plain.items() if name not in found.values()}
    responses = [key for key in RESPONSE if key in left]
    if "response" not in found and len(responses) > 1:
        raise PredictionError(_several(header, [left[key] for key in responses]))
    for field, known in (("response", RESPONSE), ("clip", CLIP), ("answer", TRUTH)):
        key = next((k for k in known if k in left), None)
        if field not in found and key:
            found[field] = left.pop(key)
    if "response" not in found:
        _take_text(left, found)
    if "response" not in found:
        raise PredictionError(_unknown(header, found, left))
    return found


def _take_text(left: dict[str, str], found: dict[str, str]) -> None:
    """Takes a column of texts as the response if nothing else could be one."""
    open_ = [k for k in left if k not in (*_TEXTS, *OTHERS, *CLIP)]
    key = next((k for k in _TEXTS if k in left), None)
    if key and not open_:
        found["response"] = left.pop(key)


def _several(header: Sequence[str], responses: Sequence[str]) -> str:
    listed = ", ".join(name for name in header if name)
    return (
        f"has the columns {listed}: {' and '.join(responses)} may each hold the response; name the "
        f"one to score with --columns response={responses[-1]}"
    )


def _unknown(header: Sequence[str], found: Mapping[str, str], left: Mapping[str, str]) -> str:
    listed = ", ".join(name for name in header if name)
    truth = found.get("answer")
    known = (*_TEXTS, *OTHERS, *CLIP)
    guess = next((name for key, name in left.items() if key not in known), "NAME")
    parts = [("clip", found.get("clip", "NAME")), ("response", guess), ("answer", truth)]
    option = ",".join(f"{field}={name}" for field, name in parts if name)
    reason = (
        f"'{truth}' may hold the truth, so it is not read as the response"
        if truth
        else "none is known as the response"
    )
    return (
        f"has the columns {listed}: {reason}. Known names are {', '.join(RESPONSE[:8])}, ...; name "
        f"the columns with --columns {option}"
    )


def rename(fields: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """A row of a file under the names of our fields; columns without one keep theirs."""
    taken = {column for field, column in columns.items() if field != "clip"}
    rest = {k: v for k, v in fields.items() if k not in taken and k not in columns}
    return rest | {field: fields[column] for field, column in columns.items() if column in fields}
