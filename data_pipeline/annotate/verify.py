"""Whether annotations are true: every claim against what was measured, and what people say of five aspects.

People mark (review.py) audio clues, visual clues, clues of the words, reasoning and result, as in MMEVerse's human check; the share of
marks that agree is its figure. Agreement between annotators: Krippendorff's alpha (Hayes & Krippendorff 2007, nominal) and
Cohen's kappa.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.annotate.evidence import NOT_CHECKABLE, SUPPORTED, baseline, check_reason
from data_pipeline.annotate.units import unit_code
from data_pipeline.media.transcript import Cue, Transcript

if TYPE_CHECKING:
    from data_pipeline.annotate.describe import Annotation

ASPECTS = ("audio", "visual", "text", "reasoning", "result")
# Shares of marks that agree in the papers' bar chart, read by eye (reference for the picture).
PUBLISHED = {
    "MERR-coarse": (0.68, 0.42, 0.18, 0.21, 0.67),
    "MERR-fine": (0.75, 0.72, 0.51, 0.47, 0.75),
    "MMEVerse": (0.94, 0.91, 0.89, 0.92, 0.93),
}
MARKS = "marks"  # folder of the annotators' files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One claim of a reason. verdict: supported, contradicted or unknown. by: what it was held against."""

    phrase: str
    modality: str
    verdict: str
    by: str


def check_claims(found: Sequence[Annotation]) -> dict[str, tuple[Check, ...]]:
    """Claims of every reason, by clip. Voices are held against the median of the same speaker's, or of the set where speakers are
    not named.
    """
    voices: dict[str, list[Any]] = defaultdict(list)
    for a in found:
        voices[a.speaker].append(a.voice)
    everybody = baseline([v for group in voices.values() for v in group])
    norm = {speaker: baseline(group) for speaker, group in voices.items()}
    out = {}
    for a in found:
        own = norm[a.speaker] if norm[a.speaker].loudness is not None else everybody
        words = Transcript((Cue(start=0.0, end=1.0, text=a.words),)) if a.words else Transcript()
        seen = None if a.ever is None else frozenset(unit_code(u) for u in a.ever)
        links = check_reason(
            a.reason, 0.0, 1.0, motion=None, voice=a.voice, norm=own, transcript=words, units=seen
        )
        out[a.clip] = tuple(
            Check(
                phrase=x.phrase,
                modality=x.modality,
                verdict="unknown"
                if x.verdict == NOT_CHECKABLE
                else "supported"
                if x.verdict == SUPPORTED
                else "contradicted",
                by=x.by,
            )
            for x in links
        )
    return out


@dataclasses.dataclass(frozen=True)
class Marks:
    """One annotator's marks: clip -> {aspect: True (agrees), False, None (can not tell)}; `again`: clips sent back, with a remark."""

    annotator: str
    marks: Mapping[str, Mapping[str, bool | None]]
    again: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read_marks(folder: Path, *, digests: Mapping[str, str] | None = None) -> list[Marks]:
    """All annotators of an output folder, by name; the last mark of a clip counts. `digests`: of the annotations as they are; marks
    of others are left aside.
    """
    out = []
    for path in sorted((folder / MARKS).glob("*.jsonl")):
        marks: dict[str, dict[str, bool | None]] = {}
        again: dict[str, str] = {}
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                found = json.loads(line)
                if digests is not None and digests.get(found["clip"]) != found.get("of"):
                    continue  # of a text that is no longer there
                marks[str(found["clip"])] = {a: found["marks"].get(a) for a in ASPECTS}
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a line that was cut off
            if found.get("again") is not None:
                again[found["clip"]] = str(found["again"])
            else:
                again.pop(found["clip"], None)
        out.append(Marks(path.stem, marks, again))
    return out


def agreed(people: Sequence[Marks]) -> dict[str, float | None]:
    """MMEVerse's figure: the share of marks that say yes, for each aspect; what can not be told is left out."""
    out: dict[str, float | None] = {}
    for aspect in ASPECTS:
        said = [
            m[aspect] is True for p in people for m in p.marks.values() if m.get(aspect) is not None
        ]
        out[aspect] = sum(said) / len(said) if said else None
    return out


