"""Reads subtitle files and plain texts to transcripts, and finds those beside a recording.

pysubs2 parses the formats. What is done here is what subtitles need to become words: the encoding,
rolling captions, cues without length or of another clock, and who speaks.
"""

from __future__ import annotations

import dataclasses
import html
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pysubs2

from data_pipeline.io import refuse_device
from data_pipeline.media.file_kinds import fold_name
from data_pipeline.media.notes import counted
from data_pipeline.media.speaker_turns import split_turns, voice_marks
from data_pipeline.media.stream import recording_seconds
from data_pipeline.media.text_encoding import CERTAIN, decode_text
from data_pipeline.media.transcript import Cue, Transcript, untimed_transcript

# Suffix -> format of pysubs2 ("" is plain text); its SubRip reader takes YouTube's .sbv too.
_FORMATS = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ssa", ".sbv": "srt", ".txt": ""}
SUFFIXES = tuple(_FORMATS)
# Subtitles that are not read: pictures of text, or formats that pysubs2 reads only in part.
_OTHER_SUFFIXES = tuple(
    ".sub .idx .sup .ttml .dfxp .itt .smi .sami .lrc .stl .scc .mpl .usf .rt".split()
)
_CONVERT = "convert it to .srt, for example with FFmpeg or Subtitle Edit"
_HOUR = 3600.0  # broadcast clocks start at a full hour
_SLACK = 1.0  # seconds by which a cue may outlast the recording without a note
_SECONDS_PER_LETTER = 0.06  # reading speed that subtitlers assume
_SHORTEST = 1.0  # seconds of a cue that came without length, if there is room for them
_GAP = 0.5  # seconds between cues of one roll
_STAMP = r"(?:(\d{1,2}):)?(\d{1,2}):(\d{1,2})(?:([.,:;])(\d{1,3}))?"
_TIME_LINE = re.compile(rf"^\s*{_STAMP}\s*-->\s*{_STAMP}(?=\s|$)")
# As whisper.cpp prints it: `[00:00:01.000 --> 00:00:02.000]  words`.
_BRACKETED_TIMES = re.compile(rf"^\s*\[({_STAMP} --> {_STAMP})\]\s*", re.M)
_MARKUP = re.compile(
    r"<(?:\?xml|!doctype|html|body|tt|sami|p|div)\b|\{\s*[\"}\\]|\[\s*(?:[{\[\"]|\])", re.I
)
_FRAME = 0.04  # seconds; 01:00:00:12 counts frames, and the rate is not in the file
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_ENTITY = re.compile(r"&(?:[a-zA-Z]+|#\d+|#x[0-9a-fA-F]+);")
# What may be between a recording's name and the suffix of its subtitles: `talk.en-US.sdh.srt`.
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]{2,8})*")
_LANGUAGES = frozenset(
    "english german deutsch french francais spanish espanol italian portuguese dutch chinese "
    "mandarin cantonese japanese korean russian arabic hindi turkish polish swedish danish "
    "norwegian finnish czech greek hebrew hungarian romanian ukrainian vietnamese thai "
    "indonesian".split()
)
_FOR_THE_DEAF = frozenset(("sdh", "cc", "hi"))
_FLAGS = _FOR_THE_DEAF | {"default", "full", "auto", "orig", "original", "asr", "subtitles", "subs"}
_PARTIAL = frozenset(("forced", "foreign", "signs", "songs", "commentary"))


