"""Who says what in the cues of subtitles: `ANNA: ...`, `[Anna] ...`, `<v Anna>...`, `- ...`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from data_pipeline.media.transcript import Cue

_VOICE_TAG = re.compile(r"<v(?:\.[\w.-]+)*\s+([^>]+)>")
_VOICE_END = re.compile(r"</v\s*>")
_TIMES = re.compile(r"<[\d:.]+>")
_MARK = re.compile("\x01([^\x02]*)\x02")  # replaces a voice tag, which pysubs2 would remove
_DASH = re.compile(r"^(?:>{2,3}|[-\u2010-\u2015])\s*(?![\d\s.,-])")  # another one speaks
# `ANNA:`, `Dr. Who:`, `Speaker 1:` at the start of a line name the speaker; `12:30` and
# `He said this: ...` do not.
_NAME = re.compile(
    r"([^\W\d_][\w.'\u2019-]*(?: [^\W_][\w.'\u2019-]*){0,2}"
    r"|\[[^\]]{1,30}\]|\([^)]{1,30}\)|\u3010[^\u3011]{1,30}\u3011)"
    r"\s?(?::(?=\s|$)|\uff1a)\s*"
)
_BRACKET = re.compile(r"(?:\[([^\]]{1,60})\]|\(([^)]{1,60})\)|\u3010([^\u3011]{1,30})\u3011)\s*")
# Subtitles for the deaf describe sounds in brackets; these words are not spoken.
_SOUND = re.compile(
    r"\b(?:music\w*|laugh\w*|applau\w*|cheer\w*|sigh\w*|gasp\w*|cry\w*|cries|sob\w*|scream\w*"
    r"|shout\w*|yell\w*|whisper\w*|chuckl\w*|giggl\w*|groan\w*|moan\w*|grunt\w*|cough\w*|sniff\w*"
    r"|snor\w*|breath\w*|inaudible|indistinct\w*|unintelligible|silen\w*|pause\w*|crosstalk"
    r"|overlapping|sing\w*|hum\w*|phone|door|knock\w*|bell|ring\w*|beep\w*|gun\w*|thunder|footsteps"
    r"|bark\w*|nois\w*|static|blank_audio|clears?|in|on|off|over|speak\w*|foreign|continues?"
    r"|playing|chatter\w*|audience|crowd)\b"
    "|[\u97f3\u7b11\u54ed\u53f9\u62cd]|\u638c\u58f0|\u638c\u8072|\u9f13\u638c|\u6b53\u58f0",
    re.I,
)
_NOTES = re.compile("[\u2669-\u266c]|#(?=\\s|$)")  # music signs


def voice_marks(text: str) -> str:
    """Replaces the voice tags of WebVTT by marks that `split_turns` reads."""
    text = _VOICE_TAG.sub("\x01\\1\x02", _TIMES.sub("", text))
    return _VOICE_END.sub("\x01\x02", text)


def split_turns(captions: Sequence[tuple[float, float, str, str]]) -> list[Cue]:
    """Separates what several people say in one cue, and removes what nobody says.

    Args:
      captions: (start, end, text with line breaks and voice marks, name in a field of its own);
        times in seconds.

    Returns:
      One cue for each turn. The turns of a cue share its time in proportion to their words.
    """
    found = [m.group(1) for _, _, text, _ in captions for m in _names(text)]
    names = Counter(found)
    if len(found) > 1 and 10 * len(found) >= 9 * len(captions):
        names.update(found)  # where nearly all cues begin with a name, each one counts as repeated
    cues = []
    for start, end, text, name in captions:
        turns = [(who, said) for who, said in _turns(text, name, names) if said]
        total, done = sum(len(said.split()) for _, said in turns), 0
        for who, said in turns:
            first, done = done, done + len(said.split())
            cues.append(
                Cue(
                    start=start + (end - start) * first / total,
                    end=start + (end - start) * done / total,
                    text=said,
                    speaker=who,
                )
            )
    return cues


def _names(text: str) -> Iterator[re.Match[str]]:
    for line in _MARK.sub("\n", text).splitlines():
        if match := _NAME.match(_DASH.sub("", line.strip())):
            yield match


def _turns(text: str, name: str, names: Counter[str]) -> list[tuple[str, str]]:
    """(speaker, words) of one cue; words may be ""."""
    turns: list[tuple[str, list[str]]] = [(name, [])]
    parts = _MARK.split(text)  # text, name, text, name, text ...
    for number, part in enumerate(parts):
        if number % 2:
            turns.append((part.strip(), []))
            continue
        for line in part.splitlines():
            words = _NOTES.sub("", line).strip()
            undashed = _DASH.sub("", words)
            if undashed != words and turns[-1][1]:
                turns.append((name, []))
            words, speaker = undashed, ""
            if (match := _NAME.match(words)) and _is_name(match.group(1), names):
                speaker, words = match.group(1).strip("[]()\u3010\u3011"), words[match.end() :]
            elif match := _BRACKET.match(words):
                inside = next(filter(None, match.groups()))
                if words[match.end() :] and _is_bracketed_name(inside):
                    speaker, words = inside, words[match.end() :]
            if speaker:
                turns.append((speaker, []))
            turns[-1][1].extend(_spoken(words).split())
    return [(speaker, " ".join(words)) for speaker, words in turns]


def _spoken(words: str) -> str:
    """A line without descriptions of sounds: brackets around the whole line or around a sound."""

    def replace(match: re.Match[str]) -> str:
        inside = next(filter(None, match.groups()))
        whole = match.group().strip() == words.strip()
        return " " if whole or _SOUND.search(inside) else match.group()

    return _BRACKET.sub(replace, words)


def _is_bracketed_name(inside: str) -> bool:
    parts = inside.split()
    capitals = len(parts) <= 3 and all(p[0] != p[0].lower() or p[0].isdigit() for p in parts)
    caseless = inside.lower() == inside.upper() and len(inside) <= 6
    return (capitals or caseless) and not _SOUND.search(inside)


def _is_name(word: str, names: Counter[str]) -> bool:
    """Whether a word before a colon is a name: `ANNA`, `Speaker 1`, `[Anna]`, or capitalized twice.

    A capitalized word that occurs once may be the beginning of a sentence, as in `Remember: ...`.
    """
    if word[0] in "[(\u3010":
        return not _SOUND.search(word)
    caseless = word.lower() == word.upper()
    marked = word.isupper() or word.rsplit(maxsplit=1)[-1].isdigit()
    capitals = all(part[0].isupper() or part[0].isdigit() for part in word.split())
    return marked or ((capitals or caseless) and (names[word] > 1 or " " in word))
