"""Records of an answered recording: its settings, its segments and the whole timeline."""

from __future__ import annotations

import dataclasses
from typing import Any

from data_pipeline.annotate.evidence import CheckedClaim
from data_pipeline.media.prosody import Voice
from data_pipeline.media.segments import SegmentConfig
from data_pipeline.media.transcript import NONE
from emojax.infer.smoothing import Change
from emojax.types import Answer

SCHEMA = 1  # version of the JSON output, docs/timeline.md
_OUTPUT_NAMES = {"switch_penalty": "change_price"}  # names of options in outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimelineOptions:
    """How a recording is answered.

    Attributes:
      cut: how it is cut into segments.
      smoothing: s, standard deviation of the average over neighbours.
      switch_penalty: nats that each change of label costs in the label path.
      reasons: also write the reason of each segment.
      abstain: below this probability the answer of a segment is "cannot tell".
      explain: also measure what each modality contributes.
      purpose: what the user says the timeline is for; part of every output.
    """

    cut: SegmentConfig = dataclasses.field(default_factory=SegmentConfig)
    smoothing: float = 2.0
    switch_penalty: float = 2.0
    reasons: bool = True
    abstain: float = 0.0
    explain: bool = False
    purpose: str = ""

    def to_json(self) -> dict[str, Any]:
        """The options under the names that they have in outputs."""
        return {_OUTPUT_NAMES.get(k, k): v for k, v in dataclasses.asdict(self).items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """One answered segment of one person.

    Attributes:
      index: number of the segment.
      start: s of the recording.
      end: s of the recording.
      ends_at: why the segment ends; see Segment.
      speech: share of the segment with speech; None without sound.
      person: name of the track, "" for the whole picture.
      words: words spoken in the segment.
      speakers: who the transcript names as speaking, by decreasing time.
      turns: (speaker, words) in order, where the transcript names speakers; else ().
      answer: the model's answer.
      voice: measured from the sound; None without sound.
      motion: s, time of the largest change of the picture.
      smoothed: probabilities averaged over neighbours; {} where nobody is seen, heard or quoted.
      track: label of the segment in the best label path; "" where nobody is seen, heard or quoted.
      valence: of the probabilities; None where the labels have no coordinates.
      arousal: of the probabilities; None where the labels have no coordinates.
      evidence: the claims of the reason, checked.
    """

    index: int
    start: float
    end: float
    ends_at: str
    speech: float | None
    person: str
    words: str
    speakers: tuple[str, ...]
    answer: Answer
    turns: tuple[tuple[str, str], ...] = ()
    voice: Voice | None = None
    motion: float | None = None
    smoothed: dict[str, float] = dataclasses.field(default_factory=dict)
    track: str = ""
    valence: float | None = None
    arousal: float | None = None
    evidence: tuple[CheckedClaim, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timeline:
    """The answers for a recording.

    Attributes:
      path: media file.
      seconds: length of the recording.
      model: name and folder of the model.
      labels: labels to choose from.
      spans: in order of time.
      changes: changes of label by person.
      words: source of the words; see Transcript.source.
      language: of the words, "" if not known.
      people: how people were separated; see PersonSplitter.
      purpose: what the user says the timeline is for.
      settings: the options under their names in outputs.
      notes: what was irregular about the file.
      took: s that answering took.
      fingerprint: of the file's content, see `recording_fingerprint`.
    """

    path: str
    seconds: float
    model: str
    labels: tuple[str, ...]
    spans: tuple[Span, ...]
    changes: dict[str, tuple[Change, ...]]
    words: str
    language: str
    people: str
    purpose: str
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    took: float = 0.0
    fingerprint: str = ""

    @property
    def persons(self) -> tuple[str, ...]:
        """Names of the tracks in order of appearance; ("",) for the whole picture."""
        return tuple(dict.fromkeys(s.person for s in self.spans)) or ("",)

    def spans_of(self, person: str) -> list[Span]:
        """One person's spans."""
        return [s for s in self.spans if s.person == person]


def describe_words(timeline: Timeline) -> str:
    """Where the words come from, as a phrase for people."""
    return "no words were known" if timeline.words == NONE else f"words: {timeline.words}"