class TranscriptError(ValueError):
    """A subtitle file cannot be read; the message names the file and the problem."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Caption:
    """One cue of a file: seconds, its text with line breaks, and the name in a field of its own."""

    start: float
    end: float
    text: str
    name: str = ""


def read_transcript(path: Path, *, duration: float = 0.0) -> Transcript:
    """Reads a subtitle file; plain text (.txt) is one cue that spans the whole recording.

    Args:
      path: a file with one of SUFFIXES.
      duration: length of the recording in seconds, 0 if unknown. Cues are checked against it.

    Returns:
      The transcript; its notes say what could not be used as it is in the file.

    Raises:
      TranscriptError: the file cannot be read, is not text, or not in the format of its suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise TranscriptError(
            f"{path}: transcripts must be {', '.join(SUFFIXES)} files; if it has subtitles, "
            f"{_CONVERT}"
        )
    try:
        text, encoding = decode_text(refuse_device(path).read_bytes(), replace=True)
    except OSError as error:
        raise TranscriptError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TranscriptError(f"{path} {error}: save it as UTF-8") from error
    source = path.name if encoding == "UTF-8" else f"{path.name} (read as {encoding})"
    notes: list[str] = []
    if encoding not in CERTAIN:
        notes.append(
            f"{path.name} is not UTF-8; it was read as {encoding}: save it as UTF-8 if words are"
            " garbled"
        )
    kind, text = _format_of(path, text)
    if not kind:
        words = " ".join(text.split())
        cues = [Cue(start=0.0, end=max(duration, 0.01), text=words)] if words else []
    else:
        captions = _read_captions(path, text, kind, notes)
        captions = _merge_rolling(captions, path.name, notes)
        captions = _with_lengths(captions, path.name, notes)
        captions = _on_recording_clock(captions, duration, path.name, notes)
        cues = split_turns([(c.start, c.end, c.text, c.name) for c in captions])
    if not cues:
        notes.append(f"{path.name} contains no words")
    return Transcript(
        cues=tuple(sorted(cues, key=lambda c: (c.start, c.end))), source=source, notes=tuple(notes)
    )


def _format_of(path: Path, text: str) -> tuple[str, str]:
    """The format of pysubs2, "" for plain words, and the text as that format has it.

    Files named .txt often hold subtitles, or what is no text to read.
    """
    kind = _FORMATS[path.suffix.lower()]
    if kind:
        return kind, text
    text = _BRACKETED_TIMES.sub(r"\n\1\n", text)
    if text.lstrip().startswith("[Script Info]"):
        return "ass", text
    if any(map(_TIME_LINE.match, text.splitlines())):
        return ("vtt" if text.lstrip().startswith("WEBVTT") else "srt"), text
    if _MARKUP.match(text.lstrip()):
        raise TranscriptError(
            f"{path} is not plain text: it begins with {text.lstrip()[:20]!r}, like XML, HTML, JSON"
            f" or RTF. Save the words alone as .txt; if it has subtitles, {_CONVERT}"
        )
    return "", text


def _read_captions(path: Path, text: str, kind: str, notes: list[str]) -> list[_Caption]:
    """The cues of a file in order of time, without comments, drawings and exact repetitions."""
    lines = text.splitlines()
    if kind in ("srt", "vtt"):
        text = "\n".join(_TIME_LINE.sub(_plain_times, line) for line in lines)
    try:
        events = list(pysubs2.SSAFile.from_string(voice_marks(text), format_=kind))
    except Exception as error:  # pysubs2 raises various errors on text in another format
        raise TranscriptError(
            f"{path} cannot be read as .{kind} ({type(error).__name__}: {error})"
        ) from error
    shown = [e for e in events if not e.is_comment and not e.is_drawing]
    announced = sum("-->" in line for line in lines)
    if announced > len(events) > 0 and kind in ("srt", "vtt"):
        some, have = announced - len(events), "has" if announced - len(events) == 1 else "have"
        notes.append(
            f"{some} of {counted(announced, 'cue')} of {path.name} {have} times that cannot be"
            " read: words without times are not used as cues of their own"
        )
    if not events and text.strip() and text.strip() != "WEBVTT":
        raise TranscriptError(f"{path} contains no cue with a start, an end and words")
    captions = [
        _Caption(start=e.start / 1000, end=e.end / 1000, text=_clean(e, kind), name=e.name)
        for e in shown
    ]
    # Layers of .ass files repeat a line to draw its shadow.
    unique = dict.fromkeys(c for c in captions if c.text.strip())
    return sorted(unique, key=lambda c: c.start)


def _plain_times(match: re.Match[str]) -> str:
    """A line of times as pysubs2 reads it: with hours and milliseconds."""

    def stamp(hours: str | None, minutes: str, seconds: str, mark: str | None, rest: str) -> str:
        part = "0" if rest is None else rest
        frames = mark in (":", ";")
        fraction = f"{min(999, round(1000 * _FRAME * int(part))):03d}" if frames else part
        return f"{int(hours or 0):02d}:{minutes:>02}:{seconds:>02}.{fraction:<03}"

    groups = match.groups()
    return f"{stamp(*groups[:5])} --> {stamp(*groups[5:])}"


