"""Media files -> Answers, file by file: decode, refuse with a reason, or answer in small batches."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.datasets.labels import normalise_answer
from data_pipeline.io import cache_root
from data_pipeline.loader.batches import fit_subtitle
from data_pipeline.media.clip import MEDIA_SUFFIXES, ClipError, read_clip
from data_pipeline.media.speaker_norm import Speakers, measure_speakers
from data_pipeline.media.views import Views, make_views, window_notes
from data_pipeline.schema import Clip, ClipRecord
from emojax.bundle.model_folder import Bundle
from emojax.infer.answer import encode, label_probabilities, reasons, with_words
from emojax.infer.attribution import CANNOT_TELL, contributions, fusion_weights
from emojax.infer.transcribe import Heard
from emojax.types import Answer

Transcribe = Callable[
    [np.ndarray], list[Heard]
]  # states of Whisper's encoder float[B, S, D] -> words
BATCH = 4  # files answered together; small, so that answers appear as they come
ONE_SPEAKER = "one"  # name of whoever is seen, where all files are of one person
DEMO_POINTER = "demo_model.txt"  # in the cache: where `emojax demo` left its newest model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
    """What is wanted of each clip, beside its label.

    Attributes:
      reason: also write the reason, where the model has learned to.
      speakers: sound of the one person of all files, see `listen`; None where people are not known.
      abstain: below this probability the answer is "cannot tell", with the two leading labels.
      explain: also measure what each modality adds (2 to the power of the modalities as many passes).
      weights: also tell the weights of the Conv-Attention.
      transcribe: hears the words of clips that come without.
    """

    reason: bool = True
    speakers: Speakers | None = None
    abstain: float = 0.0
    explain: bool = False
    weights: bool = False
    transcribe: Transcribe | None = None


def find_media(paths: Sequence[str]) -> list[str]:
    """Files as given, and those of folders (searched recursively for media suffixes), in a stable order."""
    found: list[str] = []
    for path in paths:
        if os.path.isdir(path):  # unlike Path.is_dir, False for names that no file can have
            found += sorted(
                str(p)
                for p in Path(path).rglob("*")
                if p.is_file() and p.suffix.lower() in MEDIA_SUFFIXES
            )
        else:
            found.append(path)
    return found


def default_model() -> Path | None:
    """The newest of imported weights (those that only a training starts from aside), this folder's `runs/demo` and the last `emojax demo` anywhere."""
    root = cache_root()
    folders = [
        Path("runs/demo"),
        *(f for f in (root / "weights").glob("*") if not f.name.endswith("-start")),
    ]
    if (root / DEMO_POINTER).exists():
        folders.append(Path((root / DEMO_POINTER).read_text().strip()))
    complete = [f for f in folders if (f / "model.json").exists()]
    return max(complete, key=lambda f: (f / "model.json").stat().st_mtime, default=None)


def predict(
    bundle: Bundle,
    paths: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    subtitle: str = "",
    timeout: float = 8.0,
    ask: Ask | None = None,
) -> Iterator[Answer]:
    """Answers files in the order given.

    Args:
      bundle: the model. paths: media files.
      labels: label strings to choose from, the model's own by default.
      subtitle: words spoken, for all files alike.
      timeout: seconds of decoding after which a file is refused.
      ask: what is wanted beside the label.

    Yields:
      One Answer a file; a refused one carries `error` and nothing else.
    """
    labels = tuple(labels or bundle.labels)
    for start in range(0, len(paths), BATCH):
        chunk: list[tuple[str, Clip | str, float]] = []
        for path in paths[start : start + BATCH]:
            begin = time.monotonic()
            found: Clip | str
            try:
                found = read_clip(
                    path,
                    sampling=bundle.settings.sampling(None),
                    subtitle=subtitle,
                    timeout=timeout,
                )
                if not found.modalities:
                    found = "; ".join(found.notes) or "there is nothing to see, hear or read in it"
            except ClipError as error:
                found = str(error)
            chunk.append((path, found, time.monotonic() - begin))
        clips = [(path, clip) for path, clip, _ in chunk if isinstance(clip, Clip)]
        begin = time.monotonic()
        answered = iter(answer_clips(bundle, clips, labels, ask=ask))
        share = (time.monotonic() - begin) / max(1, len(clips))
        for path, found, seconds in chunk:
            if isinstance(found, str):
                yield Answer(
                    path=path,
                    label=None,
                    probabilities={},
                    reason="",
                    modalities=(),
                    seconds=round(seconds, 3),
                    error=" ".join(found.split()),
                    model=bundle.name,
                )
            else:
                yield dataclasses.replace(next(answered), seconds=round(seconds + share, 3))


def _words(heard: Heard, duration: float) -> dict[str, Any]:
    cues = [
        {"start": c.start, "end": round(min(c.end, duration), 2), "text": c.text}
        for c in heard.cues
        if c.start < duration
    ]
    return {
        "language": heard.language,
        "text": heard.text,
        "cues": cues,
        "certainty": heard.certainty,
    }


