"""Claims in a description that can be checked: facial movements, tone of voice, quoted words.

The phrases are our own; action units are named as in FACS. A phrase may stand for several units (a
smile is unit 6 or 12): it is true if any of them was measured. Negated phrases are not claims.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence

from data_pipeline.answers.negation import is_negated
from data_pipeline.schema import MODALITIES, ClipRecord

# Regular expression -> action units, any of which makes the phrase true.
UNIT_PHRASES: dict[str, tuple[int, ...]] = {
    (
        r"inner (?:eye)?brows? (?:are |is )?(?:raised|lifted|up)|raised inner brows?|"
        r"forehead (?:is )?(?:wrinkled|creased)"
    ): (1,),
    (
        r"outer (?:eye)?brows? (?:are |is )?(?:raised|lifted|up)|raised outer brows?|"
        r"one raised brow"
    ): (2,),
    (
        r"(?:eye)?brows? (?:are |is )?(?:slightly )?(?:raised|lifted)|rais(?:es|ed|"
        r"ing) (?:his |her |their |the )?(?:eye)?brows?|raised (?:eye)?brows?"
    ): (1, 2),
    (
        r"frown\w*|furrow\w*|knit\w* (?:his |her |their |the )?(?:eye)?brows?|"
        r"(?:eye)?brows? (?:are |is )?(?:lowered|drawn|knitted|knit)|lowered brows?|"
        r"brow lowerer"
    ): (4,),
    (
        r"(?:wide|widened|wide-open|bulging) eyes?|eyes? (?:are )?(?:wide|widened|open wide)|"
        r"wide open eyes|upper lid raiser|widen(?:s|ing) (?:his |her |their )?eyes?"
    ): (5,),
    r"cheeks? (?:are |is )?(?:raised|lifted)|lifted cheeks|cheek raiser|crow's feet": (6,),
    (
        r"(?:narrowed|squinted|squinting|tightened) (?:eyes?|lids?)|eyes? (?:are )?(?:narrowed|"
        r"squinted)|squint\w*|lid tightener"
    ): (6, 7),
    (
        r"smil\w+|grin\w*|beam(?:s|ing)|laugh\w*|lip corner puller|mouth corners? (?:are |"
        r"is )?(?:raised|up|lifted|turned up)"
    ): (6, 12),
    (
        r"(?:wrinkl\w+|scrunch\w+) (?:his |her |their |the )?nose|nose (?:is )?(?:wrinkled|"
        r"scrunched)|nose wrinkler"
    ): (9,),
    (
        r"(?:curl\w*|raised|sneering) (?:upper )?lip|upper lip (?:is )?(?:raised|curled)|"
        r"sneer\w*|upper lip raiser|bared teeth"
    ): (10,),
    r"dimpl\w+|smirk\w*": (12, 14),
    (
        r"(?:mouth|lip) corners? (?:are |is )?(?:down\w*|droop\w*|turned down|pulled down)|"
        r"drooping mouth corners|down-?turned (?:mouth|lips)|lip corner depressor|pout\w*"
    ): (15,),
    r"chin (?:is )?(?:raised|pushed up|trembling|quivering)|pushed up chin|chin raiser": (17,),
    r"(?:stretched|tense|tight) lips|lips? (?:are )?stretched|lip stretcher": (20, 23),
    (
        r"(?:pressed|pursed|compressed|thin) lips?|lips? (?:are )?(?:pressed|pursed|tight\w*|"
        r"compressed)|lip tightener|pressed thin lips|clenched (?:jaw|teeth)"
    ): (23, 24),
    r"(?:parted|open) lips?|lips? (?:are )?(?:slightly )?(?:parted|apart|open)|lips part": (25,),
    (
        r"mouth (?:is |hangs |wide |slightly )*(?:open|agape)|open mouth|(?:dropped|dropping|"
        r"slack) jaw|jaw (?:is )?(?:dropped|drop|hanging|open)|jaw drop|gap(?:es|ing)"
    ): (25, 26, 27),
    (
        r"(?:sucked in|bitten|biting) (?:his |her |their )?lips?|lip suck|bites? (?:his |her |"
        r"their )?lips?"
    ): (28,),
}
# Tone -> regular expression.
TONE_PHRASES: dict[str, str] = {
    "loud": r"loud\w*|shout\w*|yell\w*|scream\w*|raised voice",
    "soft": r"soft(?:ly)?|quiet(?:ly)?|whisper\w*|low volume|faint",
    "fast": r"(?:fast|rapid|quick|hurried)(?:ly)?(?: speech| pace| voice)?",
    "slow": r"slow(?:ly)?(?: speech| pace)?",
    "high": r"high[- ]pitch\w*|high pitch|shrill",
    "low": r"low[- ]pitch\w*|low pitch|deep voice",
    "trembling": r"trembl\w+|shak(?:y|ing) voice|quiver\w*|choked",
    "joyful": r"joyful\w*|cheerful\w*|happy (?:tone|voice|emotion)",
    "sad": r"(?:sad|sorrowful|mournful|crying|sobbing)(?:ly)?(?: tone| voice| emotion)?|sobs?",
    "shocked": r"shock\w*|astonish\w*|surprised (?:tone|voice)",
    "fearful": r"fearful\w*|frightened (?:tone|voice)|terrified",
    "angry": r"angr\w+|furious\w*|irritat\w+",
    "positive": r"positive",
    "negative": r"negative",
    "calm": r"calm\w*|composed|even voice|steady (?:tone|voice)|neutral (?:tone|voice)",
    "doubtful": r"doubt\w*|uncertain\w*|hesitant\w*|sceptical|skeptical|questioning (?:tone|voice)",
    "dismissive": r"dismissive\w*|contempt\w*|disdain\w*|scorn\w*|sarcas\w+|mocking",
}
# Only sentences about the voice claim a tone.
_VOICE = re.compile(
    r"\b(?:tone|voice|intonation|speech|speaks?|spoken|speaking|says?|said|saying|sounds?|"
    r"vocal\w*|pitch|volume|utter\w*)\b"
)
_CONCLUSION = re.compile(
    r"\b(?:so|therefore|thus|hence),? (?:it|he|she|they|this|(?:the )?(?:person|man|woman|"
    r"speaker)) (?:is|are|feels?|seems?) (?:\w+ly )?$"
)
_QUOTE = re.compile(r"[\"“]([^\"”]{3,300})[\"”]|(?<![\w])'([^']{3,300})'(?![\w])")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim of a text.

    Attributes:
      modality: one of MODALITIES.
      phrase: the words of the text, in lower case.
      means: what would make it true, any of: action units (`AU04`), a tone, the quoted words.
    """

    modality: str
    phrase: str
    means: tuple[str, ...]


