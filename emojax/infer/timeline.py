"""A recording of any length -> its timeline: segments with start and end, each one answered.

Answers are kept segment by segment in a file, so that a run that was stopped does not answer a
segment twice. What needs the whole recording (smoothing, label path, evidence) is computed at the
end.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.annotate.evidence import baseline, check_reason
from data_pipeline.annotate.peaks import find_peak
from data_pipeline.annotate.unit_tracks import UnitTrack
from data_pipeline.annotate.units import TABLES, unit_code
from data_pipeline.media.fingerprint import recording_fingerprint
from data_pipeline.media.notes import merge_notes
from data_pipeline.media.prosody import measure_voice
from data_pipeline.media.segments import Segment, read_segments
from data_pipeline.media.stream import Recording, open_recording
from data_pipeline.media.transcript import TRANSCRIBED, Cue, Transcript
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import Clip
from emojax.bundle.model_folder import Bundle
from emojax.infer.answer_cache import AnswerCache, Place, answer_key
from emojax.infer.face_tracks import PersonSplitter, WholePicture
from emojax.infer.predict import (
    NOTHING_INSIDE,
    PredictOptions,
    TranscribeFn,
    answer_clips,
    refusal,
)
from emojax.infer.prepare import clips_at_once
from emojax.infer.smoothing import Change, label_changes, smooth, viterbi_path
from emojax.infer.timeline_records import Span, Timeline, TimelineOptions
from emojax.infer.valence_arousal import valence_arousal
from emojax.types import Answer

MIN_SPEECH = 0.3  # share of speech from which a segment's sound counts as a voice


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Question:
    """What each segment of a recording is asked."""

    bundle: Bundle
    path: str
    fingerprint: str
    options: TimelineOptions
    labels: tuple[str, ...]
    transcript: Transcript
    people: PersonSplitter
    transcribe: TranscribeFn | None


def make_timeline(
    bundle: Bundle,
    path: str,
    *,
    options: TimelineOptions | None = None,
    labels: Sequence[str] | None = None,
    transcript: Transcript | None = None,
    people: PersonSplitter | None = None,
    resume_file: Path | None = None,
    transcribe: TranscribeFn | None = None,
    transcriber_name: str = "",
    units: UnitTrack | None = None,
    progress: Progress = no_progress,
) -> Timeline:
    """Answers a recording.

    Args:
      bundle: the model.
      path: media file.
      options: how it is answered.
      labels: label strings to choose from, the model's own by default.
      transcript: words with times.
      people: how people are separated; None: one track of the whole picture.
      resume_file: file that keeps answered segments; a run of the same question continues from it.
        Whoever has written the outputs deletes it.
      transcribe: transcribes segments for which the transcript has no words.
      transcriber_name: its name; kept answers are used only if it is the same.
      units: action units measured over the recording, to check claims about the face.
      progress: reports seconds of the recording.

    Raises:
      ClipError: the file cannot be read.
      RowTooLong: the prompt of a segment with these labels is longer than the model reads.
    """
    begin = time.monotonic()
    question = _Question(
        bundle=bundle,
        path=path,
        fingerprint=recording_fingerprint(path),
        options=options or TimelineOptions(),
        labels=tuple(labels or bundle.labels),
        transcript=transcript or Transcript(),
        people=people or WholePicture(),
        transcribe=transcribe,
    )
    notes = list(question.transcript.notes)
    spans, seconds = _answer_recording(question, resume_file, transcriber_name, notes, progress)
    timeline = _assemble(question, spans, units)
    return dataclasses.replace(
        timeline,
        seconds=round(seconds, 3),
        notes=merge_notes(notes),
        took=round(time.monotonic() - begin, 1),
    )


def _answer_recording(
    question: _Question,
    resume_file: Path | None,
    transcriber_name: str,
    notes: list[str],
    progress: Progress,
) -> tuple[list[Span], float]:
    """The answered spans, and the seconds of the recording.

    `notes` receives what is irregular about the file.
    """
    path = question.path
    recording = open_recording(path, notes)
    spans: list[Span] = []
    for span in _answer_segments(question, recording, resume_file, transcriber_name, notes):
        spans.append(span)
        done, total = min(span.end, recording.seconds), recording.seconds
        progress(Path(path).name[:40], round(done, 1), round(total, 1))
    seconds = spans[-1].end if spans else recording.seconds
    announced = recording.times.announced
    if announced - seconds > max(0.5, 0.02 * announced):
        notes.append(
            f"the file ends at {seconds:.1f} s, but its header gives {announced:.1f} s:"
            " the rest is missing or damaged"
        )
    return spans, seconds


def _assemble(question: _Question, spans: Sequence[Span], units: UnitTrack | None) -> Timeline:
    options, words = question.options, question.transcript
    if question.transcribe is not None and not words.cues:
        words = _transcribed(spans)
    complete, changes = complete_spans(
        spans, question.labels, options=options, transcript=words, units=units
    )
    return Timeline(
        path=question.path,
        fingerprint=question.fingerprint,
        seconds=0.0,
        model=question.bundle.name,
        labels=question.labels,
        spans=complete,
        changes=changes,
        words=words.source,
        language=words.language,
        people=question.people.name,
        purpose=options.purpose,
        settings={k: v for k, v in options.to_json().items() if k != "purpose"},
    )


def complete_spans(
    spans: Sequence[Span],
    labels: tuple[str, ...],
    *,
    options: TimelineOptions,
    transcript: Transcript,
    units: UnitTrack | None = None,
) -> tuple[tuple[Span, ...], dict[str, tuple[Change, ...]]]:
    """Adds what needs the whole recording: smoothed probabilities, label path and evidence.

    Args:
      spans: the answered segments.
      labels: label strings to choose from.
      options: how the recording is answered.
      transcript: words with times.
      units: action units measured over the recording.

    Returns:
      The complete spans, and the changes of label by person.
    """
    voices = {s.index: s.voice for s in spans if (s.speech or 0) >= MIN_SPEECH}
    norm = baseline(list(voices.values()))
    complete: dict[int, Span] = {}
    changes: dict[str, tuple[Change, ...]] = {}
    for person in dict.fromkeys(s.person for s in spans):
        at = [i for i, s in enumerate(spans) if s.person == person and _is_answer(s.answer)]
        if not at:
            continue
        probs = np.array([[spans[i].answer.probabilities[name] for name in labels] for i in at])
        starts, ends = (np.array([getattr(spans[i], n) for i in at]) for n in ("start", "end"))
        smoothed = smooth(probs, starts, ends, seconds=options.smoothing)
        path = viterbi_path(probs, starts, ends, switch_penalty=options.switch_penalty)
        changes[person] = tuple(label_changes(path, probs, starts, ends, labels))
        for row, i in enumerate(at):
            span = spans[i]
            valence, arousal, _ = valence_arousal(span.answer.probabilities)
            active, motion = _face(units, span)
            complete[i] = dataclasses.replace(
                span,
                smoothed={
                    name: round(float(p), 4) for name, p in zip(labels, smoothed[row], strict=True)
                },
                track=labels[path[row]],
                valence=valence,
                arousal=arousal,
                evidence=check_reason(
                    span.answer.reason,
                    span.start,
                    span.end,
                    motion=motion,
                    voice=span.voice,
                    norm=norm,
                    transcript=transcript,
                    units=active,
                ),
            )
    return tuple(complete.get(i, s) for i, s in enumerate(spans)), changes


def _is_answer(answer: Answer) -> bool:
    """Whether a segment belongs to the track; where nobody is, its probabilities are a guess."""
    return answer.error is None and not answer.nobody


def _face(units: UnitTrack | None, span: Span) -> tuple[frozenset[str] | None, float | None]:
    """Codes of the action units in a segment, and the time of their peak.

    Without measured units: None, and the time of the largest movement.
    """
    part = units.within(span.start, span.end) if units else None
    if part is None or not part.has_face:
        return None, span.motion
    peak = find_peak(part, span.answer.label, TABLES["mmeverse"])
    motion = span.motion if peak is None or peak.time is None else peak.time
    return frozenset(map(unit_code, part.present_anywhere())), motion


def _answer_segments(
    question: _Question,
    recording: Recording,
    resume_file: Path | None,
    transcriber_name: str,
    notes: list[str],
) -> Iterator[Span]:
    """Yields answered spans in order of time; `notes` receives what is irregular about the file."""
    q = question
    key = answer_key(
        q.bundle, q.path, q.options, labels=q.labels, transcript=q.transcript, people=q.people
    )
    sampling = q.bundle.settings.sampling(None)
    key += transcriber_name
    with AnswerCache(resume_file, key, fingerprint=q.fingerprint) as cache:
        waiting: list[tuple[Segment, str, Clip]] = []
        batch_size = clips_at_once(q.bundle)
        segments = read_segments(q.path, q.options.cut, sampling, notes=notes, recording=recording)
        for segment in segments:
            waiting += [(segment, person, clip) for person, clip in q.people.split(segment)]
            while len(waiting) >= batch_size:
                chunk, waiting = waiting[:batch_size], waiting[batch_size:]
                yield from _answer_chunk(q, chunk, cache)
        if waiting:
            yield from _answer_chunk(q, waiting, cache)


def _answer_chunk(
    question: _Question, chunk: Sequence[tuple[Segment, str, Clip]], cache: AnswerCache
) -> Iterator[Span]:
    begin = time.monotonic()
    options, transcript = question.options, question.transcript
    new: dict[Place, Clip] = {}
    for segment, person, clip in chunk:
        place = (segment.index, person)
        words = transcript.words(segment.start, segment.end)
        with_words = dataclasses.replace(clip, subtitle=words)
        if cache.get(place) is None and with_words.modalities:
            new[place] = with_words
    answers: dict[Place, Answer] = {}
    if new:
        results = answer_clips(
            question.bundle,
            [(question.path, clip) for clip in new.values()],
            question.labels,
            options=PredictOptions(
                reason=options.reasons,
                abstain=options.abstain,
                explain=options.explain,
                transcribe=question.transcribe,
                for_recordings="",
            ),
        )
        seconds = round((time.monotonic() - begin) / len(new), 3)
        answers = {
            place: dataclasses.replace(answer, seconds=seconds)
            for place, answer in zip(new, results, strict=True)
        }
        cache.add(answers)
    for segment, person, clip in chunk:
        place = (segment.index, person)
        answer = answers.get(place) or cache.get(place)
        yield _span(question, segment, person, clip=clip, answer=answer)


def _span(
    question: _Question, segment: Segment, person: str, *, clip: Clip, answer: Answer | None
) -> Span:
    if answer is None:
        answer = refusal(
            question.bundle,
            question.path,
            NOTHING_INSIDE,
            duration=segment.end - segment.start,
        )
    turns = question.transcript.turns(segment.start, segment.end)
    words = " ".join(text for _, text in turns)
    return Span(
        index=segment.index,
        start=segment.start,
        end=segment.end,
        ends_at=segment.ends_at,
        speech=None if segment.speech is None else round(segment.speech, 3),
        person=person,
        words=words or (answer.transcript["text"] if answer.transcript else ""),
        speakers=question.transcript.speakers(segment.start, segment.end),
        turns=turns if any(speaker for speaker, _ in turns) else (),
        answer=answer,
        voice=measure_voice(clip.waveform) if clip.waveform is not None else None,
        motion=None if segment.motion is None else round(segment.motion, 3),
    )


def _transcribed(spans: Sequence[Span]) -> Transcript:
    """The transcriptions of the segments as one transcript with times of the recording."""
    transcripts = {s.index: (s.start, s.answer.transcript) for s in spans if s.answer.transcript}
    cues = [
        Cue(start=round(start + c["start"], 2), end=round(start + c["end"], 2), text=c["text"])
        for start, transcription in transcripts.values()
        for c in transcription["cues"]
    ]
    languages = Counter(transcription["language"] for _, transcription in transcripts.values())
    language = languages.most_common(1)[0][0] if languages else ""
    return Transcript(cues=tuple(cues), source=TRANSCRIBED, language=language)
