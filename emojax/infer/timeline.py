"""A recording of any length -> an emotion track: segments with start and end, each answered, and what the whole of them shows.

What is answered is kept, segment by segment, in a file beside the outputs: a run that was stopped asks nothing twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.annotate.evidence import CheckedClaim, baseline, check_reason
from data_pipeline.annotate.peaks import find_peak
from data_pipeline.annotate.unit_tracks import UnitTrack
from data_pipeline.annotate.units import TABLES, unit_code
from data_pipeline.media.prosody import Voice, measure_voice
from data_pipeline.media.segments import Segment, SegmentConfig, read_segments
from data_pipeline.media.stream import open_recording
from data_pipeline.media.transcript import NONE, TRANSCRIBED, Cue, Transcript
from emojax import __version__
from emojax.bundle.model_folder import Bundle
from emojax.infer.face_tracks import People, WholePicture
from emojax.infer.predict import BATCH, Ask, Transcribe, answer_clips
from emojax.infer.smoothing import Change, changes, likeliest_track, smooth
from emojax.infer.valence_arousal import valence_arousal
from emojax.types import Answer

SPOKEN = 0.3  # share of speech from which a segment's sound counts as a voice
SCHEMA = 1  # of the JSON output, docs/timeline.md


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a recording is answered.

    Attributes:
      cut: how it is cut into segments.
      smoothing: s, standard deviation of the average over neighbours.
      change_price: nats that a change of label must explain.
      reasons: also write the reason of each segment.
      abstain, explain: as in `predict`.
      purpose: what the user says it is for; kept in every output.
    """

    cut: SegmentConfig = SegmentConfig()
    smoothing: float = 2.0
    change_price: float = 2.0
    reasons: bool = True
    abstain: float = 0.0
    explain: bool = False
    purpose: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """One answered segment, of one person.

    Attributes:
      index, start, end, ends_at, speech: see Segment.  person: name of the track, "" for the whole picture.
      words, speakers: said in it, and who is named as saying it.
      answer: what the model says.  smoothed: its probabilities averaged over neighbours.  track: label of the likeliest track.
      valence, arousal: of the probabilities, None where the labels have no coordinates.
      voice: measured of its sound, None without sound.  motion: s, greatest change of the picture.
      evidence: the reason's claims, checked.
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
    voice: Voice | None = None
    motion: float | None = None
    smoothed: dict[str, float] = dataclasses.field(default_factory=dict)
    track: str = ""
    valence: float | None = None
    arousal: float | None = None
    evidence: tuple[CheckedClaim, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timeline:
    """A recording's answers. words: where they are from (see Transcript.source). people: how persons were told apart."""

    path: str
    seconds: float
    model: str
    labels: tuple[str, ...]
    spans: tuple[Span, ...]
    changes: dict[str, tuple[Change, ...]]  # by person
    words: str
    language: str
    people: str
    purpose: str
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    took: float = 0.0

    @property
    def persons(self) -> tuple[str, ...]:
        """Names of the tracks in order of appearance; ("",) for the whole picture."""
        return tuple(dict.fromkeys(s.person for s in self.spans)) or ("",)

    def of(self, person: str) -> list[Span]:
        """One person's spans."""
        return [s for s in self.spans if s.person == person]


def make_timeline(
    bundle: Bundle,
    path: str,
    *,
    options: Options | None = None,
    labels: Sequence[str] | None = None,
    transcript: Transcript | None = None,
    people: People | None = None,
    state: Path | None = None,
    tick: Callable[[float, float], None] | None = None,
    transcribe: Transcribe | None = None,
    transcriber: str = "",
    units: UnitTrack | None = None,
) -> Timeline:
    """Answers a recording.

    Args:
      labels: to choose from, the model's own by default.  transcript: words with times.
      people: how persons are told apart; None: the whole picture is one.
      state: file in which answered segments are kept; a run of the same question goes on from it. Whoever has written the outputs
        removes it.
      transcribe, transcriber: hears the words of segments where the transcript has none, and its name.
      units: action units measured over the recording; claims about the face are held against them.
      tick: called with (seconds done, seconds of the recording).

    Raises:
      ClipError: the file can not be read.
    """
    begin = time.monotonic()
    options = options or Options()
    who: People = people or WholePicture()
    labels = tuple(labels or bundle.labels)
    transcript = transcript or Transcript()
    recording = open_recording(path)
    notes: list[str] = []
    spans: list[Span] = []
    for span, until in _answered(
        bundle,
        path,
        options,
        labels=labels,
        transcript=transcript,
        people=who,
        state=state,
        notes=notes,
        transcribe=transcribe,
        transcriber=transcriber,
    ):
        if span is not None:
            spans.append(span)
        if tick:
            tick(
                round(min(until, recording.seconds or until), 1),
                round(recording.seconds or until, 1),
            )
    seconds = spans[-1].end if spans else recording.seconds
    if recording.seconds - seconds > max(0.5, 0.02 * recording.seconds):
        notes.append(
            f"the file ends at {seconds:.1f} s, its header says {recording.seconds:.1f} s: the rest is missing or damaged"
        )
    if transcribe is not None and not transcript.cues:
        transcript = _transcribed(spans)
    found = finish(spans, labels, options, transcript, units=units)
    settings = {k: v for k, v in dataclasses.asdict(options).items() if k != "purpose"}
    return Timeline(
        path=path,
        seconds=round(seconds, 3),
        model=bundle.name,
        labels=labels,
        spans=found[0],
        changes=found[1],
        words=transcript.source,
        language=transcript.language,
        people=who.name,
        purpose=options.purpose,
        settings=settings,
        notes=tuple(dict.fromkeys(notes)),
        took=round(time.monotonic() - begin, 1),
    )


