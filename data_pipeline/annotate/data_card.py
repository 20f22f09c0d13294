"""The summary of an annotated set, as JSON values and as a data card in Markdown."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_pipeline.annotate.annotation import Annotation
from data_pipeline.annotate.peaks import APEX
from data_pipeline.annotate.recipe import AGENTS, Recipe, prompt_hashes
from data_pipeline.annotate.verify import Check
from data_pipeline.llm.budget import Spending
from data_pipeline.llm.replies import count_faults
from data_pipeline.schema import MODALITIES

_REASONS = (  # parts of reasons by which clips are counted
    "no label",
    "the action units speak for",
    "the reasoning concludes",
    "claims are contradicted",
    "the same as",
    "the reason has",
    "neutral clips",
    "are kept",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a run.

    Attributes:
      recipe: agents, label source and filters.
      annotations: all of them, those left out included.
      left_out: clip -> why it is left out.
      unfinished: clip -> why it has no annotation.
      checks: verified claims, by clip.
      spending: of all requests of the output folder.
    """

    recipe: Recipe
    annotations: Sequence[Annotation]
    left_out: Mapping[str, str]
    unfinished: Mapping[str, str]
    checks: Mapping[str, Sequence[Check]]
    spending: Spending

    @property
    def kept(self) -> list[Annotation]:
        """The annotations that are not left out."""
        return [a for a in self.annotations if a.clip not in self.left_out]


def summarize(
    name: str,
    outcome: Outcome,
    *,
    licence: str,
    split: Callable[[Annotation], str],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Summarizes a run as the contents of summary.json.

    Args:
      name: of the set.
      outcome: of the run.
      licence: of clips and annotations.
      split: returns the split of a clip.
      facts: further entries.
    """
    kept, recipe = outcome.kept, outcome.recipe
    verdicts: dict[str, Counter[str]] = {m: Counter() for m in MODALITIES}
    for a in kept:
        for c in outcome.checks.get(a.clip, ()):
            verdicts[c.modality][c.verdict] += 1
    return {
        "set": name,
        "recipe": dataclasses.asdict(recipe),
        "recipe_digest": recipe.digest(),
        "prompts": prompt_hashes(),
        "clips": len(outcome.annotations) + len(outcome.unfinished),
        "kept": len(kept),
        "left_out": count_faults(_short_reason(why) for why in outcome.left_out.values()),
        "unfinished": count_faults(_short_reason(why) for why in outcome.unfinished.values()),
        "labels": _count(a.label for a in kept),
        "label_from": dict(Counter(a.label_from for a in kept)),
        "splits": dict(Counter(split(a) for a in kept)),
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
        "claims": {modality: dict(count) for modality, count in verdicts.items()},
        "spent": dataclasses.asdict(outcome.spending),
        "licence": licence,
        **facts,
    }


def _count(values: Any) -> dict[str, int]:
    """Counts values, the most frequent first."""
    return dict(Counter(values).most_common())


def _short_reason(why: str) -> str:
    """Shortens a reason to the part without numbers and names."""
    if any(why.startswith(f"{agent}: ") for agent in AGENTS):
        return why
    if "://" in why:  # names an endpoint that cannot be used
        return why
    return next((part for part in _REASONS if part in why), why.partition(":")[0])


def card(summary: Mapping[str, Any]) -> str:
    """Formats a summary as Markdown."""
    s, spent, recipe = summary, summary["spent"], summary["recipe"]
    claims = "".join(
        f"| {m} | {n.get('supported', 0)} | {n.get('contradicted', 0)} | {n.get('unknown', 0)} |\n"
        for m, n in s["claims"].items()
    )
    tables = [
        _table(title, s[key])
        for title, key in (
            ("label", "labels"),
            ("label from", "label_from"),
            ("split", "splits"),
            ("peak found by", "peak_by"),
            ("action units from", "units_from"),
            ("words from", "words_from"),
        )
    ]
    guided = (
        "The agents knew the label, so a text cannot disagree with it."
        if recipe["label_guided"]
        else "The agents did not know the label."
    )
    return f"""# {s["set"]}: annotations made by emojax

Recipe `{recipe["name"]}` ({s["recipe_digest"]}), {s["kept"]} of {s["clips"]} clips kept.
Machine-made descriptions of what people show, not of what they feel; look at them before you rely
on them (`emojax verify`). {guided}

Frames are counted from 0. Licence of clips and annotations: {s["licence"] or "not stated"}.
{"".join(tables)}
| agent | answered by (clips) | prompt |
|---|---|---|
{_model_rows(s)}
| claims of | supported | contradicted | unknown |
|---|---|---|---|
{claims}{_table("left out because", s["left_out"])}{_table("unfinished because", s["unfinished"])}
Requests: {spent["requests"]:,} answered, {spent["lost"]:,} of unknown cost, counted at their
maximum; tokens: {spent["tokens_in"]:,} in, {spent["tokens_out"]:,} out; money: {spent["money"]:.4f}
by the given prices.
"""


def _table(title: str, counts: Mapping[str, Any]) -> str:
    rows = "".join(f"| {str(k).replace('|', '&#124;')} | {v} |\n" for k, v in counts.items())
    return f"\n| {title} | clips |\n|---|---|\n{rows}" if rows else ""


def _model_rows(summary: Mapping[str, Any]) -> str:
    rows = []
    for agent, models in summary["models"].items():
        names = ", ".join(f"{model or '?'} ({n})" for model, n in models.items()) or "none"
        prompt = summary["prompts"].get(agent.removesuffix("_2"), "")
        rows.append(f"| {agent} | {names} | {prompt} |\n")
    return "".join(rows)
