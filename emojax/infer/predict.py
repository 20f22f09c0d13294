"""Media files -> Answers: each file is decoded, then refused with a reason or answered."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.datasets.labels import normalize_answer
from data_pipeline.loader.samples import truncate_subtitle
from data_pipeline.loader.tokens import RowTooLong
from data_pipeline.media.clip import read_clip
from data_pipeline.media.container import ClipError, DecodeTimeout, cause_of
from data_pipeline.media.file_kinds import is_picture
from data_pipeline.media.presence import has_speech
from data_pipeline.media.speaker_norm import Speakers, measure_speakers
from data_pipeline.media.subtitles import TranscriptError, transcript_of
from data_pipeline.media.views import Views, make_views, window_notes
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import Clip, ClipRecord
from emojax.bundle.model_folder import Bundle
from emojax.infer.answer import label_probabilities, reasons
from emojax.infer.attribution import CANNOT_TELL, contributions, fusion_weights
from emojax.infer.encode_clips import Encoded, encode, unlabelled_record, with_subtitles
from emojax.infer.grounding import find_grounds, grounded_text
from emojax.infer.prepare import clips_at_once
from emojax.infer.sample import Sampler
from emojax.infer.transcribe import Transcription
from emojax.types import Answer

logger = logging.getLogger(__name__)

# float[B, S, D], states of Whisper's encoder -> one transcription per clip
TranscribeFn = Callable[[np.ndarray], list[Transcription]]
LONG = 60.0  # seconds from which one answer says little about a recording
NOTHING_INSIDE = "there is nothing to see, hear or read in it"  # why an empty clip is refused
ONE_SPEAKER = "one"  # the speaker's name if all files are of one person


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What is predicted for each clip besides its label.

    Attributes:
      reason: also write the reason, if the model was trained to.
      speakers: audio statistics of the person that all files are of, see `measure_speaker`; None if
        speakers are not known.
      abstain: below this probability the answer is "cannot tell" with the two most probable labels.
      explain: also measure what each modality contributes (2^modalities forward passes).
      fusion_weights: also return the weights of the Conv-Attention.
      words: a subtitle or text file of the one clip; None: the file of each clip's name in its
        folder; "none": no file.
      transcribe: transcribes clips that come without words.
      repetition_penalty: of the reason, as of `Sampler`.
      for_recordings: what to do with a recording that is too long for one answer; "": any clip may
        be long.
    """

    reason: bool = True
    speakers: Speakers | None = None
    abstain: float = 0.0
    explain: bool = False
    fusion_weights: bool = False
    words: str | None = "none"
    transcribe: TranscribeFn | None = None
    repetition_penalty: float = 1.0
    for_recordings: str = "--timeline answers recordings of any length, part by part"


def predict(
    bundle: Bundle,
    paths: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    subtitle: str = "",
    timeout: float = 8.0,
    options: PredictOptions | None = None,
) -> Iterator[Answer]:
    """Answers files in the order given.

    Args:
      bundle: the model.
      paths: media files.
      labels: label strings to choose from, the model's own by default.
      subtitle: spoken words, the same for all files; files of words are then not read.
      timeout: seconds of decoding after which a file is refused.
      options: what is predicted besides the label.

    Yields:
      One Answer per file. For a refused file, `error` says why and the answer is empty.

    Raises:
      RowTooLong: the prompt of a clip with these labels is longer than the model reads.
    """
    labels = tuple(labels or bundle.labels)
    options = options or PredictOptions()
    batch_size = clips_at_once(bundle)
    for start in range(0, len(paths), batch_size):
        chunk: list[tuple[str, Clip | str, float]] = []  # path, clip or error, seconds
        for path in paths[start : start + batch_size]:
            begin = time.monotonic()
            decoded = _decode(bundle, path, subtitle, timeout, options)
            chunk.append((path, decoded, time.monotonic() - begin))
        clips = [(path, clip) for path, clip, _ in chunk if isinstance(clip, Clip)]
        begin = time.monotonic()
        answers = iter(_answer_each(bundle, clips, labels, options))
        per_clip = (time.monotonic() - begin) / max(1, len(clips))
        for path, decoded, seconds in chunk:
            if isinstance(decoded, str):
                error = " ".join(decoded.split())
                yield refusal(bundle, path, error, seconds=round(seconds, 3))
            else:
                yield dataclasses.replace(next(answers), seconds=round(seconds + per_clip, 3))


def _answer_each(
    bundle: Bundle,
    clips: Sequence[tuple[str, Clip]],
    labels: tuple[str, ...],
    options: PredictOptions,
) -> list[Answer]:
    """Like `answer_clips`, but a clip that cannot be answered is refused alone."""
    try:
        return answer_clips(bundle, clips, labels, options=options)
    except RowTooLong:
        raise  # the labels are the same for all clips
    except Exception as error:
        logger.debug("clips cannot be answered", exc_info=True)
        if len(clips) == 1:
            cause = f"{type(error).__name__}: {cause_of(error)}"
            return [refusal(bundle, clips[0][0], f"the clip cannot be answered ({cause})")]
    return [a for clip in clips for a in _answer_each(bundle, [clip], labels, options)]


