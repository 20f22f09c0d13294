"""Writes an annotated set: MERR's JSON, MMEVerse's CSV, our records and examples, a data card."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.annotate import units
from data_pipeline.annotate.annotation import Annotation
from data_pipeline.annotate.data_card import Outcome, card, summarize
from data_pipeline.datasets.manifest import HOLD_OUT
from data_pipeline.datasets.mmeverse import PERCEPTION
from data_pipeline.io import write_bytes
from data_pipeline.loader.tasks import StageTasks, answer_text, draw_example
from data_pipeline.schema import ClipRecord

# Agent -> key of ClipRecord.texts.
AGENT_TEXTS = {"visual": "image", "audio": "audio", "audio_2": "audio_2"}
_AGENTS = {text: agent for agent, text in AGENT_TEXTS.items()}
# Agent -> MMEVerse's column, named after the models that MMEVerse used.
COLUMNS = {_AGENTS[text]: column for text, (column, _) in PERCEPTION.items()}
REASON_COLUMN = "gpt-4o-mini_Emotion"
_PERCEPTION = ("emotion", "audio", "image")
_COGNITION = ("reason_v2", "think")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """How a set is named in its files.

    Attributes:
      name: of the set, part of file names.
      text: column of the transcript in MMEVerse's files, which differs between its sets.
      label: column of the label in MMEVerse's files, which differs between its sets.
      licence: of clips and annotations, as stated by the user.
    """

    name: str
    text: str = "text"
    label: str = "emotion_label"
    licence: str = ""


def record_of(annotation: Annotation, *, short: bool = False) -> ClipRecord:
    """Converts an annotation to a training record.

    Args:
      annotation: of one clip.
      short: whether to use the reason's short form if there is one, as MERR's fine part does.
    """
    a, reasoning = annotation, annotation.notes.get("reasoning", {})
    texts = {
        key: a.notes[agent]["description"]
        for agent, key in AGENT_TEXTS.items()
        if "description" in a.notes.get(agent, {})
    }
    if words := reasoning.get("words"):
        texts["text"] = words
    if reason := reasoning.get("short" if short else "reason") or a.reason:
        texts["reason"] = reason
    if a.ever is not None:
        texts["action_units"] = ", ".join(units.unit_code(u) for u in a.units)
        texts["peak_action_units"] = ", ".join(units.unit_code(u) for u in a.peak_units)
    provenance = {AGENT_TEXTS[n]: model for n, model in a.authors.items() if n in AGENT_TEXTS}
    provenance["reason"] = a.authors.get("reasoning", "template")
    label_from = {"given": "given", "votes": "action units"}
    provenance["emotion"] = label_from.get(a.label_from, a.authors.get("reasoning", ""))
    if a.words:
        provenance["subtitle"] = a.words_from
    return ClipRecord(
        id=a.clip,
        dataset=a.dataset or "annotated",
        split=_record_split(a),
        path=a.path,
        label=a.label,
        labels=a.labels or ((a.label,) if a.label else ()),
        subtitle=a.words,
        speaker=a.speaker,
        start=a.start,
        end=a.end,
        peak_index=a.peak_index,
        texts=texts,
        provenance=provenance,
    )


def write_all(
    out: Path, settings: OutputSettings, outcome: Outcome, facts: Mapping[str, Any]
) -> list[Path]:
    """Writes every output, each atomically.

    Args:
      out: the folder.
      settings: names of set and columns.
      outcome: of the run.
      facts: endpoints and settings, for summary and card.

    Returns:
      Paths of the files.
    """
    summary = summarize(
        settings.name, outcome, licence=settings.licence, split=_csv_split, facts=facts
    )
    files = {
        **_our_files(outcome),
        **_mmeverse_files(settings, outcome.kept),
        **_merr_files(outcome.kept),
        "summary.json": _json(summary),
        "card.md": card(summary).encode(),
    }
    for name, data in files.items():
        write_bytes(out / name, data)
    return [out / name for name in files]


def _our_files(outcome: Outcome) -> dict[str, bytes]:
    kept, why = outcome.kept, outcome.left_out
    return {
        "records.jsonl": _lines([record_of(a).to_json() for a in kept]),
        "examples.jsonl": _lines(_examples(kept)),
        "left_out.csv": _csv(
            ["clip", "label", "why"],
            [[a.clip, a.label, why[a.clip]] for a in outcome.annotations if a.clip in why],
        ),
        "unfinished.csv": _csv(
            ["clip", "why"], [[clip, why] for clip, why in outcome.unfinished.items()]
        ),
        "checks.csv": _csv(
            ["clip", "modality", "claim", "verdict", "by"],
            [
                [a.clip, c.modality, c.phrase, c.verdict, c.by]
                for a in kept
                for c in outcome.checks.get(a.clip, ())
            ],
        ),
    }


def _mmeverse_files(settings: OutputSettings, kept: Sequence[Annotation]) -> dict[str, bytes]:
    head = ["video_id", "mode", settings.text, settings.label]
    rows = {a.clip: [a.clip, _csv_split(a), a.words, a.label] for a in kept}
    notes = {
        a.clip: [a.notes.get(agent, {}).get("description", "") for agent in COLUMNS] for a in kept
    }
    peaks = {a.clip: {"peak_index": a.peak_index} for a in kept if a.peak_index is not None}
    return {
        f"{settings.name}_peak.json": _json(peaks),
        f"{settings.name}_merged.csv": _csv(
            [*head, *COLUMNS.values()], [[*rows[a.clip], *notes[a.clip]] for a in kept]
        ),
        f"{settings.name}_AU_gpt.csv": _csv(
            [*head, REASON_COLUMN], [[*rows[a.clip], a.reason] for a in kept if a.reason]
        ),
    }


def _merr_files(kept: Sequence[Annotation]) -> dict[str, bytes]:
    coarse = {a.clip: _merr_fields(a) | {"caption": a.coarse} for a in kept if a.coarse}
    fine = {
        a.clip: _merr_fields(a)
        | {
            "text": a.words,
            "reason_caption": a.notes["reasoning"]["reason"],
            "smp_reason_caption": a.notes["reasoning"]["short"],
        }
        for a in kept
        if "reasoning" in a.notes
    }
    return {"merr_coarse.json": _json(coarse), "merr_fine.json": _json(fine)}


def _merr_fields(a: Annotation) -> dict[str, Any]:
    voice = a.notes.get("audio", {})
    tone = voice.get("tone")
    return {
        "AU_list": [units.unit_code(u) for u in a.units],
        "visual_prior_list": units.unit_phrases(a.units),
        "audio_prior_list": f"the tone sounds {tone}." if tone else voice.get("description", ""),
        "peak_index": "" if a.peak_index is None else str(a.peak_index),
        "peak_AU_list": [units.unit_code(u) for u in a.peak_units],
        "pseu_emotion": a.label,
    }


def _record_split(a: Annotation) -> str:
    """Returns the given split; without one, HOLD_OUT are held out, grouped by speaker if known."""
    if not a.label:
        return "unsplit"
    if a.split in ("train", "val", "test"):
        return a.split
    return "val" if zlib.crc32((a.speaker or a.clip).encode()) % 100 < 100 * HOLD_OUT else "train"


def _csv_split(a: Annotation) -> str:
    return _record_split(a) if a.label else "train"


def _examples(kept: Sequence[Annotation]) -> list[str]:
    """Returns one instruction for each question that a clip's texts can answer."""
    out = []
    for number, a in enumerate(kept):
        record = record_of(a)
        for task in (*_PERCEPTION, *_COGNITION):
            if answer_text(record, task):
                stage = StageTasks(
                    style="perception" if task in _PERCEPTION else "cognition",
                    tasks=(task,),
                    max_words=10**6,
                )
                out.append(draw_example(record, stage, np.random.default_rng(number)).to_json())
    return out


def _lines(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue().encode()
