"""What modalities carry, and how true the clues are that reasons name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn import metrics

from data_pipeline.annotate.claims import claim_scores
from data_pipeline.datasets.registry import read_root
from data_pipeline.embedded.clues import find_clues
from data_pipeline.schema import MODALITIES, ClipRecord, read_records

# Modality ablations: name -> what may be used. `video` is everything that is seen.
ABLATIONS: dict[str, tuple[str, ...]] = {
    "fused": MODALITIES,
    **{f"without_{m}": tuple(o for o in MODALITIES if o != m) for m in MODALITIES},
    **{f"only_{m}": (m,) for m in MODALITIES},
}


def uar(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Unweighted average recall over the classes that occur in the truth."""
    classes = sorted(set(truth))
    return float(
        metrics.recall_score(truth, predicted, labels=classes, average="macro", zero_division=0)
    )


def clue_scores(
    named: Sequence[dict[str, Sequence[str]]], true: Sequence[dict[str, Sequence[str]]]
) -> dict[str, Any]:
    """How true the clues are that reasons name, over all clips and modalities.

    Args:
      named, true: for each clip, clue phrases by modality.

    Returns:
      precision, recall, and absent_named: how many clips name evidence of a modality that is not there.
    """
    hits = said = there = absent = 0
    for names, truths in zip(named, true, strict=True):
        lost = False
        for modality in MODALITIES:
            a, b = set(names.get(modality, ())), set(truths.get(modality, ()))
            hits, said, there = hits + len(a & b), said + len(a), there + len(b)
            lost |= bool(a) and not b
        absent += lost
    return {
        "precision": hits / said if said else 0.0,
        "recall": hits / there if there else 0.0,
        "named": said,
        "true": there,
        "absent_named": absent,
    }


def read_evidence(path: Path) -> dict[str, ClipRecord]:
    """Records to check claims against, by clip: a records.jsonl of the unified schema, or a folder that holds MERR.

    Raises:
      ValueError: it is neither.
    """
    if path.suffix == ".jsonl":
        return {r.id: r for r in read_records(path)}
    found, _ = read_root(
        path if path.is_dir() else path.parent, names=["merr_fine", "merr_coarse"], lenient=True
    )
    records = {r.id: r for f in found for r in f.records if "action_units" in r.texts}
    if not records:
        raise ValueError(
            f"{path} holds no records to check claims against: give records.jsonl, or the folder of MERR"
        )
    return records


def checked_clues(pairs: Sequence[tuple[str, ClipRecord]]) -> dict[str, Any]:
    """Precision and recall of the claims of texts: of embedded clips by their own phrases, else see claims.py.

    Returns:
      precision, recall, claims, unknown, by_modality; `checked_by` says which.
    """
    texts, records = [t for t, _ in pairs], [r for _, r in pairs]
    if not all(r.truth is not None and "clues" in r.truth for r in records):
        return {"checked_by": "action units, tone and words", **claim_scores(texts, records)}
    named: list[dict[str, Sequence[str]]] = [{**find_clues(t)} for t in texts]
    true = [(r.truth or {})["clues"] for r in records]
    whole = clue_scores(named, true)
    by = {
        m: clue_scores([{m: n.get(m, ())} for n in named], [{m: t.get(m, ())} for t in true])
        for m in MODALITIES
    }
    shown = lambda s: {
        "precision": s["precision"],
        "recall": s["recall"],
        "claims": s["named"],
        "unknown": 0,
    }
    return {
        "checked_by": "what the clips were drawn to show",
        **shown(whole),
        "absent_named": whole["absent_named"],
        "by_modality": {m: shown(s) for m, s in by.items()},
    }
