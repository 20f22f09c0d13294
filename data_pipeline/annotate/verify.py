"""Verifies annotations: claims against measurements, and marks of human annotators.

Annotators mark five aspects on a page (review.py), as in MMEVerse's human check: audio clues,
visual clues, text clues, reasoning and result. The agreement rate is the share of marks that agree.
Inter-annotator agreement is Krippendorff's alpha (Hayes & Krippendorff 2007, nominal) and Cohen's
kappa.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.annotate.annotation import Annotation
from data_pipeline.annotate.evidence import (
    NOT_CHECKABLE,
    SUPPORTED,
    UNSUPPORTED,
    baseline,
    check_reason,
)
from data_pipeline.annotate.units import unit_code
from data_pipeline.media.prosody import Voice
from data_pipeline.media.transcript import Cue, Transcript

ASPECTS = ("audio", "visual", "text", "reasoning", "result")
MARKS = "marks"  # folder of the annotators' files
_VERDICTS = {SUPPORTED: "supported", UNSUPPORTED: "contradicted", NOT_CHECKABLE: "unknown"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One verified claim of a reason, with the words that checks.csv and claims.Evidence use.

    A CheckedClaim of a recording (evidence.py) has times, and other words in its files.

    Attributes:
      phrase: the claim's words.
      modality: `video`, `audio` or `text`.
      verdict: `supported`, `contradicted` or `unknown`.
      by: the evidence in words.
    """

    phrase: str
    modality: str
    verdict: str
    by: str


def check_claims(annotations: Sequence[Annotation]) -> dict[str, tuple[Check, ...]]:
    """Checks the claims of every reason.

    A voice is compared with the median of its speaker's clips, or of all clips if fewer than
    MIN_VOICES of the speaker were measured. Clips without a speaker count as those of one speaker.

    Returns:
      Checks by clip.
    """
    voices: dict[str, list[Voice | None]] = defaultdict(list)
    for a in annotations:
        voices[a.speaker].append(a.voice)
    overall = baseline([v for group in voices.values() for v in group])
    by_speaker = {speaker: baseline(group) for speaker, group in voices.items()}
    out = {}
    for a in annotations:
        norm, reference = by_speaker[a.speaker], "the speaker's median"
        if norm.loudness is None:
            norm, reference = overall, "the median of all clips"
        elif not a.speaker:
            some = "" if len(by_speaker) == 1 else " without a speaker"
            reference = f"the median of all clips{some}"
        words = (
            Transcript(cues=(Cue(start=0.0, end=1.0, text=a.words),)) if a.words else Transcript()
        )
        claims = check_reason(
            a.reason,
            0.0,
            1.0,
            motion=None,
            voice=a.voice,
            norm=norm,
            transcript=words,
            units=None if a.ever is None else frozenset(unit_code(u) for u in a.ever),
            reference=reference,
        )
        out[a.clip] = tuple(
            Check(phrase=c.phrase, modality=c.modality, verdict=_VERDICTS[c.verdict], by=c.by)
            for c in claims
        )
    return out


@dataclasses.dataclass(frozen=True)
class Marks:
    """The marks of one annotator.

    Attributes:
      annotator: a name.
      marks: clip -> {aspect: True (agrees), False (disagrees), None (cannot tell)}.
      again: clips that were sent back -> remark.
    """

    annotator: str
    marks: Mapping[str, Mapping[str, bool | None]]
    again: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read_marks(folder: Path, *, digests: Mapping[str, str] | None = None) -> list[Marks]:
    """Reads the marks of all annotators; the last mark of a clip counts.

    Args:
      folder: output folder of the annotation.
      digests: of the current annotations, by clip; marks of other texts are ignored. None: all
        marks are read.

    Returns:
      One entry per annotator, sorted by name.
    """
    out = []
    for path in sorted((folder / MARKS).glob("*.jsonl")):
        marks: dict[str, dict[str, bool | None]] = {}
        again: dict[str, str] = {}
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                entry = json.loads(line)
                if digests is not None and digests.get(entry["clip"]) != entry.get("of"):
                    continue  # the text has changed since
                marks[str(entry["clip"])] = {a: entry["marks"].get(a) for a in ASPECTS}
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # an incomplete line
            if entry.get("again") is not None:
                again[entry["clip"]] = str(entry["again"])
            else:
                again.pop(entry["clip"], None)
        out.append(Marks(path.stem, marks, again))
    return out