def listen(
    bundle: Bundle,
    paths: Sequence[str],
    *,
    timeout: float = 8.0,
    tick: Callable[[int], None] | None = None,
) -> Speakers:
    """Statistics of the sound of files that are all of one person.

    Raises:
      ValueError: the model was not trained with speaker normalisation, so it has no use for them.
    """
    if bundle.average_speaker is None:
        raise ValueError(
            f"{bundle.name} was not trained with config.data.speaker_norm on clips that name speakers"
        )

    def heard() -> Iterator[tuple[ClipRecord, Views]]:
        for number, path in enumerate(paths, 1):
            with contextlib.suppress(ClipError):  # `predict` says why
                clip = read_clip(path, sampling=bundle.settings.sampling(None), timeout=timeout)
                record = ClipRecord(
                    id=path,
                    dataset="predict",
                    split="test",
                    path=path,
                    label="-",
                    labels=("-",),
                    speaker=ONE_SPEAKER,
                )
                yield record, make_views(clip, bundle.settings.views)
            if tick:
                tick(number)

    return Speakers(measure_speakers(heard()), bundle.average_speaker)


def answer_clips(
    bundle: Bundle,
    clips: Sequence[tuple[str, Clip]],
    labels: tuple[str, ...],
    *,
    ask: Ask | None = None,
) -> list[Answer]:
    """Answers of decoded clips, in their order, without `seconds`; arguments as of `predict`, `clips` are (path, Clip)."""
    ask = ask or Ask()
    speakers, transcribe = ask.speakers, ask.transcribe
    if not clips:
        return []
    items = []
    for path, clip in clips:
        record = ClipRecord(
            id=clip.id,
            dataset="predict",
            split="test",
            path=path,
            label=labels[0],
            labels=labels,
            subtitle=clip.subtitle,
            speaker=ONE_SPEAKER,
        )
        views = make_views(clip, bundle.settings.views)
        items.append((record, speakers.normalize(record, views) if speakers else views))
    encoded = encode(bundle, items, batch=BATCH, heard=transcribe is not None)
    heard: dict[int, Heard] = {}
    if transcribe is not None:
        silent = [
            i
            for i, (_, c) in enumerate(clips)
            if "audio" in c.modalities and not c.subtitle.strip()
        ]
        if silent:
            found = transcribe(np.stack([encoded.heard[i] for i in silent]))
            heard = {i: h for i, h in zip(silent, found, strict=True) if h.text}
        said = {i: h.text for i, h in heard.items()}
        encoded = with_words(encoded, said)
        items = [
            (dataclasses.replace(r, subtitle=said.get(i, r.subtitle)), v)
            for i, (r, v) in enumerate(items)
        ]
        clips = [
            (p, dataclasses.replace(c, subtitle=said.get(i, c.subtitle)))
            for i, (p, c) in enumerate(clips)
        ]
    limit = bundle.settings.data.max_subtitle
    cut = {r.id for r, _ in items if fit_subtitle(r, bundle.tokenizer, limit) is not r}
    chances = label_probabilities(bundle, encoded, labels, batch=BATCH)
    texts = (
        reasons(bundle, encoded, batch=BATCH)
        if ask.reason and bundle.can_reason
        else [""] * len(items)
    )
    added: list[dict[str, float] | None] = [None] * len(items)
    if ask.explain:
        score = lambda shown: label_probabilities(
            bundle, encoded, labels, modalities=shown, batch=BATCH
        )
        added = [
            *contributions(score, chances.argmax(axis=1), [clip.modalities for _, clip in clips])
        ]
    told: list[dict[str, list[float]] | None] = [None] * len(items)
    if ask.weights:
        told = [*fusion_weights(bundle, encoded)]
    answers = []
    for i, ((path, clip), row, text, own, fused) in enumerate(
        zip(clips, chances, texts, added, told, strict=True)
    ):
        notes = list(clip.notes)
        if clip.id in cut:
            notes.append(f"the subtitle was cut to {limit} tokens")
        notes += window_notes(clip, bundle.settings.views)
        if bundle.average_speaker is not None and speakers is None and "audio" in clip.modalities:
            notes.append(
                "the model learned with speakers known, and this one is not: see --one-speaker"
            )
        probabilities = {label: float(p) for label, p in zip(labels, row, strict=True)}
        label = max(probabilities, key=lambda name: probabilities[name])
        leading: tuple[str, ...] = ()
        if probabilities[label] < ask.abstain:
            leading = tuple(sorted(probabilities, key=lambda name: -probabilities[name])[:2])
        # The reason is written freely: where it ends on another label than the probabilities do, that is told.
        ends = [
            name
            for name in dict.fromkeys((*labels, *bundle.labels))
            if text.endswith(f" {normalise_answer(name)}")
        ]
        if ends and label not in ends:
            notes.append(f"the written reason concludes '{ends[0]}', the probabilities '{label}'")
        answers.append(
            Answer(
                path=path,
                label=CANNOT_TELL if leading else label,
                probabilities=probabilities,
                reason=text,
                modalities=clip.modalities,
                seconds=0.0,
                error=None,
                model=bundle.name,
                notes=tuple(notes),
                duration=clip.duration,
                leading=leading,
                contributions=own,
                calibrated=bundle.calibration is not None and labels == bundle.calibration.labels,
                fusion_weights=fused,
                transcript=_words(heard[i], clip.duration) if i in heard else None,
            )
        )
    return answers