@functools.cache
def _patterns() -> tuple[
    list[tuple[re.Pattern[str], tuple[str, ...]]], list[tuple[re.Pattern[str], str]]
]:
    units = [
        (re.compile(rf"\b(?:{phrase})\b"), tuple(f"AU{u:02d}" for u in numbers))
        for phrase, numbers in UNIT_PHRASES.items()
    ]
    tones = [(re.compile(rf"\b(?:{p})\b"), name) for name, p in TONE_PHRASES.items()]
    return units, tones


def find_claims(text: str) -> list[Claim]:
    """Returns the claims of a text: face, voice, quotes; each meaning once."""
    lower = text.lower().replace("’", "'")
    units, tones = _patterns()
    claims: dict[tuple[str, tuple[str, ...]], Claim] = {}

    def add(modality: str, phrase: str, means: tuple[str, ...], before: str) -> None:
        if not is_negated(before):
            claims.setdefault((modality, means), Claim(modality, phrase, means))

    matched: list[tuple[int, int]] = []  # parts of a longer phrase are not matched again
    for pattern, means in units:
        for match in pattern.finditer(lower):
            if not any(a < match.end() and match.start() < b for a, b in matched):
                matched.append(match.span())
                add("video", match.group(), means, lower[: match.start()])
    for sentence in re.split(r"(?<=[.!?;])\s+", lower):
        if _VOICE.search(sentence):
            for pattern, name in tones:
                for match in pattern.finditer(sentence):
                    before = sentence[: match.start()]
                    if not _CONCLUSION.search(before):  # `so it is sad` names the emotion
                        add("audio", match.group(), (name,), before)
    for match in _QUOTE.finditer(text):
        words = (match.group(1) or match.group(2)).strip(" .,!?").lower()
        if len(words.split()) > 1:
            add("text", words, (words,), "")
    return list(claims.values())