def _clean(event: pysubs2.SSAEvent, kind: str) -> str:
    text = str(event.plaintext)
    if kind == "vtt":
        text = text.partition("\n\n")[0]  # an empty line ends a cue; the next one's name follows
    if kind in ("srt", "vtt"):
        text = _ENTITY.sub(lambda m: html.unescape(m.group()), text)
    return _INVISIBLE.sub("", text)


def _merge_rolling(captions: list[_Caption], name: str, notes: list[str]) -> list[_Caption]:
    """Leaves each word of rolling captions once.

    Rolling captions (YouTube, live television) show the lines before again, or a line that grows
    word by word. Most of their cues repeat what was shown; people repeat themselves too, but not
    in most cues.
    """
    shown = [(c.text.split(), _last_line(c.text)) for c in captions]
    repeats = [0] + [
        _repeated(before, last, words) for (before, last), (words, _) in itertools.pairwise(shown)
    ]
    pairs = [i for i in range(1, len(captions)) if captions[i].start - captions[i - 1].end <= _GAP]
    rolled = [i for i in pairs if repeats[i]]
    grown = [i for i in rolled if 2 <= repeats[i] < len(shown[i][0])]
    if not grown or 2 * len(rolled) <= len(pairs):
        return captions
    notes.append(f"{name} holds rolling captions: words that are shown again are used once")
    merged = []
    for caption, count in zip(captions, repeats, strict=True):
        text = _without_first(caption.text, count)
        if text.strip():
            merged.append(dataclasses.replace(caption, text=text))
    return merged


def _last_line(text: str) -> int:
    """Number of words in the last line that has words."""
    return next((n for line in reversed(text.splitlines()) if (n := len(line.split()))), 0)


def _repeated(before: Sequence[str], last: int, words: Sequence[str]) -> int:
    """How many first words of a cue repeat the end of the cue before, at least its last line."""
    for count in range(min(len(before), len(words)), max(last, 1) - 1, -1):
        if before[-count:] == words[:count]:
            return count
    return 0


def _without_first(text: str, count: int) -> str:
    """A text with line breaks without its first words."""
    lines = []
    for line in text.splitlines():
        words = line.split()
        lines.append(" ".join(words[count:]))
        count = max(0, count - len(words))
    return "\n".join(lines)


def _with_lengths(captions: list[_Caption], name: str, notes: list[str]) -> list[_Caption]:
    """Gives cues without length the time to read them, but not beyond the next cue's start."""
    count, reversed_times, out = 0, 0, []
    starts = [c.start for c in captions]
    for caption in captions:
        if caption.end > caption.start:
            out.append(caption)
            continue
        count += 1
        reversed_times += caption.end < caption.start
        read = max(_SHORTEST, _SECONDS_PER_LETTER * len(caption.text))
        later = next((s for s in starts if s > caption.start), caption.start + read)
        end = min(caption.start + read, later)
        out.append(dataclasses.replace(caption, end=end))
    total = counted(len(captions), "cue")
    for some, fault in (
        (count - reversed_times, "no length"),
        (reversed_times, "an end before {}"),
    ):
        if some:
            have, its = ("has", "its start") if some == 1 else ("have", "their start")
            notes.append(
                f"{some} of {total} of {name} {have} {fault.format(its)}: the words count from"
                f" {its} for as long as they take to read"
            )
    return out


def _on_recording_clock(
    captions: list[_Caption], duration: float, name: str, notes: list[str]
) -> list[_Caption]:
    """Compares cues with the length of the recording (s, 0 if unknown)."""
    if not captions or not duration:
        return captions

    def outside(shift: float) -> int:
        return sum(not -1e-3 < c.start - shift < duration for c in captions)

    shift = captions[0].start // _HOUR * _HOUR
    if shift and outside(shift) < outside(0) and 10 * outside(shift) <= len(captions):
        notes.append(
            f"the clock of {name} starts at {shift / _HOUR:.0f} h, as clocks of broadcasts do: this"
            " was subtracted from its cues"
        )
        captions = [
            dataclasses.replace(c, start=c.start - shift, end=c.end - shift) for c in captions
        ]
    if lost := outside(0):
        first = next(c for c in captions if not 0 <= c.start < duration)
        notes.append(
            f"{lost} of {counted(len(captions), 'cue')} of {name}"
            f" {'is' if lost == 1 else 'are'} outside the recording (the first starts at"
            f" {_clock(first.start)}, the recording ends at {_clock(duration)}): these words are"
            " not used; check that the subtitles are those of this recording"
        )
    late = max((c.end for c in captions if 0 <= c.start < duration), default=0.0)
    if late > duration + _SLACK:
        notes.append(
            f"a cue of {name} ends at {_clock(late)}, after the recording ({_clock(duration)})"
        )
    # Words are spread over their cue; after the end of the recording they would be lost.
    return [
        dataclasses.replace(c, end=min(c.end, duration)) if c.start < duration else c
        for c in captions
    ]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes // 60:02.0f}:{minutes % 60:02.0f}:{rest:06.3f}"


