"""What a description claims that can be checked: movements of the face, tone of voice, words said.

Phrases are our own choice; action units are named as in FACS. A phrase may stand for several units (a smile is unit 6 or 12): it
is true where one of them was measured. What a text denies is no claim.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence

from data_pipeline.schema import ClipRecord

MODALITIES = ("video", "audio", "text")
# phrase (regular expression) -> action units, any of which makes it true
UNIT_PHRASES: dict[str, tuple[int, ...]] = {
    r"inner (?:eye)?brows? (?:are |is )?(?:raised|lifted|up)|raised inner brows?|forehead (?:is )?(?:wrinkled|creased)": (1,),
    r"outer (?:eye)?brows? (?:are |is )?(?:raised|lifted|up)|raised outer brows?|one raised brow": (2,),
    r"(?:eye)?brows? (?:are |is )?(?:slightly )?(?:raised|lifted)|rais(?:es|ed|ing) (?:his |her |their |the )?(?:eye)?brows?|raised (?:eye)?brows?": (1, 2),
    r"frown\w*|furrow\w*|knit\w* (?:his |her |their |the )?(?:eye)?brows?|(?:eye)?brows? (?:are |is )?(?:lowered|drawn|knitted|knit)|lowered brows?|brow lowerer": (4,),
    r"(?:wide|widened|wide-open|bulging) eyes?|eyes? (?:are )?(?:wide|widened|open wide)|wide open eyes|upper lid raiser|widen(?:s|ing) (?:his |her |their )?eyes?": (5,),
    r"cheeks? (?:are |is )?(?:raised|lifted)|lifted cheeks|cheek raiser|crow's feet": (6,),
    r"(?:narrowed|squinted|squinting|tightened) (?:eyes?|lids?)|eyes? (?:are )?(?:narrowed|squinted)|squint\w*|lid tightener": (6, 7),
    r"smil\w+|grin\w*|beam(?:s|ing)|laugh\w*|lip corner puller|mouth corners? (?:are |is )?(?:raised|up|lifted|turned up)": (6, 12),
    r"(?:wrinkl\w+|scrunch\w+) (?:his |her |their |the )?nose|nose (?:is )?(?:wrinkled|scrunched)|nose wrinkler": (9,),
    r"(?:curl\w*|raised|sneering) (?:upper )?lip|upper lip (?:is )?(?:raised|curled)|sneer\w*|upper lip raiser|bared teeth": (10,),
    r"dimpl\w+|smirk\w*": (12, 14),
    r"(?:mouth|lip) corners? (?:are |is )?(?:down\w*|droop\w*|turned down|pulled down)|drooping mouth corners|down-?turned (?:mouth|lips)|lip corner depressor|pout\w*": (15,),
    r"chin (?:is )?(?:raised|pushed up|trembling|quivering)|pushed up chin|chin raiser": (17,),
    r"(?:stretched|tense|tight) lips|lips? (?:are )?stretched|lip stretcher": (20, 23),
    r"(?:pressed|pursed|compressed|thin) lips?|lips? (?:are )?(?:pressed|pursed|tight\w*|compressed)|lip tightener|pressed thin lips|clenched (?:jaw|teeth)": (23, 24),
    r"(?:parted|open) lips?|lips? (?:are )?(?:slightly )?(?:parted|apart|open)|lips part": (25,),
    r"mouth (?:is |hangs |wide |slightly )*(?:open|agape)|open mouth|(?:dropped|dropping|slack) jaw|jaw (?:is )?(?:dropped|drop|hanging|open)|jaw drop|gap(?:es|ing)": (25, 26, 27),
    r"(?:sucked in|bitten|biting) (?:his |her |their )?lips?|lip suck|bites? (?:his |her |their )?lips?": (28,),
}  # fmt: skip
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
# A denial reaches to the end of its clause, over a list (`no joy, anger or fear`), but not over another verb.
_DENIAL = re.compile(
    r"\b(?:\w+n't|not|no|never|neither|nor|without|hardly|lacks?|lacking|cannot|rather than|instead of|absence of|far from"
    r"|anything but|free of|devoid of)\b"
)
_NO_DENIAL = re.compile(
    r"\b(?:without (?:a |any )?doubt|no doubt|not only|never (?:been |felt |seemed |looked )*(?:so|more))\b"
)
_ENDS = re.compile(
    r"[.;!?]|\b(?:but|however|while|although|though|yet|instead|is|are|was|look(?:s|ed)?|seem(?:s|ed)?|appear(?:s|ed)?|show(?:s|ed)?|sound(?:s|ed)?|feels?|felt|rather(?! than)|he|she|they|it)\b"
)
# only sentences about the voice claim a tone
_VOICE = re.compile(
    r"\b(?:tone|voice|intonation|speech|speaks?|spoken|speaking|says?|said|saying|sounds?|vocal\w*|pitch|volume|utter\w*)\b"
)
_CONCLUSION = re.compile(
    r"\b(?:so|therefore|thus|hence),? (?:it|he|she|they|this|(?:the )?(?:person|man|woman|speaker)) (?:is|are|feels?|seems?) (?:\w+ly )?$"
)
_QUOTE = re.compile(r"[\"“]([^\"”]{3,300})[\"”]|(?<![\w])'([^']{3,300})'(?![\w])")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim. `means`: what would make it true: action units as `AU04`, tones, or the words quoted."""

    modality: str
    phrase: str
    means: tuple[str, ...]


