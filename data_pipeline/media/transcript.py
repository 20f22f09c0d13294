"""Timed transcripts, from .srt, .vtt, .ass and .txt files or from a transcription model."""

from __future__ import annotations

import dataclasses
import html
import re
from collections import Counter
from pathlib import Path

import pysubs2

from data_pipeline.media.stream import recording_seconds

SUFFIXES = (".srt", ".vtt", ".ass", ".ssa", ".txt")
# Sources of a transcript other than a file; written to reports.
NONE, TRANSCRIBED, OPTION = "none", "transcribed", "option"
_VOICE_TAG = re.compile(r"<v(?:\.[\w.]+)?\s+([^>]+)>")
_TIMES = re.compile(r"<[\d:.]+>")
_MARK = re.compile("^\x01([^\x02]*)\x02")  # replaces a voice tag, which pysubs2 would remove
# `ANNA:`, `Dr. Who:`, `Speaker 1:` at the start of a cue name the speaker; `12:30` and
# `He said this: ...` do not.
_NAME = re.compile(
    r"^\s*(?:-\s*)?([^\W\d_][\w.'’-]*(?: [^\W_][\w.'’-]*){0,2}|\[[^\]]{1,30}\]):\s+(?=\S)"
)


class TranscriptError(ValueError):
    """A subtitle file cannot be read; the message names the file and the problem."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cue:
    """The words spoken between two times.

    Attributes:
      start: seconds from the start of the recording.
      end: seconds from the start of the recording.
      text: the words.
      speaker: name of the speaker, "" if the file does not give it.
    """

    start: float
    end: float
    text: str
    speaker: str = ""


@dataclasses.dataclass(frozen=True)
class Transcript:
    """The transcript of a recording.

    Attributes:
      cues: sorted by start.
      source: name of the file, or TRANSCRIBED, OPTION or NONE.
      language: language code as given, "" if unknown.
    """

    cues: tuple[Cue, ...] = ()
    source: str = NONE
    language: str = ""

    def between(self, start: float, end: float) -> tuple[Cue, ...]:
        """The cues whose overlap with a span is at least half of the cue or half of the span."""
        cues = []
        for cue in self.cues:
            overlap = min(cue.end, end) - max(cue.start, start)
            if overlap > 0 and overlap >= min(cue.end - cue.start, end - start) / 2:
                cues.append(cue)
        return tuple(cues)

    def words(self, start: float, end: float) -> str:
        """The words of a span; a cue that crosses its border is split in proportion to time.

        If spans are adjacent, each word belongs to exactly one of them.
        """
        out = []
        for cue in self.cues:
            if cue.end <= start or cue.start >= end:
                continue
            words, length = cue.text.split(), cue.end - cue.start
            # Assumes that all words of a cue are equally long; the middle of a word decides.
            for i, word in enumerate(words):
                if start <= cue.start + (i + 0.5) * length / len(words) < end:
                    out.append(word)
        return " ".join(out)

    def speakers(self, start: float, end: float) -> tuple[str, ...]:
        """Names of the speakers in a span, by decreasing speaking time."""
        time: dict[str, float] = {}
        for cue in self.cues:
            overlap = min(cue.end, end) - max(cue.start, start)
            if cue.speaker and overlap > 0:
                time[cue.speaker] = time.get(cue.speaker, 0.0) + overlap
        return tuple(sorted(time, key=lambda name: -time[name]))


def untimed_transcript(text: str, media: str) -> Transcript:
    """A transcript without times, as one cue that spans the whole recording.

    Args:
      text: the words.
      media: path of the recording; only its length is read.

    Raises:
      ClipError: the recording cannot be read.
    """
    words = " ".join(text.split())
    return (
        Transcript((Cue(start=0.0, end=max(recording_seconds(media), 0.01), text=words),), OPTION)
        if words
        else Transcript()
    )


def read_transcript(path: Path, *, duration: float = 0.0) -> Transcript:
    """Reads a subtitle file; plain text (.txt) is one cue that spans the whole recording.

    Args:
      path: a file with one of SUFFIXES.
      duration: length of the recording in seconds, for plain text.

    Raises:
      TranscriptError: the file is not text, or not in the format of its suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise TranscriptError(f"{path}: transcripts must be {', '.join(SUFFIXES)} files")
    text, encoding = _decode(path)
    source = path.name if encoding == "UTF-8" else f"{path.name} (read as {encoding})"
    if path.suffix.lower() == ".txt":
        words = " ".join(text.split())
        return Transcript(
            (Cue(start=0.0, end=max(duration, 0.01), text=words),) if words else (), source
        )
    events = _read_events(path, text)
    texts = [" ".join(e.plaintext.split()) for e in events]
    if path.suffix.lower() == ".vtt":
        texts = [html.unescape(t) for t in texts]
    names = Counter(m.group(1) for t in texts if (m := _NAME.match(t)))
    cues = []
    for event, line in zip(events, texts, strict=True):
        name, words = event.name, line
        if match := _MARK.match(line):
            name, words = match.group(1).strip(), line[match.end() :].strip()
        elif (match := _NAME.match(line)) and _is_name(match.group(1), names):
            name, words = name or match.group(1).strip("[]"), line[match.end() :]
        if words:
            cues.append(
                Cue(start=event.start / 1000, end=event.end / 1000, text=words, speaker=name)
            )
    if not cues and text.strip() and text.strip() != "WEBVTT":
        raise TranscriptError(f"{path} contains no cue with a start, an end and words")
    return Transcript(tuple(sorted(cues, key=lambda c: (c.start, c.end))), source)


