"""What is left out of an annotated set, and why: one function a kind of recipe.FILTERS, applied in the recipe's order.

A filter sees the annotations that are still in, and returns {clip: why it goes}. Draws depend on the seed and the clips' ids alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.annotate.describe import Annotation, against_units
from data_pipeline.annotate.recipe import FILTERS, Recipe
from data_pipeline.annotate.verify import Check

Out = dict[str, str]
NEUTRAL = ("neutral", "calm")


def apply(
    recipe: Recipe,
    found: Sequence[Annotation],
    checks: Mapping[str, Sequence[Check]],
    *,
    seed: int = 0,
) -> Out:
    """{clip: why it is left out} of all annotations; those that could not be made go first."""
    out = {a.clip: a.left_out for a in found if a.left_out}
    for kind, settings in recipe.filters:
        inside = [a for a in found if a.clip not in out]
        out |= _KINDS[kind](inside, {**FILTERS[kind], **settings}, recipe, checks, seed)
    return out


def _votes(
    inside: Sequence[Annotation],
    settings: Mapping[str, Any],
    recipe: Recipe,
    checks: Any,
    seed: int,
) -> Out:
    """The label and the action units do not agree; see describe.against_units, which asks this before anything is paid for."""
    why = {a.clip: against_units(a, recipe, settings) for a in inside}
    return {clip: text for clip, text in why.items() if text}


def _contradiction(
    inside: Sequence[Annotation],
    settings: Mapping[str, Any],
    recipe: Recipe,
    checks: Mapping[str, Sequence[Check]],
    seed: int,
) -> Out:
    """The reason concludes another label, or too many of its claims that can be checked are contradicted."""
    out = {}
    for a in inside:
        said = a.notes.get("reasoning", {}).get("label", "")
        if said and said != a.label:
            out[a.clip] = f"the reasoning concludes {said}, the label is {a.label}"
            continue
        verdicts = Counter(c.verdict for c in checks.get(a.clip, ()))
        wrong, known = verdicts["contradicted"], verdicts["contradicted"] + verdicts["supported"]
        if known and wrong / known > settings["most"]:
            out[a.clip] = f"{wrong} of {known} claims are contradicted by what was measured"
    return out


def _duplicates(
    inside: Sequence[Annotation],
    settings: Mapping[str, Any],
    recipe: Recipe,
    checks: Any,
    seed: int,
) -> Out:
    """The same media and span under another id, or the same reason word for word about the same words; the first one stays."""
    out: Out = {}
    first: dict[tuple[str, str], Annotation] = {}
    for a in inside:
        plain = " ".join(a.reason.lower().split())
        keys = [("file", f"{a.media} {a.start} {a.end} {a.words}")]
        keys += [("reason", f"{plain} {a.words.lower()}")] if plain and a.words else []
        twin = next((first[k] for k in keys if k in first), None)
        if twin is not None:
            other = "" if twin.label == a.label else f", whose label is {twin.label}, not {a.label}"
            out[a.clip] = f"the same as {twin.clip}{other}"
        else:
            first.update(dict.fromkeys(keys, a))
    return out


def _length(
    inside: Sequence[Annotation],
    settings: Mapping[str, Any],
    recipe: Recipe,
    checks: Any,
    seed: int,
) -> Out:
    """Words of the reason."""
    count = {a.clip: words_in(a.reason) for a in inside}
    return {
        c: f"the reason has {n} words"
        for c, n in count.items()
        if not settings["least"] <= n <= settings["most"]
    }


def words_in(text: str) -> int:
    """Words; scripts without blanks between them count two characters a word."""
    dense = len(re.findall(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]", text))
    return dense // 2 + len(re.sub(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]", " ", text).split())


def _balance(
    inside: Sequence[Annotation],
    settings: Mapping[str, Any],
    recipe: Recipe,
    checks: Any,
    seed: int,
) -> Out:
    """Labels with more than `times` the median label's clips; which go is drawn. Neutral is left to its own filter."""
    by_label = _by_label([a for a in inside if a.label not in NEUTRAL])
    if not by_label:
        return {}
    most = int(settings["times"] * np.median([len(clips) for clips in by_label.values()]))
    return {
        clip: f"{label} has {len(clips)} clips, {most} are kept"
        for label, clips in by_label.items()
        for clip in _drawn(clips, seed)[max(1, most) :]
    }


def _neutral(
    inside: Sequence[Annotation],
    settings: Mapping[str, Any],
    recipe: Recipe,
    checks: Any,
    seed: int,
) -> Out:
    """Neutral clips beyond their share of all."""
    neutral = [a.clip for a in inside if a.label in NEUTRAL]
    others = len(inside) - len(neutral)
    most = round(others * settings["share"] / max(1e-9, 1 - settings["share"]))
    return {
        clip: f"{len(neutral)} neutral clips, {most} are kept"
        for clip in _drawn(neutral, seed)[most:]
    }


def _by_label(found: Sequence[Annotation]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = defaultdict(list)
    for a in found:
        out[a.label].append(a.clip)
    return out


def _drawn(clips: Sequence[str], seed: int) -> list[str]:
    """In an order that depends on seed and ids, not on what else is there."""
    return sorted(clips, key=lambda c: hashlib.sha256(f"{seed} {c}".encode()).digest())


_KINDS: dict[str, Callable[..., Out]] = {
    "votes": _votes,
    "contradiction": _contradiction,
    "duplicates": _duplicates,
    "length": _length,
    "balance": _balance,
    "neutral": _neutral,
}
