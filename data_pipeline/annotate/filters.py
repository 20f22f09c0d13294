"""Filters of a recipe: which annotations are left out of the set, and why.

There is one function per kind of recipe.FILTER_DEFAULTS, applied in the recipe's order. A filter
receives the annotations that are still kept and returns {clip: reason}. Random choices depend only
on the seed and the clips' ids.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.annotate.annotation import Annotation
from data_pipeline.annotate.describe import label_conflict
from data_pipeline.annotate.recipe import FILTER_DEFAULTS, Recipe
from data_pipeline.annotate.verify import Check

Exclusions = dict[str, str]  # clip -> why it is left out
NEUTRAL = ("neutral", "calm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Context:
    """What a filter may use besides the annotations."""

    settings: Mapping[str, Any]
    recipe: Recipe
    checks: Mapping[str, Sequence[Check]]
    seed: int


def apply(
    recipe: Recipe,
    annotations: Sequence[Annotation],
    checks: Mapping[str, Sequence[Check]],
    *,
    seed: int = 0,
) -> Exclusions:
    """Applies a recipe's filters.

    Args:
      recipe: names the filters.
      annotations: all clips.
      checks: verified claims, by clip.
      seed: of the random choices.

    Returns:
      Why clips are left out, by clip; clips that could not be annotated come first.
    """
    out = {a.clip: a.left_out for a in annotations if a.left_out}
    for kind, settings in recipe.filters:
        kept = [a for a in annotations if a.clip not in out]
        context = _Context(
            settings={**FILTER_DEFAULTS[kind], **settings}, recipe=recipe, checks=checks, seed=seed
        )
        out |= _FILTERS[kind](kept, context)
    return out


def _votes(kept: Sequence[Annotation], context: _Context) -> Exclusions:
    """Leaves out clips whose label disagrees with the action units.

    The annotator applies the same rule before it pays for any request.
    """
    why = {a.clip: label_conflict(a, context.recipe, context.settings) for a in kept}
    return {clip: text for clip, text in why.items() if text}


def _contradiction(kept: Sequence[Annotation], context: _Context) -> Exclusions:
    """Leaves out reasons that conclude another label or that measurements contradict too often."""
    out = {}
    for a in kept:
        concluded = a.notes.get("reasoning", {}).get("label", "")
        if concluded and concluded != a.label:
            out[a.clip] = f"the reasoning concludes {concluded}, the label is {a.label}"
            continue
        verdicts = Counter(c.verdict for c in context.checks.get(a.clip, ()))
        wrong, known = verdicts["contradicted"], verdicts["contradicted"] + verdicts["supported"]
        if known and wrong / known > context.settings["most"]:
            out[a.clip] = f"{wrong} of {known} claims are contradicted by what was measured"
    return out


def _duplicates(kept: Sequence[Annotation], context: _Context) -> Exclusions:  # noqa: ARG001
    """Keeps the first clip of each media span, and of each reason about the same words."""
    out: Exclusions = {}
    first: dict[tuple[str, str], Annotation] = {}
    for a in kept:
        reason = " ".join(a.reason.lower().split())
        keys = [("file", f"{a.media} {a.start} {a.end} {a.words}")]
        keys += [("reason", f"{reason} {a.words.lower()}")] if reason and a.words else []
        twin = next((first[k] for k in keys if k in first), None)
        if twin is not None:
            other = "" if twin.label == a.label else f", whose label is {twin.label}, not {a.label}"
            out[a.clip] = f"the same as {twin.clip}{other}"
        else:
            first.update(dict.fromkeys(keys, a))
    return out


def _length(kept: Sequence[Annotation], context: _Context) -> Exclusions:
    """Leaves out reasons with too few or too many words."""
    count = {a.clip: count_words(a.reason) for a in kept}
    least, most = context.settings["least"], context.settings["most"]
    return {c: f"the reason has {n} words" for c, n in count.items() if not least <= n <= most}


def count_words(text: str) -> int:
    """Counts words; in scripts without blanks two characters count as a word."""
    dense = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
    return len(re.findall(dense, text)) // 2 + len(re.sub(dense, " ", text).split())


def _balance(kept: Sequence[Annotation], context: _Context) -> Exclusions:
    """Limits each label to `times` the median label's clips; neutral has a filter of its own."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for a in kept:
        if a.label not in NEUTRAL:
            by_label[a.label].append(a.clip)
    if not by_label:
        return {}
    median = np.median([len(clips) for clips in by_label.values()])
    most = int(context.settings["times"] * median)
    return {
        clip: f"{label} has {len(clips)} clips, {most} are kept"
        for label, clips in by_label.items()
        for clip in _shuffled(clips, context.seed)[max(1, most) :]
    }


def _neutral(kept: Sequence[Annotation], context: _Context) -> Exclusions:
    """Limits neutral clips to a share of all clips."""
    neutral = [a.clip for a in kept if a.label in NEUTRAL]
    others = len(kept) - len(neutral)
    share = context.settings["share"]
    most = round(others * share / max(1e-9, 1 - share))
    return {
        clip: f"{len(neutral)} neutral clips, {most} are kept"
        for clip in _shuffled(neutral, context.seed)[most:]
    }


def _shuffled(clips: Sequence[str], seed: int) -> list[str]:
    """Orders clips by a hash of seed and id, which does not depend on the other clips."""
    return sorted(clips, key=lambda c: hashlib.sha256(f"{seed} {c}".encode()).digest())


_FILTERS: dict[str, Callable[[Sequence[Annotation], _Context], Exclusions]] = {
    "votes": _votes,
    "contradiction": _contradiction,
    "duplicates": _duplicates,
    "length": _length,
    "balance": _balance,
    "neutral": _neutral,
}
