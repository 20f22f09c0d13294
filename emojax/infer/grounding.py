"""Keeps an answer to what the clip has: no label where nobody is, no words that nobody said.

A model answers whatever it is given. Where nobody is seen, heard or quoted the answer is "cannot
tell". The parts of a written reason that describe words, a voice or a picture which the clip does
not have are left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from data_pipeline.annotate.claims import find_claims
from data_pipeline.media.presence import SPEECH, WORDS

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


def grounded_reason(
    reason: str, *, modalities: Collection[str], signs: Collection[str]
) -> tuple[str, list[str]]:
    """Leaves out what a reason describes and the clip does not have.

    Args:
      reason: the text that a model wrote.
      modalities: those of the clip.
      signs: what `find_signs` found in it.

    Returns:
      The text, and what was left out of it: `words`, `a voice`, `a picture`.
    """
    absent = {
        "words": WORDS not in signs,
        "voice": SPEECH not in signs,
        "picture": "video" not in modalities,
    }
    names = {"words": "words", "voice": "a voice", "picture": "a picture"}
    kept, left_out, about = [], [], ""
    for match in _PART.finditer(reason):
        part = match.group()
        if not part:
            continue
        if _CONCLUDES.search(part):
            about = ""
        elif _quotes(part):
            about = "words"
        else:
            about = next((k for k, pattern in _ABOUT.items() if pattern.search(part)), about)
        if absent.get(about, False):
            left_out.append(names[about])
        else:
            kept.append(part)
        if _END.search(part):
            about = ""
    if not left_out:
        return reason, []
    return "".join(kept).strip(" ,;:，；：\n"), list(dict.fromkeys(left_out))


def _quotes(part: str) -> bool:
    return any(claim.modality == "text" for claim in find_claims(part))
