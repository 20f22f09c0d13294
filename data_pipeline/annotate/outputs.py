"""An annotated set as files: MERR's JSON, MMEVerse's CSV and peaks, our records and examples, what was left out, a data card."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.annotate import units
from data_pipeline.annotate.describe import Annotation
from data_pipeline.annotate.peaks import APEX
from data_pipeline.annotate.recipe import Recipe, prompt_hashes
from data_pipeline.annotate.verify import Check
from data_pipeline.llm.budget import Spending
from data_pipeline.loader.tasks import StageTasks, answer_text, draw_example
from data_pipeline.schema import ClipRecord

AGENT_TEXTS = {
    "visual": "image",
    "audio": "audio",
    "audio_2": "audio_2",
}  # agent -> key of ClipRecord.texts
COLUMNS = {
    "audio": "response_AudioReasoner",
    "audio_2": "response_Qwen2Audio",
    "visual": "response_Qwen25vl_72B",
}
MERGED = "gpt-4o-mini_Emotion"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Set:
    """What is written. name: of the set, in file names.  text, label: columns of MMEVerse's files, which differ between its sets.
    licence: what the user says of the clips and the annotations.
    """

    name: str
    text: str = "text"
    label: str = "emotion_label"
    licence: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to. found: the annotations, those left out too.  left_out, unfinished: clip -> why."""

    recipe: Recipe
    found: Sequence[Annotation]
    left_out: Mapping[str, str]
    unfinished: Mapping[str, str]
    checks: Mapping[str, Sequence[Check]]
    spent: Spending

    @property
    def kept(self) -> list[Annotation]:
        return [a for a in self.found if a.clip not in self.left_out]


def record_of(found: Annotation, *, short: bool = False) -> ClipRecord:
    """The annotation as a clip to train from. `short`: the reason's short form, where there is one (MERR's fine part trains on it)."""
    texts = {
        key: found.notes[agent]["description"]
        for agent, key in AGENT_TEXTS.items()
        if "description" in found.notes.get(agent, {})
    }
    if told := found.notes.get("reasoning", {}).get("words"):
        texts["text"] = told
    reason = found.notes.get("reasoning", {}).get("short" if short else "reason") or found.reason
    if reason:
        texts["reason"] = reason
    if found.ever is not None:
        texts["action_units"] = ", ".join(units.unit_code(u) for u in found.units)
        texts["peak_action_units"] = ", ".join(units.unit_code(u) for u in found.peak_units)
    who = {AGENT_TEXTS[a]: m for a, m in found.authors.items() if a in AGENT_TEXTS}
    who["reason"] = found.authors.get("reasoning", "template")
    who |= {
        "emotion": {"given": "given", "votes": "action units"}.get(
            found.label_from, found.authors.get("reasoning", "")
        )
    }
    if found.words:
        who["subtitle"] = found.words_from
    return ClipRecord(
        id=found.clip,
        dataset=found.dataset or "annotated",
        split=_split(found),
        path=found.path,
        label=found.label,
        labels=found.labels or ((found.label,) if found.label else ()),
        subtitle=found.words,
        speaker=found.speaker,
        start=found.start,
        end=found.end,
        peak_index=found.peak_index,
        texts=texts,
        provenance=who,
    )


