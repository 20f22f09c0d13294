"""Claims of a reason, each held against what can be measured: supported, unsupported or not checkable.

What is checked: tone against the loudness, pitch and rate of this segment beside those of the whole recording; quoted words against
the transcript; action units against those that a provider measured. Without measurements nothing is called wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_pipeline.annotate.claims import Claim, find_claims
from data_pipeline.media.prosody import Voice
from data_pipeline.media.transcript import Transcript

SUPPORTED, UNSUPPORTED, NOT_CHECKABLE = "supported", "unsupported", "not checkable"
LONG_CUE = 20.0  # seconds from which a cue does not tell when its words were said
FEWEST = 4  # voices a recording must have before one can be louder or higher than the others
# tone: (measure, sign, least difference from the recording's median)
_MEASURES: dict[str, tuple[str, int, float]] = {
    "loud": ("loudness", 1, 2.0),  # dB
    "soft": ("loudness", -1, 2.0),
    "high": ("pitch", 1, 1.5),  # semitones
    "low": ("pitch", -1, 1.5),
    "fast": ("rate", 1, 0.5),  # syllables a second
    "slow": ("rate", -1, 0.5),
}
_UNITS = {"loudness": "dB", "pitch": "semitones", "rate": "syllables/s"}


@dataclasses.dataclass(frozen=True)
class CheckedClaim:
    """One claim with what speaks for or against it.

    Attributes:
      phrase, modality: as the reason says it.  verdict: SUPPORTED, UNSUPPORTED or NOT_CHECKABLE.
      start, end: seconds of the recording where to look or listen.
      by: what it was checked against, in words.
    """

    phrase: str
    modality: str
    verdict: str
    start: float
    end: float
    by: str


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Medians of a recording's voices, None where fewer than FEWEST were measured."""

    loudness: float | None
    pitch: float | None
    rate: float | None


def baseline(voices: Sequence[Voice | None]) -> Baseline:
    """What is usual in a recording."""

    def median(name: str) -> float | None:
        known = [x for v in voices if v is not None and (x := getattr(v, name)) is not None]
        return float(np.median(known)) if len(known) >= FEWEST else None

    return Baseline(median("loudness"), median("pitch"), median("rate"))


def check_reason(
    reason: str,
    start: float,
    end: float,
    *,
    motion: float | None,
    voice: Voice | None,
    norm: Baseline,
    transcript: Transcript,
    units: frozenset[str] | None = None,
) -> tuple[CheckedClaim, ...]:
    """Every claim of a reason with its evidence.

    Args:
      start, end: s, the segment.  motion: s, where its picture changes most.
      voice, norm: measured here, and usual in the recording.  units: action units measured in the segment (`AU04`).
    """
    out = []
    for claim in find_claims(reason):
        if claim.modality == "audio":
            out.append(_tone(claim, start, end, voice, norm))
        elif claim.modality == "text":
            out.append(_words(claim, start, end, transcript))
        else:
            at = (motion, motion) if motion is not None else (start, end)
            if units is None:
                by = "no action units were measured"
                verdict = NOT_CHECKABLE
            else:
                verdict = SUPPORTED if units & set(claim.means) else UNSUPPORTED
                by = f"measured: {', '.join(sorted(units)) or 'none'}"
            out.append(CheckedClaim(claim.phrase, "video", verdict, *at, by))
    return tuple(out)


def _tone(claim: Claim, start: float, end: float, voice: Voice | None, norm: Baseline) -> CheckedClaim:
    def found(verdict: str, by: str) -> CheckedClaim:
        return CheckedClaim(claim.phrase, "audio", verdict, start, end, by)

    if claim.means[0] not in _MEASURES:
        return found(NOT_CHECKABLE, "nothing measures this tone")
    measure, sign, least = _MEASURES[claim.means[0]]
    here = getattr(voice, measure) if voice is not None else None
    there = getattr(norm, measure)
    if here is None or there is None:
        return found(
            NOT_CHECKABLE,
            f"{measure} is not known" + (" here" if here is None else " of enough other segments"),
        )
    gap = 12 * float(np.log2(here / there)) if measure == "pitch" else here - there
    by = f"{measure} {gap:+.1f} {_UNITS[measure]} against the recording's median"
    return found(SUPPORTED if sign * gap >= least else UNSUPPORTED, by)


def _words(claim: Claim, start: float, end: float, transcript: Transcript) -> CheckedClaim:
    cues = transcript.between(start, end)
    if not cues:
        return CheckedClaim(claim.phrase, "text", NOT_CHECKABLE, start, end, "no words are known here")
    plain = _plain(claim.means[0])
    for cue in cues:
        if cue.end - cue.start <= LONG_CUE and plain in _plain(cue.text):
            return CheckedClaim(
                claim.phrase, "text", SUPPORTED, cue.start, cue.end, f"said: {cue.text[:200]}"
            )
    # Over several cues, or of a text without times: the words that fall into the segment.
    if plain in _plain(transcript.words(start, end)):
        return CheckedClaim(claim.phrase, "text", SUPPORTED, start, end, "said in this segment")
    if any(cue.end - cue.start > LONG_CUE for cue in cues):
        return CheckedClaim(
            claim.phrase, "text", NOT_CHECKABLE, start, end, "the words have no times of their own"
        )
    return CheckedClaim(
        claim.phrase, "text", UNSUPPORTED, start, end, "these words are not in the transcript here"
    )


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