def agreement_rates(annotators: Sequence[Marks]) -> dict[str, float | None]:
    """Returns the share of marks that agree, by aspect; "cannot tell" is ignored."""
    out: dict[str, float | None] = {}
    for aspect in ASPECTS:
        marks = [
            m[aspect] is True
            for annotator in annotators
            for m in annotator.marks.values()
            if m.get(aspect) is not None
        ]
        out[aspect] = sum(marks) / len(marks) if marks else None
    return out


def krippendorff_alpha(ratings: Sequence[Sequence[Hashable | None]]) -> float | None:
    """Computes Krippendorff's alpha for nominal ratings.

    Ours: no pinned library has it, and it is tested on the published examples.

    Args:
      ratings: one row per annotator, one column per item, None for missing.

    Returns:
      Alpha, None if it is undefined.
    """
    pairs: dict[tuple[Hashable, Hashable], float] = defaultdict(float)
    for column in zip(*ratings, strict=True):
        values = [x for x in column if x is not None]
        for a, b in itertools.permutations(values, 2):
            pairs[a, b] += 1 / (len(values) - 1)
    total = sum(pairs.values())
    marginal: dict[Hashable, float] = defaultdict(float)
    for (a, _), n in pairs.items():
        marginal[a] += n
    if total <= 1:
        return None
    expected = sum(marginal[a] * marginal[b] for a in marginal for b in marginal if a != b)
    expected /= total - 1
    if not expected:
        return None
    return 1 - sum(n for (a, b), n in pairs.items() if a != b) / expected


def cohen_kappa(first: Sequence[bool | None], second: Sequence[bool | None]) -> float | None:
    """Computes Cohen's kappa of two annotators over the items that both marked.

    Returns:
      Kappa, None if it is undefined.
    """
    from sklearn.metrics import cohen_kappa_score

    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not both or len({x for pair in both for x in pair}) < 2:
        return None
    return float(cohen_kappa_score([a for a, _ in both], [b for _, b in both]))


def agreement(annotators: Sequence[Marks]) -> dict[str, Any]:
    """Computes the contents of agreement.json.

    Returns:
      `annotators`, `clips`, `aspects` ({aspect: {agreed, marks, alpha, kappa}}), `differ` (clips on
      which annotators disagree: {clip: aspects}) and `sent_back` ({clip: remarks}).
    """
    clips = sorted({c for a in annotators for c in a.marks})
    rates = agreement_rates(annotators)
    aspects: dict[str, Any] = {}
    for aspect in ASPECTS:
        rows = [[a.marks.get(c, {}).get(aspect) for c in clips] for a in annotators]
        aspects[aspect] = {
            "agreed": rates[aspect],
            "marks": sum(x is not None for row in rows for x in row),
            "alpha": krippendorff_alpha(rows) if len(annotators) > 1 else None,
            "kappa": {
                f"{annotators[i].annotator} and {annotators[j].annotator}": cohen_kappa(
                    rows[i], rows[j]
                )
                for i, j in itertools.combinations(range(len(annotators)), 2)
            },
        }
    sent_back: dict[str, list[str]] = {}
    for annotator in annotators:
        for clip, remark in annotator.again.items():
            sent_back.setdefault(clip, []).extend([remark] if remark else [])
    return {
        "annotators": [a.annotator for a in annotators],
        "clips": len(clips),
        "aspects": aspects,
        "differ": {clip: names for clip in clips if (names := _disputed(annotators, clip))},
        "sent_back": {c: " / ".join(dict.fromkeys(r)) for c, r in sent_back.items()},
    }


def _disputed(annotators: Sequence[Marks], clip: str) -> list[str]:
    """Returns the aspects of a clip on which annotators disagree."""
    marks = [a.marks[clip] for a in annotators if clip in a.marks]
    return [aspect for aspect in ASPECTS if len({m.get(aspect) for m in marks} - {None}) > 1]
