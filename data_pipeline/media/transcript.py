"""Words with their times: .srt, .vtt, .ass and .txt files given by the user, or segments of a transcription."""

from __future__ import annotations

import dataclasses
import html
import re
from collections import Counter
from pathlib import Path

import pysubs2

from data_pipeline.media.stream import length_of

SUFFIXES = (".srt", ".vtt", ".ass", ".ssa", ".txt")
NONE, TRANSCRIBED, OPTION = (
    "none",
    "transcribed",
    "option",
)  # where words are from, beside a file's name
_VOICE_TAG = re.compile(r"<v(?:\.[\w.]+)?\s+([^>]+)>")
_TIMES = re.compile(r"<[\d:.]+>")
_MARK = re.compile("^\x01([^\x02]*)\x02")  # stands for a voice tag while the library reads
# `ANNA:`, `Dr. Who:`, `Speaker 1:` at the start of a cue name who speaks; `12:30` and `He said this: ...` do not.
_NAME = re.compile(
    r"^\s*(?:-\s*)?([^\W\d_][\w.'’-]*(?: [^\W_][\w.'’-]*){0,2}|\[[^\]]{1,30}\]):\s+(?=\S)"
)


class TranscriptError(ValueError):
    """A subtitle file that can not be read; str() names it and says what is wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cue:
    """What was said between two times (s). speaker: "" when the file does not name one."""

    start: float
    end: float
    text: str
    speaker: str = ""


@dataclasses.dataclass(frozen=True)
class Transcript:
    """Cues in order of their starts. source: the file, TRANSCRIBED, OPTION or NONE. language: as given, "" if unknown."""

    cues: tuple[Cue, ...] = ()
    source: str = NONE
    language: str = ""

    def between(self, start: float, end: float) -> tuple[Cue, ...]:
        """Cues of which at least half, or half of the span, lies inside."""
        found = []
        for cue in self.cues:
            shared = min(cue.end, end) - max(cue.start, start)
            if shared > 0 and shared >= min(cue.end - cue.start, end - start) / 2:
                found.append(cue)
        return tuple(found)

    def words(self, start: float, end: float) -> str:
        """The words of a span; of a cue that reaches over its border those in proportion to its time.

        A word belongs to one span alone where spans follow each other without a gap.
        """
        out = []
        for cue in self.cues:
            if cue.end <= start or cue.start >= end:
                continue
            words, length = cue.text.split(), cue.end - cue.start
            # The middle of each word, if all take the same time, decides.
            for i, word in enumerate(words):
                if start <= cue.start + (i + 0.5) * length / len(words) < end:
                    out.append(word)
        return " ".join(out)

    def speakers(self, start: float, end: float) -> tuple[str, ...]:
        """Who is named as speaking in a span, longest first."""
        time: dict[str, float] = {}
        for cue in self.cues:
            shared = min(cue.end, end) - max(cue.start, start)
            if cue.speaker and shared > 0:
                time[cue.speaker] = time.get(cue.speaker, 0.0) + shared
        return tuple(sorted(time, key=lambda name: -time[name]))


def whole_text(text: str, media: str) -> Transcript:
    """Words without times, for a whole recording; `media`: its path, of which only the length is read.

    Raises:
      ClipError: the recording can not be read.
    """
    words = " ".join(text.split())
    return (
        Transcript((Cue(start=0.0, end=max(length_of(media), 0.01), text=words),), OPTION)
        if words
        else Transcript()
    )


def read_transcript(path: Path, *, duration: float = 0.0) -> Transcript:
    """Reads a subtitle file; plain text (.txt) is one cue over the whole recording.

    Args:
      duration: seconds of the recording, for plain text.

    Raises:
      TranscriptError: not text, or no subtitle format; a fault is named with the file.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise TranscriptError(f"{path}: words are read from {', '.join(SUFFIXES)} files")
    text, encoding = _decoded(path)
    source = path.name if encoding == "UTF-8" else f"{path.name} (read as {encoding})"
    if path.suffix.lower() == ".txt":
        words = " ".join(text.split())
        return Transcript(
            (Cue(start=0.0, end=max(duration, 0.01), text=words),) if words else (), source
        )
    kind = path.suffix.lower().lstrip(".")
    try:
        found = pysubs2.SSAFile.from_string(
            _VOICE_TAG.sub("\x01\\1\x02", _TIMES.sub("", text) if kind == "vtt" else text),
            format_=kind,
        )
    except Exception as error:  # whatever the library raises on text of another kind
        raise TranscriptError(
            f"{path} can not be read as .{kind} ({type(error).__name__}: {error})"
        ) from error
    events = [e for e in found if not e.is_comment and e.end > e.start]
    texts = [" ".join(e.plaintext.split()) for e in events]
    if kind == "vtt":
        texts = [html.unescape(t) for t in texts]
    names = Counter(m.group(1) for t in texts if (m := _NAME.match(t)))
    cues = []
    for event, said in zip(events, texts, strict=True):
        name = event.name
        if match := _MARK.match(said):
            name, said = match.group(1).strip(), said[match.end() :].strip()
        elif (match := _NAME.match(said)) and _is_name(match.group(1), names):
            name, said = name or match.group(1).strip("[]"), said[match.end() :]
        if said:
            cues.append(
                Cue(start=event.start / 1000, end=event.end / 1000, text=said, speaker=name)
            )
    if not cues and text.strip() and text.strip() != "WEBVTT":
        raise TranscriptError(f"{path} holds no cue with a start, an end and words")
    return Transcript(tuple(sorted(cues, key=lambda c: (c.start, c.end))), source)


def _decoded(path: Path) -> tuple[str, str]:
    """(text, encoding): UTF-8, UTF-16 with its mark, else what older programs on Windows write; raises TranscriptError."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16"), "UTF-16"
        except UnicodeDecodeError as error:
            raise TranscriptError(
                f"{path} begins as UTF-16 text and is none: save it as UTF-8"
            ) from error
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError as error:
        if b"\0" in data:
            raise TranscriptError(
                f"{path} is no text (byte {error.start}): save it as UTF-8"
            ) from error
        return data.decode("cp1252", "replace"), "Windows-1252"


def _is_name(word: str, names: Counter[str]) -> bool:
    """`ANNA`, `Speaker 1`, `[Anna]`, or a capitalised word that stands so more than once: `Remember: ...` is none."""
    marked = word.startswith("[") or word.isupper() or word.rsplit(maxsplit=1)[-1].isdigit()
    capitals = all(part[0].isupper() or part[0].isdigit() for part in word.split())
    return marked or (capitals and (names[word] > 1 or " " in word))


def beside(media: Path) -> Path | None:
    """The subtitle file that lies beside a recording under its name: `talk.srt`, `talk.en.vtt`, ..."""
    for suffix in SUFFIXES:
        exact = media.with_suffix(suffix)
        if exact.is_file():
            return exact
    stem = media.stem
    try:
        others = sorted(
            p
            for p in media.parent.iterdir()
            if p.name.startswith(stem + ".") and p.suffix in SUFFIXES
        )
    except OSError:
        return None
    return next(
        (
            p
            for p in others
            if re.fullmatch(r"\.[a-z]{2,3}(?:-[A-Za-z]{2,4})?", Path(p.stem).suffix)
        ),
        None,
    )
