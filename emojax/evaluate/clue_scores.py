"""Precision and recall of the clues that reasons name, and the modality ablations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.annotate.claims import claim_scores
from data_pipeline.datasets.registry import read_root
from data_pipeline.embedded.clues import find_clues
from data_pipeline.schema import MODALITIES, ClipRecord, holds_records, read_records

# Modality ablations: name -> modalities that the model may use (`video` includes the face).
ABLATIONS: dict[str, tuple[str, ...]] = {
    "fused": MODALITIES,
    **{f"without_{m}": tuple(o for o in MODALITIES if o != m) for m in MODALITIES},
    **{f"only_{m}": (m,) for m in MODALITIES},
}


def clue_scores(
    named: Sequence[Mapping[str, Sequence[str]]], true: Sequence[Mapping[str, Sequence[str]]]
) -> dict[str, Any]:
    """Precision and recall of named clues, over all clips and modalities.

    Args:
      named: for each clip, the clue phrases that its reason names, by modality.
      true: for each clip, its true clue phrases, by modality.

    Returns:
      precision, recall, named and true (numbers of phrases), and absent_named (the number of clips
      whose reason names evidence of a modality without clues).
    """
    hits = named_total = true_total = absent = 0
    for named_by, true_by in zip(named, true, strict=True):
        names_absent = False
        for modality in MODALITIES:
            a, b = set(named_by.get(modality, ())), set(true_by.get(modality, ()))
            hits += len(a & b)
            named_total += len(a)
            true_total += len(b)
            names_absent |= bool(a) and not b
        absent += names_absent
    return {
        "precision": hits / named_total if named_total else 0.0,
        "recall": hits / true_total if true_total else 0.0,
        "named": named_total,
        "true": true_total,
        "absent_named": absent,
    }


def read_evidence(path: Path) -> dict[str, ClipRecord]:
    """Reads records to check claims against.

    Args:
      path: a records.jsonl of the unified schema, or a folder with MERR.

    Returns:
      {clip: record}.

    Raises:
      ValueError: it is neither.
    """
    if not path.exists():
        raise ValueError(f"--references {path}: there is no such file or folder")
    if holds_records(path):
        return {r.id: r for r in read_records(path)}
    datasets, _ = read_root(
        path if path.is_dir() else path.parent, names=["merr_fine", "merr_coarse"], lenient=True
    )
    records = {r.id: r for d in datasets for r in d.records if "action_units" in r.texts}
    if not records:
        raise ValueError(
            f"--references {path} has no action units to check clues against: give the "
            "records.jsonl of `emojax data build` or `emojax annotate`, or the folder of MERR. "
            "Tables of reference texts are for the tasks that ask a judge"
        )
    return records


def check_clues(pairs: Sequence[tuple[str, ClipRecord]]) -> dict[str, Any]:
    """Precision and recall of the claims of texts, without a judge.

    Args:
      pairs: (text, record of its clip). If all clips are embedded ones, their own clue phrases
        are compared; otherwise claims are checked by `data_pipeline.annotate.claims`.

    Returns:
      precision, recall, claims, unknown and by_modality; checked_by names the method.
    """
    texts, records = [t for t, _ in pairs], [r for _, r in pairs]
    if not all(r.truth is not None and "clues" in r.truth for r in records):
        return {"checked_by": "action units, tone and words", **claim_scores(texts, records)}
    named = [find_clues(t) for t in texts]
    true = [(r.truth or {})["clues"] for r in records]
    total = clue_scores(named, true)
    by_modality = {
        m: clue_scores([{m: n.get(m, ())} for n in named], [{m: t.get(m, ())} for t in true])
        for m in MODALITIES
    }
    return {
        "checked_by": "what the clips were drawn to show",
        **_claim_counts(total),
        "absent_named": total["absent_named"],
        "by_modality": {m: _claim_counts(s) for m, s in by_modality.items()},
    }


def _claim_counts(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "precision": scores["precision"],
        "recall": scores["recall"],
        "claims": scores["named"],
        "unknown": 0,
    }