def write_all(out: Path, chosen: Set, outcome: Outcome, facts: Mapping[str, Any]) -> list[Path]:
    """Writes every output; returns their paths. `facts`: endpoints and settings, for the card."""
    kept, left_out = outcome.kept, outcome.left_out
    files: dict[str, bytes] = {
        "records.jsonl": _lines([record_of(a).to_json() for a in kept]),
        "examples.jsonl": _lines(list(_examples(kept))),
        "left_out.csv": _csv(
            ["clip", "label", "why"],
            [[a.clip, a.label, left_out[a.clip]] for a in outcome.found if a.clip in left_out],
        ),
        "unfinished.csv": _csv(
            ["clip", "why"], [[c, why] for c, why in outcome.unfinished.items()]
        ),
        "checks.csv": _csv(
            ["clip", "modality", "claim", "verdict", "by"],
            [
                [a.clip, c.modality, c.phrase, c.verdict, c.by]
                for a in kept
                for c in outcome.checks.get(a.clip, ())
            ],
        ),
        f"{chosen.name}_peak.json": _json(
            {a.clip: {"peak_index": a.peak_index} for a in kept if a.peak_index is not None}
        ),
        f"{chosen.name}_merged.csv": _csv(
            ["video_id", "mode", chosen.text, chosen.label, *COLUMNS.values()],
            [
                [
                    a.clip,
                    _mode(a),
                    a.words,
                    a.label,
                    *(a.notes.get(n, {}).get("description", "") for n in COLUMNS),
                ]
                for a in kept
            ],
        ),
        f"{chosen.name}_AU_gpt.csv": _csv(
            ["video_id", "mode", chosen.text, chosen.label, MERGED],
            [[a.clip, _mode(a), a.words, a.label, a.reason] for a in kept if a.reason],
        ),
        "merr_coarse.json": _json(
            {a.clip: _merr(a) | {"caption": a.coarse} for a in kept if a.coarse}
        ),
        "merr_fine.json": _json(
            {
                a.clip: _merr(a)
                | {
                    "text": a.words,
                    "reason_caption": a.notes["reasoning"]["reason"],
                    "smp_reason_caption": a.notes["reasoning"]["short"],
                }
                for a in kept
                if "reasoning" in a.notes
            }
        ),
    }
    summary = _summary(chosen, outcome, facts)
    files["summary.json"] = _json(summary)
    files["card.md"] = card(summary).encode()
    written = []
    for name, data in files.items():
        path = out / name
        half = path.with_name(f".{name}.new")
        half.write_bytes(data)
        os.replace(half, path)
        written.append(path)
    return written


def _merr(a: Annotation) -> dict[str, Any]:
    tone = a.notes.get("audio", {})
    return {
        "AU_list": [units.unit_code(u) for u in a.units],
        "visual_prior_list": units.phrases(a.units),
        "audio_prior_list": f"the tone sounds {tone['tone']}."
        if tone.get("tone")
        else tone.get("description", ""),
        "peak_index": "" if a.peak_index is None else str(a.peak_index),
        "peak_AU_list": [units.unit_code(u) for u in a.peak_units],
        "pseu_emotion": a.label,
    }


def _split(a: Annotation) -> str:
    """As given; where none was, 15 % are held out, people kept together where they are named."""
    if not a.label:
        return "unsplit"
    if a.split in ("train", "val", "test"):
        return a.split
    return "val" if zlib.crc32((a.speaker or a.clip).encode()) % 100 < 15 else "train"


def _mode(a: Annotation) -> str:
    return _split(a) if a.label else "train"


def _examples(kept: Sequence[Annotation]) -> list[str]:
    """Every question that a clip's texts can answer, once, as training asks it."""
    out = []
    for number, a in enumerate(kept):
        record = record_of(a)
        for task in ("emotion", "audio", "image", "reason_v2", "think"):
            if answer_text(record, task):
                stage = StageTasks(
                    style="perception" if task in ("emotion", "audio", "image") else "cognition",
                    tasks=(task,),
                    max_words=10**6,
                )
                out.append(draw_example(record, stage, np.random.default_rng(number)).to_json())
    return out