def _read_events(path: Path, text: str) -> list[pysubs2.SSAEvent]:
    """The cues of a subtitle file with a positive length; voice tags become marks (see _MARK)."""
    kind = path.suffix.lower().lstrip(".")
    marked = _VOICE_TAG.sub("\x01\\1\x02", _TIMES.sub("", text) if kind == "vtt" else text)
    try:
        subtitles = pysubs2.SSAFile.from_string(marked, format_=kind)
    except Exception as error:  # pysubs2 raises various errors on text in another format
        raise TranscriptError(
            f"{path} cannot be read as .{kind} ({type(error).__name__}: {error})"
        ) from error
    return [e for e in subtitles if not e.is_comment and e.end > e.start]


def _decode(path: Path) -> tuple[str, str]:
    """Reads text as UTF-8, UTF-16 with a byte order mark, or else Windows-1252.

    Returns:
      (text, encoding).

    Raises:
      TranscriptError: the file is not text.
    """
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16"), "UTF-16"
        except UnicodeDecodeError as error:
            raise TranscriptError(
                f"{path} begins like UTF-16 text but is not valid: save it as UTF-8"
            ) from error
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError as error:
        if b"\0" in data:
            raise TranscriptError(
                f"{path} is not text (byte {error.start}): save it as UTF-8"
            ) from error
        return data.decode("cp1252", "replace"), "Windows-1252"


def _is_name(word: str, names: Counter[str]) -> bool:
    """Whether a word before a colon is a name: `ANNA`, `Speaker 1`, `[Anna]`, or capitalized twice.

    A capitalized word that occurs once may be the beginning of a sentence, as in `Remember: ...`.
    """
    marked = word.startswith("[") or word.isupper() or word.rsplit(maxsplit=1)[-1].isdigit()
    capitals = all(part[0].isupper() or part[0].isdigit() for part in word.split())
    return marked or (capitals and (names[word] > 1 or " " in word))


def find_subtitles(media: Path) -> Path | None:
    """The subtitle file in the folder of a recording with its name: `talk.srt`, `talk.en.vtt`..."""
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
    language = re.compile(r"\.[a-z]{2,3}(?:-[A-Za-z]{2,4})?")
    return next((p for p in others if language.fullmatch(Path(p.stem).suffix)), None)