def plain_words(text: str) -> str:
    """Returns the words of a text in lower case, separated by single spaces."""
    return " ".join(re.findall(r"\w+", text.lower()))


def is_true(claim: Claim, known: frozenset[str]) -> bool:
    """Whether any of the action units or tones that a claim may mean is among the known ones."""
    return not known.isdisjoint(claim.means)


def is_quoted(claim: Claim, words: str) -> bool:
    """Whether the words that a claim quotes occur in a transcript."""
    return plain_words(claim.means[0]) in plain_words(words)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The measurements and words of a clip; claims about a field that is None cannot be checked.

    Attributes:
      units: codes of the action units that are present.
      tones: keys of TONE_PHRASES.
      words: the transcript.
    """

    units: frozenset[str] | None
    tones: frozenset[str] | None
    words: str | None

    def check(self, claim: Claim) -> str:
        """Returns `supported`, `contradicted` or `unknown`."""
        if claim.modality == "text":
            if self.words is None:
                return "unknown"
            return "supported" if is_quoted(claim, self.words) else "contradicted"
        known = self.units if claim.modality == "video" else self.tones
        if known is None:
            return "unknown"
        return "supported" if is_true(claim, known) else "contradicted"


def evidence_of(record: ClipRecord) -> Evidence:
    """Returns the evidence of a record: its action unit texts, its `audio` text, its subtitle."""
    keys = ("action_units", "peak_action_units")
    units = [u for key in keys for u in record.texts.get(key, "").split(", ") if u]
    voice = record.texts.get("audio", "").lower()
    tones = frozenset(
        name
        for pattern, name in _patterns()[1]
        if any(not is_negated(voice[: m.start()]) for m in pattern.finditer(voice))
    )
    return Evidence(
        units=frozenset(units) if any(key in record.texts for key in keys) else None,
        tones=tones or None,
        words=record.subtitle or None,
    )


def claim_scores(texts: Sequence[str], records: Sequence[ClipRecord]) -> dict[str, object]:
    """Scores the claims of texts against the records, without a judge model.

    Args:
      texts: one description per clip.
      records: the clips, in the same order.

    Returns:
      `precision` (supported / (supported + contradicted)), `recall` (share of the true action units
      and tones that are claimed; undefined for words, which need not be quoted), `claims`,
      `unknown`, and the same `by_modality`; None where undefined.
    """
    by_modality: dict[str, object] = {}
    total = dict.fromkeys(("supported", "contradicted", "unknown", "true", "named"), 0)
    for modality in MODALITIES:
        count = dict.fromkeys(total, 0)
        for text, record in zip(texts, records, strict=True):
            evidence = evidence_of(record)
            claims = [c for c in find_claims(text) if c.modality == modality]
            for claim in claims:
                count[evidence.check(claim)] += 1
            true = {"video": evidence.units, "audio": evidence.tones}.get(modality) or frozenset()
            count["true"] += len(true)
            count["named"] += len(true & {m for c in claims for m in c.means})
        by_modality[modality] = _rates(count)
        total = {k: total[k] + count[k] for k in total}
    return {**_rates(total), "by_modality": by_modality}


def _rates(count: dict[str, int]) -> dict[str, float | int | None]:
    checked = count["supported"] + count["contradicted"]
    return {
        "precision": count["supported"] / checked if checked else None,
        "recall": count["named"] / count["true"] if count["true"] else None,
        "claims": checked + count["unknown"],
        "unknown": count["unknown"],
    }
