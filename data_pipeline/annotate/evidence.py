"""Checks the claims of a reason against measurements: supported, unsupported or not checkable.

Tone is compared with loudness, pitch and rate of the voice relative to medians (of the recording,
or of a speaker's clips), quoted words with the transcript, facial movements with the measured
action units. Without measurements a claim is not checkable, never unsupported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_pipeline.annotate.claims import Claim, find_claims, is_quoted, is_true
from data_pipeline.media.prosody import Voice
from data_pipeline.media.transcript import Transcript

SUPPORTED, UNSUPPORTED, NOT_CHECKABLE = "supported", "unsupported", "not checkable"
LONG_CUE = 20.0  # seconds; the position of a word in a longer cue is unknown
MIN_VOICES = 4  # measured voices that a median needs
# Tone -> (measure, sign, smallest difference to the median).
_MEASURES: dict[str, tuple[str, int, float]] = {
    "loud": ("loudness", 1, 2.0),  # dB
    "soft": ("loudness", -1, 2.0),
    "high": ("pitch", 1, 1.5),  # semitones
    "low": ("pitch", -1, 1.5),
    "fast": ("rate", 1, 0.5),  # syllables per second
    "slow": ("rate", -1, 0.5),
}
_UNITS = {"loudness": "dB", "pitch": "semitones", "rate": "syllables/s"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckedClaim:
    """One claim with its evidence.

    Attributes:
      phrase: the claim's words.
      modality: `video`, `audio` or `text`.
      verdict: SUPPORTED, UNSUPPORTED or NOT_CHECKABLE.
      start: seconds, start of the part of the recording that has the evidence.
      end: seconds, end of this part.
      by: the evidence in words.
    """

    phrase: str
    modality: str
    verdict: str
    start: float
    end: float
    by: str


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Medians over several voices; None if fewer than MIN_VOICES were measured.

    Attributes:
      loudness: dB.
      pitch: Hz.
      rate: syllables per second.
    """

    loudness: float | None
    pitch: float | None
    rate: float | None


def baseline(voices: Sequence[Voice | None]) -> Baseline:
    """Returns the medians of voices; None entries are ignored."""

    def median(name: str) -> float | None:
        known = [x for v in voices if v is not None and (x := getattr(v, name)) is not None]
        return float(np.median(known)) if len(known) >= MIN_VOICES else None

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
    reference: str = "the recording's median",
) -> tuple[CheckedClaim, ...]:
    """Checks every claim of a reason.

    Args:
      reason: a model's explanation for one segment.
      start: seconds, start of the segment.
      end: seconds, its end.
      motion: seconds, where the picture changes most; None if unknown.
      voice: measured in the segment.
      norm: medians that the voice is compared with.
      transcript: of the recording.
      units: codes (`AU04`) of the action units measured in the segment, None if not measured.
      reference: names `norm` in the evidence.
    """
    out = []
    for claim in find_claims(reason):
        if claim.modality == "audio":
            out.append(_check_tone(claim, start, end, voice=voice, norm=norm, reference=reference))
        elif claim.modality == "text":
            out.append(_check_words(claim, start, end, transcript))
        else:
            first, last = (motion, motion) if motion is not None else (start, end)
            out.append(_check_face(claim, first, last, units))
    return tuple(out)


def _check_face(
    claim: Claim, start: float, end: float, units: frozenset[str] | None
) -> CheckedClaim:
    if units is None:
        verdict, by = NOT_CHECKABLE, "no action units were measured"
    else:
        verdict = SUPPORTED if is_true(claim, units) else UNSUPPORTED
        by = f"measured: {', '.join(sorted(units)) or 'none'}"
    return CheckedClaim(
        phrase=claim.phrase, modality="video", verdict=verdict, start=start, end=end, by=by
    )


def _check_tone(
    claim: Claim, start: float, end: float, *, voice: Voice | None, norm: Baseline, reference: str
) -> CheckedClaim:
    def result(verdict: str, by: str) -> CheckedClaim:
        return CheckedClaim(
            phrase=claim.phrase, modality="audio", verdict=verdict, start=start, end=end, by=by
        )

    if claim.means[0] not in _MEASURES:
        return result(NOT_CHECKABLE, "nothing measures this tone")
    measure, sign, min_gap = _MEASURES[claim.means[0]]
    here = getattr(voice, measure) if voice is not None else None
    median = getattr(norm, measure)
    if here is None:
        return result(NOT_CHECKABLE, f"{measure} is not known here")
    if median is None:
        return result(NOT_CHECKABLE, f"{measure} was measured in fewer than {MIN_VOICES} voices")
    gap = 12 * float(np.log2(here / median)) if measure == "pitch" else here - median
    by = f"{measure} {gap:+.1f} {_UNITS[measure]} against {reference}"
    return result(SUPPORTED if sign * gap >= min_gap else UNSUPPORTED, by)


def _check_words(claim: Claim, start: float, end: float, transcript: Transcript) -> CheckedClaim:
    def result(verdict: str, by: str, *, first: float = start, last: float = end) -> CheckedClaim:
        return CheckedClaim(
            phrase=claim.phrase, modality="text", verdict=verdict, start=first, end=last, by=by
        )

    cues = transcript.between(start, end)
    if not cues:
        return result(NOT_CHECKABLE, "no words are known here")
    for cue in cues:
        if cue.end - cue.start <= LONG_CUE and is_quoted(claim, cue.text):
            return result(SUPPORTED, f"said: {cue.text[:200]}", first=cue.start, last=cue.end)
    # Over several cues, or in a text without times: the words within the segment.
    if is_quoted(claim, transcript.words(start, end)):
        return result(SUPPORTED, "said in this segment")
    if any(cue.end - cue.start > LONG_CUE for cue in cues):
        return result(NOT_CHECKABLE, "the words have no times of their own")
    return result(UNSUPPORTED, "these words are not in the transcript here")
