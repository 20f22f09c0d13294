"""The words of a recording with their times and speakers.

`subtitles.py` reads them from files; a transcription model or the user may also give them.
"""

from __future__ import annotations

import dataclasses

from data_pipeline.media.stream import recording_seconds

# Sources of a transcript other than a file; written to reports.
NONE, TRANSCRIBED, OPTION = "none", "transcribed", "option"


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcript:
    """The transcript of a recording.

    Attributes:
      cues: sorted by start.
      source: name of the file, or TRANSCRIBED, OPTION or NONE.
      language: language code as given, "" if unknown.
      notes: what was irregular about the file, one sentence each.
    """

    cues: tuple[Cue, ...] = ()
    source: str = NONE
    language: str = ""
    notes: tuple[str, ...] = ()

    def between(self, start: float, end: float) -> tuple[Cue, ...]:
        """The cues whose overlap with a span is at least half of the cue or half of the span.

        Args:
          start: of the span, s from the start of the recording.
          end: of the span, s.
        """
        cues = []
        for cue in self.cues:
            overlap = min(cue.end, end) - max(cue.start, start)
            if overlap > 0 and overlap >= min(cue.end - cue.start, end - start) / 2:
                cues.append(cue)
        return tuple(cues)

    def turns(self, start: float, end: float) -> tuple[tuple[str, str], ...]:
        """(speaker, words) of a span, one entry for each change of speaker.

        A cue that crosses its border is split in proportion to time. If spans are adjacent, each
        word belongs to exactly one of them.

        Args:
          start: of the span, s from the start of the recording.
          end: of the span, s.
        """
        turns: list[tuple[str, str]] = []
        for cue in self.cues:
            if cue.end <= start or cue.start >= end:
                continue
            words, length = cue.text.split(), cue.end - cue.start
            # Assumes that all words of a cue are equally long; the middle of a word decides.
            middles = [cue.start + (i + 0.5) * length / len(words) for i in range(len(words))]
            inside = [w for w, t in zip(words, middles, strict=True) if start <= t < end]
            if inside and turns and turns[-1][0] == cue.speaker:
                turns[-1] = (cue.speaker, " ".join([turns[-1][1], *inside]))
            elif inside:
                turns.append((cue.speaker, " ".join(inside)))
        return tuple(turns)

    def words(self, start: float, end: float) -> str:
        """The words of a span, see `turns`.

        Args:
          start: of the span, s from the start of the recording.
          end: of the span, s.
        """
        return " ".join(words for _, words in self.turns(start, end))

    def speakers(self, start: float, end: float) -> tuple[str, ...]:
        """Names of the speakers in a span, by decreasing speaking time.

        Args:
          start: of the span, s from the start of the recording.
          end: of the span, s.
        """
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
    if not words:
        return Transcript()
    length = max(recording_seconds(media), 0.01)
    return Transcript(cues=(Cue(start=0.0, end=length, text=words),), source=OPTION)