def alpha(rows: Sequence[Sequence[bool | None]]) -> float | None:
    """Krippendorff's alpha of nominal values: one row an annotator, None where nothing was said; None where it is not defined."""
    pairs: Counter[tuple[bool, bool]] = Counter()
    for column in zip(*rows, strict=True):
        said = [x for x in column if x is not None]
        for a, b in itertools.permutations(range(len(said)), 2):
            pairs[said[a], said[b]] += 1 / (len(said) - 1)  # type: ignore[assignment]
    total = sum(pairs.values())
    share = Counter[bool]()
    for (a, _), n in pairs.items():
        share[a] += n
    expected = (
        sum(share[a] * share[b] for a in share for b in share if a != b) / (total - 1)
        if total > 1
        else 0.0
    )
    if not expected:
        return None
    return 1 - sum(n for (a, b), n in pairs.items() if a != b) / expected


def kappa(first: Sequence[bool | None], second: Sequence[bool | None]) -> float | None:
    """Cohen's kappa of two annotators over what both marked; None where it is not defined."""
    from sklearn.metrics import cohen_kappa_score

    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not both or len({x for pair in both for x in pair}) < 2:
        return None
    return float(cohen_kappa_score([a for a, _ in both], [b for _, b in both]))


def agreement(people: Sequence[Marks]) -> dict[str, Any]:
    """{aspect: {agreed, marks, alpha, kappa}} and the clips on which annotators differ: {clip: aspects}."""
    clips = sorted({c for p in people for c in p.marks})
    shares = agreed(people)
    out: dict[str, Any] = {
        "annotators": [p.annotator for p in people],
        "clips": len(clips),
        "aspects": {},
    }
    for aspect in ASPECTS:
        rows = [[p.marks.get(c, {}).get(aspect) for c in clips] for p in people]
        both = {
            f"{people[i].annotator} and {people[j].annotator}": kappa(rows[i], rows[j])
            for i, j in itertools.combinations(range(len(people)), 2)
        }
        out["aspects"][aspect] = {
            "agreed": shares[aspect],
            "marks": sum(x is not None for row in rows for x in row),
            "alpha": alpha(rows) if len(people) > 1 else None,
            "kappa": both,
        }
    differ: dict[str, list[str]] = {}
    for clip in clips:
        split = [
            a
            for a in ASPECTS
            if len({p.marks[clip].get(a) for p in people if clip in p.marks} - {None}) > 1
        ]
        if split:
            differ[clip] = split
    back: dict[str, list[str]] = {}
    for p in people:
        for clip, remark in p.again.items():
            back.setdefault(clip, []).extend([remark] if remark else [])
    return {
        **out,
        "differ": differ,
        "sent_back": {c: " / ".join(dict.fromkeys(t)) for c, t in back.items()},
    }


def chart(found: Mapping[str, Any], name: str) -> bytes:
    """The papers' bar chart as PNG: the share of marks that agree, for each aspect, beside published ones."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    own = tuple(found["aspects"][a]["agreed"] for a in ASPECTS)
    lapsed = len(found.get("lapsed", ()))
    told = f"{name}, {found['clips']} clips" + (
        f" ({lapsed} more have changed since)" if lapsed else ""
    )
    groups: dict[str, tuple[float | None, ...]] = {**PUBLISHED, told: own}
    figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
    width = 0.8 / len(groups)
    colours = ("#c8ccd4", "#9aa3b2", "#6b7588", "#1f77b4")
    for i, (group, values) in enumerate(groups.items()):
        at = np.arange(len(ASPECTS)) + (i - (len(groups) - 1) / 2) * width
        label = f"{group} (published)" if group in PUBLISHED else group
        bars = axis.bar(at, [v or 0 for v in values], width, label=label, color=colours[i])
        axis.bar_label(bars, ["" if v is None else f"{v:.2f}" for v in values], fontsize=7)
    axis.set_xticks(range(len(ASPECTS)), ASPECTS)
    axis.set_ylim(0, 1.08)
    axis.set_ylabel("share of marks that agree")
    axis.legend(
        frameon=False, ncols=len(groups), loc="upper center", bbox_to_anchor=(0.5, 1.14), fontsize=8
    )
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": "emojax"})
    plt.close(figure)
    return out.getvalue()