def refusal(
    bundle: Bundle, path: str, error: str, *, seconds: float = 0.0, duration: float = 0.0
) -> Answer:
    """The Answer for a clip that cannot be answered.

    Args:
      bundle: the model.
      path: media file.
      error: one sentence that says why.
      seconds: time spent on the file.
      duration: s, length of the clip.
    """
    return Answer(
        path=path,
        label=None,
        probabilities={},
        reason="",
        modalities=(),
        seconds=seconds,
        error=error,
        model=bundle.name,
        duration=duration,
    )


def _decode(
    bundle: Bundle, path: str, subtitle: str, timeout: float, options: PredictOptions
) -> Clip | str:
    """The clip, or why there is none."""
    sampling = bundle.settings.sampling(None)
    try:
        clip = read_clip(path, sampling=sampling, subtitle=subtitle, timeout=timeout)
        if not subtitle and not is_picture(path):
            clip = _with_words(clip, path, options.words)
    except DecodeTimeout as error:
        return f"{error}; {options.for_recordings}"
    except (ClipError, TranscriptError) as error:
        return str(error)
    if not clip.modalities:
        return "; ".join(clip.notes) or NOTHING_INSIDE
    return clip


def _with_words(clip: Clip, path: str, given: str | None) -> Clip:
    """The clip with the words of its file of words, see `transcript_of`."""
    transcript = transcript_of(path, given=given)
    words = transcript.words(0, clip.duration)
    source = (f"words: {transcript.source}",) if words else ()
    return dataclasses.replace(
        clip, subtitle=words, notes=(*clip.notes, *source, *transcript.notes)
    )


def measure_speaker(
    bundle: Bundle,
    paths: Sequence[str],
    *,
    timeout: float = 8.0,
    progress: Progress = no_progress,
) -> Speakers:
    """Audio statistics of files that are all of one person.

    Args:
      bundle: the model.
      paths: media files; those that cannot be decoded are skipped.
      timeout: seconds of decoding after which a file is skipped.
      progress: reports finished files.

    Returns:
      The statistics of the person, named ONE_SPEAKER, and those of the average speaker.

    Raises:
      ValueError: the model was not trained with speaker normalisation.
    """
    if bundle.average_speaker is None:
        raise ValueError(
            f"{bundle.name} was not trained with config.data.speaker_norm"
            " on clips that name speakers"
        )

    def clips() -> Iterator[tuple[ClipRecord, Views]]:
        for number, path in enumerate(paths, 1):
            with contextlib.suppress(ClipError):  # `predict` reports it
                clip = read_clip(path, sampling=bundle.settings.sampling(None), timeout=timeout)
                record = unlabelled_record(
                    bundle, path, labels=("-",), path=path, speaker=ONE_SPEAKER
                )
                yield record, make_views(clip, bundle.settings.views)
            progress("listen", number, len(paths))

    return Speakers(measure_speakers(clips()), bundle.average_speaker)


def answer_clips(
    bundle: Bundle,
    clips: Sequence[tuple[str, Clip]],
    labels: tuple[str, ...],
    *,
    options: PredictOptions | None = None,
) -> list[Answer]:
    """Answers decoded clips in their order; `seconds` of the answers is not set.

    Args:
      bundle: the model.
      clips: (path, clip).
      labels: label strings.
      options: what is predicted besides the label.

    Raises:
      RowTooLong: the prompt of a clip with these labels is longer than the model reads.
    """
    options = options or PredictOptions()
    if not clips:
        return []
    batch_size = clips_at_once(bundle)
    encoded, transcriptions = _encode(bundle, clips, labels, options)
    clips = [
        (path, dataclasses.replace(clip, subtitle=record.subtitle))
        for (path, clip), record in zip(clips, encoded.records, strict=True)
    ]
    probs = label_probabilities(bundle, encoded, labels, batch_size=batch_size)
    texts, penalty = [""] * len(clips), options.repetition_penalty
    if options.reason and bundle.can_reason:
        sampler = Sampler(max_tokens=bundle.answer_tokens, repetition_penalty=penalty)
        texts = reasons(bundle, encoded, batch_size=batch_size, sampler=sampler)
    added: list[dict[str, float] | None] = [None] * len(clips)
    if options.explain:

        def score(modalities: Sequence[str]) -> np.ndarray:
            return label_probabilities(
                bundle, encoded, labels, modalities=modalities, batch_size=batch_size
            )

        present = [clip.modalities for _, clip in clips]
        added = [*contributions(score, probs.argmax(axis=1), present)]
    weights: list[dict[str, list[float]] | None] = [None] * len(clips)
    if options.fusion_weights:
        weights = [*fusion_weights(bundle, encoded)]
    answers = []
    for i, ((path, clip), record) in enumerate(zip(clips, encoded.records, strict=True)):
        probabilities = {label: float(p) for label, p in zip(labels, probs[i], strict=True)}
        answer = _answer(bundle, clip, record, probabilities, reason=texts[i], options=options)
        words = transcriptions.get(i)
        answers.append(
            dataclasses.replace(
                answer,
                path=path,
                contributions=added[i],
                fusion_weights=weights[i],
                transcript=_transcript(words, clip.duration) if words else None,
            )
        )
    return answers