def finish(
    spans: Sequence[Span],
    labels: tuple[str, ...],
    options: Options,
    transcript: Transcript,
    *,
    units: UnitTrack | None = None,
) -> tuple[tuple[Span, ...], dict[str, tuple[Change, ...]]]:
    """What only the whole recording tells: smoothed track, changes, evidence. Returns (spans, changes by person)."""
    norm = baseline(
        [v for v in {s.index: s.voice for s in spans if (s.speech or 0) >= SPOKEN}.values()]
    )
    out: dict[int, Span] = {}
    moved: dict[str, tuple[Change, ...]] = {}
    for person in dict.fromkeys(s.person for s in spans):
        at = [i for i, s in enumerate(spans) if s.person == person and s.answer.error is None]
        if not at:
            continue
        chances = np.array([[spans[i].answer.probabilities[name] for name in labels] for i in at])
        starts, ends = (np.array([getattr(spans[i], n) for i in at]) for n in ("start", "end"))
        even = smooth(chances, starts, ends, options.smoothing)
        track = likeliest_track(chances, starts, ends, options.change_price)
        moved[person] = tuple(changes(track, chances, starts, ends, labels))
        for row, i in enumerate(at):
            span = spans[i]
            valence, arousal, _ = valence_arousal(span.answer.probabilities)
            seen, shown = _face(units, span)
            out[i] = dataclasses.replace(
                span,
                smoothed={
                    name: round(float(p), 4) for name, p in zip(labels, even[row], strict=True)
                },
                track=labels[track[row]],
                valence=valence,
                arousal=arousal,
                evidence=check_reason(
                    span.answer.reason,
                    span.start,
                    span.end,
                    motion=shown,
                    voice=span.voice,
                    norm=norm,
                    transcript=transcript,
                    units=seen,
                ),
            )
    return tuple(out.get(i, s) for i, s in enumerate(spans)), moved


def _face(units: UnitTrack | None, span: Span) -> tuple[frozenset[str] | None, float | None]:
    """(codes of the action units of a segment, where to look): their peak, or the greatest movement where none were measured."""
    part = units.within(span.start, span.end) if units else None
    if part is None or not part.has_face:
        return None, span.motion
    peak = find_peak(part, span.answer.label, TABLES["mmeverse"])
    return frozenset(
        map(unit_code, part.present_anywhere())
    ), span.motion if peak is None or peak.time is None else peak.time


def _answered(
    bundle: Bundle,
    path: str,
    options: Options,
    *,
    labels: tuple[str, ...],
    transcript: Transcript,
    people: People,
    state: Path | None,
    notes: list[str],
    transcribe: Transcribe | None,
    transcriber: str,
) -> Iterator[tuple[Span | None, float]]:
    """(span or None, seconds of the recording that are done)."""
    key = (
        _key(bundle, path, options, labels=labels, transcript=transcript, people=people)
        + transcriber
    )
    kept = _read_state(state, key) if state else {}
    file = None
    if state is not None:
        state.parent.mkdir(parents=True, exist_ok=True)
        if not kept:
            _write_first(state, key)
        file = state.open("a", encoding="utf-8")
    try:
        waiting: list[tuple[Segment, str, Any]] = []
        for segment in read_segments(
            path, options.cut, bundle.settings.sampling(None), notes=notes
        ):
            for person, clip in people.split(segment):
                waiting.append((segment, person, clip))
            while len(waiting) >= BATCH:
                chunk, waiting = waiting[:BATCH], waiting[BATCH:]
                yield from _answer(
                    bundle,
                    path,
                    chunk,
                    options=options,
                    labels=labels,
                    transcript=transcript,
                    kept=kept,
                    file=file,
                    transcribe=transcribe,
                )
        if waiting:
            yield from _answer(
                bundle,
                path,
                waiting,
                options=options,
                labels=labels,
                transcript=transcript,
                kept=kept,
                file=file,
                transcribe=transcribe,
            )
    finally:
        if file is not None:
            file.close()