def _summary(chosen: Set, outcome: Outcome, facts: Mapping[str, Any]) -> dict[str, Any]:
    kept, recipe = outcome.kept, outcome.recipe
    verdicts: dict[str, Counter[str]] = {m: Counter() for m in ("video", "audio", "text")}
    for a in kept:
        for c in outcome.checks.get(a.clip, ()):
            verdicts[c.modality][c.verdict] += 1
    return {
        "set": chosen.name,
        "recipe": dataclasses.asdict(recipe),
        "recipe_digest": recipe.digest(),
        "prompts": prompt_hashes(),
        "clips": len(outcome.found) + len(outcome.unfinished),
        "kept": len(kept),
        "left_out": dict(Counter(_kind(w) for w in outcome.left_out.values()).most_common()),
        "unfinished": dict(Counter(_kind(w) for w in outcome.unfinished.values()).most_common()),
        "labels": dict(Counter(a.label for a in kept).most_common()),
        "label_from": dict(Counter(a.label_from for a in kept)),
        "splits": dict(Counter(_mode(a) for a in kept)),
        "peak_by": dict(Counter(a.peak_by or "none: no picture" for a in kept)),
        "peak_index_base": 0,
        "units_from": dict(
            Counter(a.units_from or ("none" if a.peak_by != APEX else "none: apex") for a in kept)
        ),
        "words_from": dict(Counter(a.words_from or "none" for a in kept)),
        "models": {
            agent: dict(Counter(a.authors[agent] for a in kept if agent in a.authors))
            for agent in recipe.agents
        },
        "claims": {m: dict(n) for m, n in verdicts.items()},
        "spent": dataclasses.asdict(outcome.spent),
        "licence": chosen.licence,
        **facts,
    }


def _kind(why: str) -> str:
    """A reason without its numbers and names, to count by."""
    for start in ("visual", "audio", "audio_2", "reasoning"):
        if why.startswith(f"{start}: "):
            return why
    if "://" in why:  # an endpoint that can not be used says where it is
        return why
    for known in _KINDS:
        if known in why:
            return known
    return why.partition(":")[0]


_KINDS = (
    "no label",
    "the action units speak for",
    "the reasoning concludes",
    "claims are contradicted",
    "the same as",
    "the reason has",
    "neutral clips",
    "are kept",
)


def card(s: Mapping[str, Any]) -> str:
    """The data card, Markdown."""

    def table(title: str, counts: Mapping[str, Any]) -> str:
        rows = "".join(f"| {str(k).replace('|', '&#124;')} | {v} |\n" for k, v in counts.items())
        return f"\n| {title} | clips |\n|---|---|\n{rows}" if rows else ""

    spent = s["spent"]
    claims = "".join(
        f"| {m} | {n.get('supported', 0)} | {n.get('contradicted', 0)} | {n.get('unknown', 0)} |\n"
        for m, n in s["claims"].items()
    )
    models = "".join(
        f"| {agent} | {', '.join(f'{m or chr(63)} ({n})' for m, n in who.items()) or 'none'} | {s['prompts'].get(agent.removesuffix('_2'), '')} |\n"
        for agent, who in s["models"].items()
    )
    return f"""# {s["set"]}: annotations made by emojax

Recipe `{s["recipe"]["name"]}` ({s["recipe_digest"]}), {s["kept"]} of {s["clips"]} clips kept. Machine-made descriptions of what people show, not of what they feel; look at them before you rely on them
(`emojax verify`). {"The agents were told the label: a text can not disagree with it." if s["recipe"]["label_guided"] else "The agents were not told the label."}

Frames are counted from 0. Licence of clips and annotations: {s["licence"] or "not stated by whoever made this set"}.
{table("label", s["labels"])}{table("label from", s["label_from"])}{table("split", s["splits"])}{table("peak found by", s["peak_by"])}{table("action units from", s["units_from"])}{table("words from", s["words_from"])}
| agent | answered by (clips) | prompt |
|---|---|---|
{models}
| claims of | supported | contradicted | unknown |
|---|---|---|---|
{claims}{table("left out because", s["left_out"])}{table("unfinished because", s["unfinished"])}
Requests: {spent["requests"]:,} answered, {spent["lost"]:,} whose cost is not known and is counted at its most; tokens: {spent["tokens_in"]:,} in, {spent["tokens_out"]:,} out; money: {spent["money"]:.4f} by the prices given.
"""


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