@functools.cache
def _patterns() -> tuple[
    list[tuple[re.Pattern[str], tuple[str, ...]]], list[tuple[re.Pattern[str], str]]
]:
    units = [
        (re.compile(rf"\b(?:{p})\b"), tuple(f"AU{u:02d}" for u in found))
        for p, found in UNIT_PHRASES.items()
    ]
    return units, [(re.compile(rf"\b(?:{p})\b"), name) for name, p in TONE_PHRASES.items()]


def denied(before: str) -> bool:
    """Whether what follows a piece of text is denied by it: `not`, `no joy, anger or`, `isn't really`."""
    clause = before[max((m.end() for m in re.finditer(r"[.;!?]", before)), default=0) :]
    clause = _NO_DENIAL.sub(" ", clause)
    last = max((m for m in _DENIAL.finditer(clause)), key=lambda m: m.start(), default=None)
    if last is None:
        return False
    reach = clause[last.end() :]
    if last.group().endswith("n't") or last.group() in ("not", "never"):
        # `does not look sad`: the verb that is denied belongs to the denial
        reach = re.sub(
            r"^\s*(?:\w+ly\s+)?(?:be|look|seem|appear|show|sound|feel|looking|seeming|feeling|showing|sounding)\b",
            "",
            reach,
        )
    if _ENDS.search(reach):
        return False
    # over a comma only where it goes on as a list of single words
    return all(
        len(piece.split()) <= (4 if n == 0 else 2)
        for n, piece in enumerate(reach.split(","))
        if piece.strip()
    ) or ("," not in reach and len(reach.split()) <= 6)


def find_claims(text: str) -> list[Claim]:
    """Claims of a text, in the order of their kinds, each once."""
    lower = text.lower().replace("’", "'")
    units, tones = _patterns()
    found: dict[tuple[str, tuple[str, ...]], Claim] = {}

    def note(modality: str, phrase: str, means: tuple[str, ...], before: str) -> None:
        if not denied(before):
            found.setdefault((modality, means), Claim(modality, phrase, means))

    taken: list[
        tuple[int, int]
    ] = []  # a longer phrase that was read first (`inner brows raised`) is not read again
    for pattern, means in units:
        for match in pattern.finditer(lower):
            if not any(a < match.end() and match.start() < b for a, b in taken):
                taken.append(match.span())
                note("video", match.group(), means, lower[: match.start()])
    for sentence in re.split(r"(?<=[.!?;])\s+", lower):
        if _VOICE.search(sentence):
            for pattern, name in tones:
                for heard in pattern.finditer(sentence):
                    if _CONCLUSION.search(sentence[: heard.start()]):
                        continue  # `so it is sad` names the emotion, not the voice
                    note("audio", heard.group(), (name,), sentence[: heard.start()])
    for match in _QUOTE.finditer(text):
        words = (match.group(1) or match.group(2)).strip(" .,!?").lower()
        if len(words.split()) > 1:
            note("text", words, (words,), "")
    return list(found.values())


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is known of a clip. None: nothing is known of this modality, so a claim of it can not be checked."""

    units: frozenset[str] | None
    tones: frozenset[str] | None
    words: str | None

    def check(self, claim: Claim) -> str:
        """`supported`, `contradicted` or `unknown`."""
        if claim.modality == "text":
            if self.words is None:
                return "unknown"
            return "supported" if _plain(claim.means[0]) in _plain(self.words) else "contradicted"
        known = self.units if claim.modality == "video" else self.tones
        if known is None:
            return "unknown"
        return "supported" if known & set(claim.means) else "contradicted"


def evidence_of(record: ClipRecord) -> Evidence:
    """Action units, tone and words of a record (those of MERR; any record with `action_units`, `audio` and a subtitle)."""
    units = [
        u
        for key in ("action_units", "peak_action_units")
        for u in record.texts.get(key, "").split(", ")
        if u
    ]
    tone = record.texts.get("audio", "")
    heard = tone.lower()
    tones = frozenset(
        n
        for p, n in _patterns()[1]
        if any(not denied(heard[: m.start()]) for m in p.finditer(heard))
    )
    return Evidence(
        frozenset(units)
        if "action_units" in record.texts or "peak_action_units" in record.texts
        else None,
        tones if tones else None,
        record.subtitle or None,
    )


def claim_scores(texts: Sequence[str], records: Sequence[ClipRecord]) -> dict[str, object]:
    """How true the claims of texts are, over all clips: no judge, no model.

    Returns:
      precision (supported among supported and contradicted claims), recall (true action units and tones that are claimed),
      claims, unknown, and the same by modality; recall of words is not defined (nobody has to quote).
    """
    out: dict[str, object] = {}
    total = dict.fromkeys(("supported", "contradicted", "unknown", "true", "named"), 0)
    for modality in MODALITIES:
        n = dict.fromkeys(total, 0)
        for text, record in zip(texts, records, strict=True):
            evidence = evidence_of(record)
            claims = [c for c in find_claims(text) if c.modality == modality]
            for claim in claims:
                n[evidence.check(claim)] += 1
            true = {"video": evidence.units, "audio": evidence.tones}.get(modality) or frozenset()
            n["true"] += len(true)
            n["named"] += len(true & {m for c in claims for m in c.means})
        out[modality] = _shares(n)
        total = {k: total[k] + n[k] for k in total}
    return {**_shares(total), "by_modality": out}


def _shares(n: dict[str, int]) -> dict[str, float | int | None]:
    checked = n["supported"] + n["contradicted"]
    return {
        "precision": n["supported"] / checked if checked else None,
        "recall": n["named"] / n["true"] if n["true"] else None,
        "claims": checked + n["unknown"],
        "unknown": n["unknown"],
    }
