"""Annotates clips by a recipe, filters the annotations and writes every output."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.annotate import filters, outputs, verify
from data_pipeline.annotate.data_card import Outcome
from data_pipeline.annotate.describe import Transcribe
from data_pipeline.annotate.runner import Job, RunResult, Work, run_job
from data_pipeline.media.views import make_views
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import Clip, ClipRecord
from emojax.bundle.model_folder import load_bundle
from emojax.infer.encode_clips import encode
from emojax.infer.transcribe import open_transcriber
from emojax.weights.locations import find_model
from emojax.weights.part_files import find_part_files


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnnotationResult:
    """What a run of `annotate` came to.

    Attributes:
      run: the annotations, what is unfinished and why the run stopped.
      kept: number of annotations that passed the filters.
      summary: the content of summary.json.
      files: the files written.
    """

    run: RunResult
    kept: int
    summary: dict[str, Any]
    files: tuple[Path, ...]


def annotate(
    job: Job,
    records: Sequence[ClipRecord],
    names: outputs.OutputSettings,
    *,
    seed: int = 0,
    progress: Progress = no_progress,
    transcribe: Transcribe | None = None,
    transcriber: str = "",
    work: Work | None = None,
) -> AnnotationResult:
    """Annotates clips and writes the outputs of everything that is annotated by now.

    Args:
      job: recipe, folder, endpoints and budget.
      records: the clips.
      names: names and columns of the output files.
      seed: of the filters' random draws.
      progress: gets the task "annotate", in clips.
      transcribe: transcribes clips without transcript.
      transcriber: its name; clips are annotated again if it changes.
      work: annotates the clips instead of threads of this process, see cluster.py.

    Returns:
      The annotations, and what was written about them.

    Raises:
      ValueError: see `run_job`.
    """
    run = run_job(
        job,
        records,
        progress=progress,
        transcribe=transcribe,
        transcriber=transcriber,
        work=work,
    )
    checks = verify.check_claims(run.annotations)
    outcome = Outcome(
        recipe=job.recipe,
        annotations=run.annotations,
        left_out=filters.apply(job.recipe, run.annotations, checks, seed=seed),
        unfinished=run.unfinished,
        checks=checks,
        spending=run.spending,
    )
    facts = {
        "endpoints": {name: e.settings() for name, e in job.endpoints.items()},
        "faults": run.faults,
        "seed": seed,
    }
    files = outputs.write_all(job.out, names, outcome, facts)
    summary = json.loads((job.out / "summary.json").read_text())
    return AnnotationResult(run=run, kept=len(outcome.kept), summary=summary, files=tuple(files))


def whisper_transcriber(whisper: str, model: str) -> Callable[[Any], tuple[str, str]]:
    """A function that transcribes sound with a model's audio encoder and Whisper's decoder.

    Args:
      whisper: name of a fetched Whisper, or folder of its released files.
      model: a model folder, or the name of an imported model, whose encoder is that Whisper's.

    Returns:
      A function from float32[n] at 16 kHz to (transcript, language code). Threads may share it.
    """
    bundle, decode, lock = (
        load_bundle(find_model(model)),
        open_transcriber(find_part_files(whisper)),
        threading.Lock(),
    )

    def transcribe(waveform: Any) -> tuple[str, str]:
        record = ClipRecord(
            id="sound",
            dataset="annotate",
            split="test",
            path="",
            label=bundle.labels[0],
            labels=bundle.labels,
        )
        clip = Clip(
            id="sound",
            path="",
            frames=None,
            times=None,
            image=None,
            image_index=None,
            waveform=waveform,
        )
        with lock:
            views = make_views(clip, bundle.settings.views)
            encoded = encode(bundle, [(record, views)], batch_size=1, keep_encoder_states=True)
            transcript = decode(encoded.encoder_states[0][None])[0]
        return transcript.text, transcript.language

    return transcribe