def _answer(
    bundle: Bundle,
    path: str,
    chunk: Sequence[tuple[Segment, str, Any]],
    *,
    options: Options,
    labels: tuple[str, ...],
    transcript: Transcript,
    kept: dict[tuple[int, str], dict[str, Any]],
    file: Any,
    transcribe: Transcribe | None,
) -> Iterator[tuple[Span | None, float]]:
    begin = time.monotonic()
    ask = []
    for segment, person, clip in chunk:
        words = transcript.words(segment.start, segment.end)
        clip = dataclasses.replace(clip, subtitle=words)
        if (segment.index, person) not in kept and clip.modalities:
            ask.append(((segment.index, person), clip))
    found: dict[tuple[int, str], Answer] = {}
    if ask:
        answers = answer_clips(
            bundle,
            [(path, c) for _, c in ask],
            labels,
            ask=Ask(
                reason=options.reasons,
                abstain=options.abstain,
                explain=options.explain,
                transcribe=transcribe,
            ),
        )
        share = (time.monotonic() - begin) / len(ask)
        for (where, _), answer in zip(ask, answers, strict=True):
            found[where] = dataclasses.replace(answer, seconds=round(share, 3))
            if file is not None:
                file.write(json.dumps({"at": list(where), "answer": found[where].to_json()}) + "\n")
        if file is not None:
            file.flush()
            os.fsync(file.fileno())
    for segment, person, clip in chunk:
        where = (segment.index, person)
        answer = found.get(where) or _from_json(kept.get(where)) or _nothing(path, bundle, segment)
        words = transcript.words(segment.start, segment.end)
        span = Span(
            index=segment.index,
            start=segment.start,
            end=segment.end,
            ends_at=segment.ends_at,
            speech=None if segment.speech is None else round(segment.speech, 3),
            person=person,
            words=words or (answer.transcript["text"] if answer.transcript else ""),
            speakers=transcript.speakers(segment.start, segment.end),
            answer=answer,
            voice=measure_voice(clip.waveform) if clip.waveform is not None else None,
            motion=None if segment.motion is None else round(segment.motion, 3),
        )
        yield span, segment.end


def _transcribed(spans: Sequence[Span]) -> Transcript:
    """What was heard in the segments, as a transcript with times of the recording."""
    heard = {s.index: (s.start, s.answer.transcript) for s in spans if s.answer.transcript}
    cues = [
        Cue(start=round(start + c["start"], 2), end=round(start + c["end"], 2), text=c["text"])
        for start, found in heard.values()
        for c in found["cues"]
    ]
    spoken = Counter(found["language"] for _, found in heard.values())
    return Transcript(tuple(cues), TRANSCRIBED, spoken.most_common(1)[0][0] if spoken else "")


def _nothing(path: str, bundle: Bundle, segment: Segment) -> Answer:
    return Answer(
        path=path,
        label=None,
        probabilities={},
        reason="",
        modalities=(),
        seconds=0.0,
        error="there is nothing to see, hear or read in it",
        model=bundle.name,
        notes=(),
        duration=segment.end - segment.start,
    )


def _from_json(fields: dict[str, Any] | None) -> Answer | None:
    return None if fields is None else Answer.from_json(fields)


def _key(
    bundle: Bundle,
    path: str,
    options: Options,
    *,
    labels: tuple[str, ...],
    transcript: Transcript,
    people: People,
) -> str:
    """What a kept answer depends on: file, model, question."""
    with open(path, "rb") as file:
        head = hashlib.sha256(file.read(1 << 20)).hexdigest()
        size = [file.seek(0, os.SEEK_END), os.stat(path).st_mtime_ns]
    # A model that was trained again has its old name and folder.
    facts_file = Path(bundle.name.partition("@")[2]) / "model.json"
    trained = facts_file.stat().st_mtime_ns if facts_file.is_file() else 0
    asked = {
        k: v
        for k, v in dataclasses.asdict(options).items()
        if k not in ("purpose", "smoothing", "change_price")
    }
    facts: list[Any] = [
        head,
        size,
        bundle.name,
        bundle.settings.raw,
        dataclasses.asdict(bundle.calibration) if bundle.calibration else None,
    ]
    facts += [trained, __version__, asked, labels, dataclasses.asdict(transcript), people.name]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _write_first(state: Path, key: str) -> None:
    state.write_text(json.dumps({"schema": SCHEMA, "key": key}) + "\n", encoding="utf-8")


def _read_state(state: Path, key: str) -> dict[tuple[int, str], dict[str, Any]]:
    """Answers of an earlier run of the same question; a torn last line is cut off."""
    if not state.exists():
        return {}
    lines = state.read_bytes().split(b"\n")
    kept: dict[tuple[int, str], dict[str, Any]] = {}
    try:
        if json.loads(lines[0]).get("key") != key:
            return {}
    except (ValueError, AttributeError):
        return {}
    good = len(lines[0]) + 1
    for line in lines[1:-1]:
        try:
            found = json.loads(line)
            kept[(int(found["at"][0]), str(found["at"][1]))] = found["answer"]
            good += len(line) + 1
        except (ValueError, KeyError, TypeError, IndexError):
            break
    os.truncate(state, good)
    return kept


def source_of_words(timeline: Timeline) -> str:
    """One phrase for people."""
    return "no words were known" if timeline.words == NONE else f"words: {timeline.words}"
