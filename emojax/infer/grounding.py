"""Limits answers to what the clip contains: no label without a person, no invented words.

A model answers any input. Where nobody is seen, heard or quoted, the answer is "cannot tell". Parts
of a written answer that describe words, a voice or a picture which the clip does not have are left
out. This rule holds for `predict`, timelines, the server's routes and its page.
"""

from __future__ import annotations

import dataclasses
import re

from data_pipeline.annotate.claims import find_claims
from data_pipeline.media.presence import SPEECH, WORDS, find_signs, missing_signs
from data_pipeline.schema import Clip

_PART = re.compile(r"[^,.;:!?，。；：！？]*[,.;:!?，。；：！？]*\s*")
_END = re.compile(r"[.;!?。；！？]\s*$")
_CONCLUDES = re.compile(
    r"^\s*(?:and\s+)?(?:so|therefore|thus|hence|overall|所以|因此|综上)\b|^\s*[所因综]"
)
# What a part of a reason is about. Words come first: "the voice says that ..." quotes them.
_ABOUT = {
    "words": re.compile(
        r"\b(?:says?|said|saying|words?|quot\w+|transcript\w*|subtitles?|captions?|speaks? of"
        r"|speaking of|talks? (?:of|about)|mentions?|utter\w*|states? that|verbal\w*|phrases?)\b"
        r"|[“”\"]|字幕|台词|说|話|话语",
        re.I,
    ),
    "voice": re.compile(
        r"\b(?:sounds?|audio|voices?|vocal\w*|tones?|pitch\w*|intonation|speech|speaks?|speaking"
        r"|spoken|loud\w*|whisper\w*|shout\w*)\b|声音|語氣|语气|语调|音调|嗓音",
        re.I,
    ),
    "picture": re.compile(
        r"\b(?:pictures?|videos?|images?|frames?|faces?|facial|eyes?|eyebrows?|brows?|mouth|lips?"
        r"|smil\w+|gaze|gestures?|posture|visual\w*)\b|画面|视频|表情|眼|眉|嘴|脸",
        re.I,
    ),
}
_NAMES = {"words": "words", "voice": "a voice", "picture": "a picture"}
_EDGES = " ,;:，；：\n"  # before a part that was left out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grounds:
    """What a clip has that an answer may be about.

    Attributes:
      modalities: those of the clip.
      signs: what `find_signs` found in it.
      missing: sentences on what was not found.
    """

    modalities: tuple[str, ...]
    signs: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def nobody(self) -> bool:
        """Whether nobody is seen, heard or quoted, so that no answer is given."""
        return not self.signs

    def absent(self) -> frozenset[str]:
        """The keys of `_ABOUT` that the clip does not have."""
        has = {
            "words": WORDS in self.signs,
            "voice": SPEECH in self.signs,
            "picture": "video" in self.modalities,
        }
        return frozenset(about for about, present in has.items() if not present)


def find_grounds(clip: Clip) -> Grounds:
    """Looks for a face, speech and words in a clip."""
    signs = find_signs(clip)
    return Grounds(
        modalities=clip.modalities, signs=signs, missing=tuple(missing_signs(clip, signs))
    )


def grounded_text(text: str, grounds: Grounds) -> tuple[str, list[str]]:
    """Leaves out what a text describes and the clip does not have.

    Args:
      text: a reason or an answer that a model wrote.
      grounds: of the clip.

    Returns:
      The text, "" where there is nobody, and a note on what was left out, if anything was.
    """
    if grounds.nobody:
        return "", []
    kept, left_out = _split(text, grounds)
    if not left_out:
        return text, []
    names = " and ".join(_NAMES[about] for about in dict.fromkeys(left_out))
    note = (
        f"the written reason described {names} that the clip does not have: this part is left out"
    )
    return "".join(kept).rstrip(_EDGES), [note]


def grounded_start(text: str, grounds: Grounds) -> str:
    """The beginning of `grounded_text` that holds for every continuation of an unfinished text."""
    if grounds.nobody:
        return ""
    if not grounds.absent():
        return text
    # What the last part is about may be in words that are still to come.
    last = [m.start() for m in _PART.finditer(text) if m.group()][-1:]
    kept, _ = _split(text[: last[0]] if last else "", grounds)
    return "".join(kept).rstrip(_EDGES)


def _split(text: str, grounds: Grounds) -> tuple[list[str], list[str]]:
    """The parts that are kept, and what the others are about."""
    absent = grounds.absent()
    kept, left_out, about = [], [], ""
    for match in _PART.finditer(text):
        part = match.group()
        if not part:
            continue
        if _CONCLUDES.search(part):
            about = ""
        elif _quotes(part):
            about = "words"
        else:
            about = next((k for k, pattern in _ABOUT.items() if pattern.search(part)), about)
        if about in absent:
            left_out.append(about)
        else:
            kept.append(part)
        if _END.search(part):
            about = ""
    return kept, left_out


def _quotes(part: str) -> bool:
    return any(claim.modality == "text" for claim in find_claims(part))