def transcript_of(path: str, *, given: str | None = None, subtitle: str = "") -> Transcript:
    """The transcript of a recording.

    Args:
      path: the recording.
      given: a subtitle or text file; None: the file of the recording's name in its folder;
        "none": no transcript.
      subtitle: the whole text, in place of a file.

    Returns:
      The transcript; an empty one if there is no file.

    Raises:
      ValueError: there is no file `given`.
      TranscriptError: the file cannot be read.
    """
    if subtitle:
        return untimed_transcript(subtitle, path)
    if given == "none":
        return Transcript()
    if given and not Path(given).is_file():
        raise ValueError(f"--words {given}: there is no such file")
    files = [Path(given)] if given else find_subtitles(Path(path))
    if not files:
        return Transcript(notes=tuple(_unread_notes(Path(path))))
    transcript = read_transcript(files[0], duration=recording_seconds(path))
    return dataclasses.replace(transcript, notes=(*_choice_notes(files), *transcript.notes))


def _choice_notes(files: Sequence[Path]) -> list[str]:
    """What a user should know about the choice of the first of several files of words."""
    first, *others = files
    notes = []
    if is_partial(first):
        notes.append(f"{first.name} may hold only a part of the words, by its name")
    if names := [p.name for p in others if is_partial(first) or not is_partial(p)]:
        notes.append(
            f"the words are those of {first.name}, not of {' or '.join(names)} beside it:"
            " --words FILE chooses"
        )
    return notes


def _unread_notes(media: Path) -> list[str]:
    """Names the files of a recording's subtitles that are in formats which are not read."""
    names = [p.name for p in find_subtitles(media, suffixes=_OTHER_SUFFIXES)]
    if not names:
        return []
    return [f"the words of {' and '.join(names)} are not used: this format is not read; {_CONVERT}"]


def find_subtitles(media: Path, *, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The subtitle files of a recording in its folder, the best one first.

    Names are compared regardless of case: `talk.srt`, `TALK.SRT`, `talk.mp4.srt`, `talk.en.vtt`,
    `talk.en-US.sdh.srt`. Files that hold only a part of the words (`talk.forced.srt`) come last.

    Args:
      media: the recording.
      suffixes: those of the formats to find.
    """
    stem, full = fold_name(media.stem), fold_name(media.name)
    ranked = []
    try:
        names = [name for name in os.listdir(media.parent) if name.lower().endswith(suffixes)]
    except OSError:
        return []
    for path in filter(Path.is_file, map(media.parent.joinpath, names)):
        name = fold_name(path.stem)
        if name in (stem, full):
            rank = (0, int(name != stem), int(path.stem not in (media.stem, media.name)))
        else:
            prefix = next((p for p in (full, stem) if name.startswith(f"{p}.")), None)
            words = name[len(prefix) + 1 :].split(".") if prefix else []
            if not words or not all(map(_is_tag, words)):
                continue
            partial, deaf = _PARTIAL & set(words), _FOR_THE_DEAF & set(words)
            rank = (2 if partial else 1, len(words), len(deaf))
        ranked.append((rank, suffixes.index(path.suffix.lower()), path.name, path))
    return [path for *_, path in sorted(ranked)]


def is_partial(path: Path) -> bool:
    """Whether a subtitle file holds only a part of the words by its name, as `talk.forced.srt`."""
    return bool(_PARTIAL & set(fold_name(path.stem).split(".")[1:]))


def _is_tag(word: str) -> bool:
    known = word in _FLAGS or word in _PARTIAL or word in _LANGUAGES
    return known or bool(_LANGUAGE.fullmatch(word))