def _answer(
    bundle: Bundle,
    clip: Clip,
    record: ClipRecord,
    probabilities: dict[str, float],
    *,
    reason: str,
    options: PredictOptions,
) -> Answer:
    labels = tuple(probabilities)
    label = max(probabilities, key=lambda name: probabilities[name])
    grounds = find_grounds(clip)
    leading: tuple[str, ...] = ()
    if grounds.nobody or probabilities[label] < options.abstain:
        leading = tuple(sorted(probabilities, key=lambda name: -probabilities[name])[:2])
    reason, left_out = grounded_text(reason, grounds)
    notes = [*clip_notes(bundle, clip, record, options), *grounds.missing, *left_out]
    # The reason is generated freely and may conclude another label than the probabilities.
    concluded = _concluded(reason, (*labels, *bundle.labels))
    if concluded and label not in concluded:
        notes.append(f"the written reason concludes '{concluded[0]}', the probabilities '{label}'")
    return Answer(
        path="",
        label=CANNOT_TELL if leading else label,
        probabilities=probabilities,
        reason=reason,
        modalities=clip.modalities,
        seconds=0.0,
        error=None,
        model=bundle.name,
        notes=tuple(notes),
        duration=clip.duration,
        leading=leading,
        calibrated=bundle.calibration is not None and labels == bundle.calibration.labels,
        signs=grounds.signs,
    )


def _encode(
    bundle: Bundle,
    clips: Sequence[tuple[str, Clip]],
    labels: tuple[str, ...],
    options: PredictOptions,
) -> tuple[Encoded, Mapping[int, Transcription]]:
    """Runs the encoders; clips without words are transcribed if the options say so.

    Returns:
      The clips with their subtitles, given or transcribed, and {number of the clip: transcription}.
    """
    items = []
    for path, clip in clips:
        record = unlabelled_record(
            bundle,
            clip.id,
            labels=labels,
            path=path,
            subtitle=clip.subtitle,
            speaker=ONE_SPEAKER,
        )
        views = make_views(clip, bundle.settings.views)
        if options.speakers:
            views = options.speakers.normalize(record, views)
        items.append((record, views))
    transcribe = options.transcribe
    encoded = encode(
        bundle, items, batch_size=clips_at_once(bundle), keep_encoder_states=transcribe is not None
    )
    wordless = [
        i
        for i, (_, clip) in enumerate(clips)
        # A transcription model makes up words for sounds that are no speech.
        if clip.waveform is not None and not clip.subtitle.strip() and has_speech(clip.waveform)
    ]
    if transcribe is None or not wordless:
        return encoded, {}
    results = transcribe(np.stack([encoded.encoder_states[i] for i in wordless]))
    transcriptions = {i: t for i, t in zip(wordless, results, strict=True) if t.text}
    subtitles = {i: t.text for i, t in transcriptions.items()}
    return with_subtitles(encoded, subtitles), transcriptions


def clip_notes(
    bundle: Bundle, clip: Clip, record: ClipRecord, options: PredictOptions
) -> list[str]:
    """What is irregular about a clip and how the model reads it, one sentence each.

    Args:
      bundle: the model.
      clip: the decoded clip.
      record: its labels and words.
      options: what is predicted.
    """
    notes = list(clip.notes)
    if clip.duration > LONG and options.for_recordings:
        notes.append(f"one answer for {clip.duration:.0f} s; {options.for_recordings}")
    limit = bundle.settings.data.max_subtitle
    if truncate_subtitle(record, bundle.tokenizer, limit) is not record:
        notes.append(f"the subtitle was cut to {limit} tokens")
    notes += window_notes(clip, bundle.settings.views)
    if other := untrained_labels(bundle, record.labels):
        notes.append(
            f"the model was not trained on {', '.join(map(repr, other))}: probabilities of other "
            f"labels than {', '.join(bundle.labels)} were never tested"
        )
    if (
        bundle.average_speaker is not None
        and options.speakers is None
        and "audio" in clip.modalities
    ):
        notes.append(
            "the model was trained with known speakers, and this speaker is not known:"
            " see --one-speaker"
        )
    return notes


def untrained_labels(bundle: Bundle, labels: Sequence[str]) -> list[str]:
    """The labels that are not among those that a model was trained on."""
    own = {normalize_answer(label) for label in bundle.labels}
    return [label for label in labels if normalize_answer(label) not in own]


def _concluded(reason: str, labels: Sequence[str]) -> list[str]:
    """The labels that form the end of a reason."""
    return [name for name in dict.fromkeys(labels) if reason.endswith(f" {normalize_answer(name)}")]


def _transcript(transcription: Transcription, duration: float) -> dict[str, Any]:
    """The field `transcript` of an Answer; cues end with the clip."""
    cues = [
        {"start": c.start, "end": round(min(c.end, duration), 2), "text": c.text}
        for c in transcription.cues
        if c.start < duration
    ]
    return {
        "language": transcription.language,
        "text": transcription.text,
        "cues": cues,
        "certainty": transcription.certainty,
    }
