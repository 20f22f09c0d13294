"""The demo: everything on the embedded corpus, from rendering the clips to explaining one."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.io import cache_root, keep_earlier, write_text
from data_pipeline.loader.open_sources import open_views
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import load_bundle
from emojax.config import load_config, resolve
from emojax.evaluate.model_answers import evaluate_embedded
from emojax.infer.predict import predict
from emojax.reports import evaluation_tables
from emojax.types import Answer
from emojax.weights.locations import DEMO_POINTER
from emojax.workflows.score import calibrate, items_of
from emojax.workflows.train import run_training

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo measured.

    Attributes:
      out: the model folder.
      scores: scores of the test split, as in evaluation.json.
      record: one test clip.
      answer: the model's answer to it.
    """

    out: Path
    scores: dict[str, Any]
    record: ClipRecord
    answer: Answer


def _make_room(out: Path, *, overwrite: bool) -> None:
    """Leaves `out` empty, or with a demo that was stopped.

    Raises:
      ValueError: it holds something else.
    """
    if not any(out.iterdir() if out.exists() else ()):
        return
    is_run = (out / "config.json").exists()
    scores = out / "evaluation.json"
    if is_run and overwrite:
        shutil.rmtree(out)
    elif is_run and scores.is_file() and "ablations" in json.loads(scores.read_text()):
        logger.info("the earlier demo is kept as %s", keep_earlier(out))
    elif not is_run or scores.exists() or (out / "report.html").exists():
        raise ValueError(
            f"{out} holds other files than those of the demo: give another folder with --out"
            + (", or --overwrite to replace this run" if is_run else "")
        )
    else:
        logger.info("continuing the demo in %s that was stopped", out)


def demo(
    out: Path,
    *,
    overwrite: bool = False,
    preset: str = "tiny",
    changes: Sequence[str] = (),
    progress: Progress = no_progress,
) -> DemoResult:
    """Makes the corpus, trains all stages, scores the test split and explains one clip.

    Args:
      out: the model folder. A demo that was stopped in it is continued, one that has finished is
        kept under another name.
      overwrite: remove an earlier run in `out` first.
      preset: name of the configuration.
      changes: words such as `--config.train.batch=16`.
      progress: gets the tasks of all steps.

    Returns:
      The model folder, its scores, and one clip with its answer.

    Raises:
      ValueError: `out` holds other things than a demo.
    """
    begin = time.monotonic()
    settings = resolve(load_config(preset, changes))
    _make_room(out, overwrite=overwrite)
    corpus = CorpusConfig()
    records = load_corpus(make_corpus(config=corpus, progress=progress))
    sources = open_views(records, settings.views, settings.sampling, progress=progress)
    run_training(settings, records, sources, out, progress=progress)
    calibrate(out, sources["val"], name="embedded corpus, val", progress=progress)
    bundle = load_bundle(out)
    items = items_of(sources["test"], bundle)
    scores = evaluate_embedded(bundle, items, corpus, progress=progress)
    scores["seconds"] = round(time.monotonic() - begin, 1)
    evaluation_tables.write_evaluation(scores, out)
    write_text(cache_root() / DEMO_POINTER, str(out.absolute()))
    record = next(r for r, _ in items if r.truth is not None and all(r.truth["clues"].values()))
    answer = next(predict(bundle, [record.path], subtitle=record.subtitle))
    return DemoResult(out=out, scores=scores, record=record, answer=answer)
