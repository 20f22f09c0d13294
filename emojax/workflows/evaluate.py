"""Evaluates a model or a server on the clips of a suite or manifest, or existing predictions."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax

from data_pipeline.llm.client import ChatClient
from data_pipeline.llm.endpoint import Endpoint, prompt_hash
from data_pipeline.llm.replies import count_faults, no_usable_reply
from data_pipeline.media.notes import counted
from data_pipeline.progress import Progress, no_progress
from emojax.bundle.model_folder import Bundle
from emojax.config import Settings, original_names
from emojax.evaluate import results_folder, score_files
from emojax.evaluate.emotion_wheels import BUILTIN_NAME
from emojax.evaluate.metric_scorers import ScoredSet
from emojax.evaluate.partial_answers import is_unanswered
from emojax.evaluate.prediction_files import read_predictions
from emojax.evaluate.predictions import NO_ANSWER, Prediction
from emojax.evaluate.score_files import ScoringOptions
from emojax.evaluate.server_answers import decode_for_server, prompts_id, server_answerer
from emojax.evaluate.suite_runner import (
    Answerer,
    Decode,
    Question,
    answer_set,
    clip_decoder,
    lock_output,
    row_lengths,
)
from emojax.evaluate.suites import Member, Suite
from emojax.sharding import make_mesh
from emojax.workflows.evaluation_files import write_evaluation_files
from emojax.workflows.model_answerer import (
    CLOSED_METRICS,
    answerer,
    load_on_mesh,
    long_enough,
    weights_id,
)
from emojax.workflows.suite_clips import manifest_clips, suite_clips

logger = logging.getLogger(__name__)


def evaluate_files(
    path: Path,
    name: str,
    suite: Suite | None,
    *,
    truth: Path | None,
    out: Path,
    options: ScoringOptions,
    columns: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Scores prediction files of any system.

    Args:
      path: a file, or a folder of files named after sets; see `score_files.read_files`.
      name: the set that the file answers, "" to take it from file names or `options`.
      suite: the suite that the sets belong to.
      truth: labels by clip, for files without labels.
      out: folder of the results.
      options: how to score.
      columns: {field: its column in the files}, where the names are not known.
      progress: gets the task "score".

    Returns:
      The scores, as in evaluation.json.

    Raises:
      PredictionError: the files cannot be used.
    """
    by_set = score_files.read_files(path, name=name, truth=truth, columns=columns)
    if truth and path.is_file():
        total = len(read_predictions(path, columns=columns))
        if lost := total - sum(map(len, by_set.values())):
            logger.warning(
                "%s left out (of %d): %s does not name the clip",
                counted(lost, "prediction"),
                total,
                truth,
            )
    results, scored = score_files.score_predictions(suite, by_set, options, progress=progress)
    results_folder.write_prediction_files(out, by_set)
    return write_results(results, scored, out=out, title=path.name, options=options)


def write_results(
    results: dict[str, Any],
    scored: Mapping[str, ScoredSet],
    *,
    out: Path,
    title: str,
    options: ScoringOptions,
) -> dict[str, Any]:
    """Writes the files of an evaluation.

    Args:
      results: the scores, as in evaluation.json.
      scored: {set: scores with one entry per clip}.
      out: folder of the results.
      title: title of the page.
      options: how it was scored.

    Returns:
      `results`.
    """
    write_evaluation_files(results, scored, out=out, title=title)
    by_words = any(s.result["metric"] in ("hit_rate", "open_vocabulary") for s in scored.values())
    if options.tables.name == BUILTIN_NAME and by_words:
        logger.info(
            "words: %s; hit rate and F_s of papers use the official tables: "
            "`emojax fetch mer-unibench`",
            BUILTIN_NAME,
        )
    return results


def evaluate_suite(
    model: Path,
    suite: Suite,
    root: Path,
    *,
    out: Path,
    options: ScoringOptions,
    answers: str = "text",
    batch: int = 16,
    limit: int = 0,
    int8: bool = False,
    devices: Sequence[Any] | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Asks a model about all clips of a suite and scores the answers; continues a stopped run.

    Args:
      model: the model folder.
      suite: what to answer.
      root: folder of data sets, as for `emojax data check`.
      out: folder of the results.
      options: how to score.
      answers: "text": generated, as in the papers; "labels": closed questions are answered from
        label probabilities; or "both".
      batch: clips at once, rounded up to a multiple of the devices.
      limit: at most so many clips per set; 0: all of them.
      int8: whether frozen kernels are int8.
      devices: by default all.
      progress: gets one task per set.

    Returns:
      The scores, as in evaluation.json; {} in all processes but the first.

    Raises:
      ValueError: no clip of the suite is there, or `out` holds answers of another model.
    """
    mesh = make_mesh(shape=(-1, 1, 1), devices=list(devices or jax.devices()))
    batch += -batch % mesh.size
    bundle = load_on_mesh(model, mesh, int8=int8)
    with jax.set_mesh(mesh):
        by_set, counts = answer_members(
            suite_clips(suite, root, limit=limit, progress=progress),
            functools.partial(_prepare, bundle, answers, batch),
            clip_decoder(bundle.settings),
            out=out,
            identity=_identity(bundle, answers),
            batch=batch,
            progress=progress,
        )
    if not by_set:
        raise ValueError(f"{root} holds no clip of {suite.title}; see `emojax data check {root}`")
    return _score_answers(
        suite,
        by_set,
        counts,
        out=out,
        title=f"{suite.title}: {bundle.name}",
        options=options,
        by=_answered_by(suite, by_set, answers),
    )


def _prepare(
    bundle: Bundle, answers: str, batch: int, member: Member, asked: Sequence[Question]
) -> tuple[Answerer, list[int]]:
    """The answerer of a set, and the length of each of its rows in tokens."""
    tag = member.benchmark.tag or member.benchmark.task
    fitting = long_enough(dataclasses.replace(bundle, labels=member.benchmark.labels), asked, tag)
    return answerer(fitting, member, answers, batch), row_lengths(fitting, asked, tag)


def _identity(bundle: Bundle, answers: str) -> dict[str, str]:
    """What the answers of a model depend on."""
    return {
        "model": bundle.name,
        "weights": weights_id(bundle),
        "settings": settings_id(bundle.settings),
        "answers": answers,
    }


def settings_id(settings: Settings) -> str:
    """Hash of a configuration under the original names of its fields.

    So answers that an older version has begun are continued.
    """
    return prompt_hash(json.dumps(original_names(settings.raw), sort_keys=True, default=str))


def _answered_by(suite: Suite, names: Iterable[str], answers: str) -> dict[str, str]:
    closed = {m.name for m in suite.members if m.benchmark.metric in CLOSED_METRICS}
    by_probabilities = "probabilities of the labels, one forward pass"
    return {
        name: by_probabilities if answers == "labels" and name in closed else "greedy text"
        for name in names
    }


Prepare = Callable[[Member, Sequence[Question]], tuple[Answerer, list[int]]]


def answer_members(
    questions: Mapping[Member, tuple[list[Question], int]],
    prepare: Prepare,
    decode: Decode,
    *,
    out: Path,
    identity: dict[str, Any],
    batch: int,
    progress: Progress = no_progress,
) -> tuple[dict[str, list[Prediction]], dict[str, dict[str, int]]]:
    """Answers the clips of all sets that have any.

    Args:
      questions: {set: (its clips, number of clips whose media are missing)}.
      prepare: makes the answerer of a set, and the length of each of its rows in tokens.
      decode: decodes clips.
      out: folder in which answers are kept; one process at a time may write there.
      identity: what the answers depend on, for a later run.
      batch: clips at once.
      progress: gets one task per set; only process 0 reports.

    Returns:
      ({set: rows}, {set: number of clips answered, refused, without media, without reply}).
    """
    by_set: dict[str, list[Prediction]] = {}
    counts: dict[str, dict[str, int]] = {}
    is_main = jax.process_index() == 0
    with lock_output(out) if is_main else nullcontext():
        for member, (asked, missing) in questions.items():
            if not asked:
                continue
            answer, lengths = prepare(member, asked)
            by_set[member.name] = rows = answer_set(
                member,
                asked,
                lengths,
                answer=answer,
                decode=decode,
                out=out,
                identity=identity,
                batch=batch,
                progress=progress if is_main else no_progress,
                write=is_main,
            )
            counts[member.name] = _count(rows, missing)
    return by_set, counts


def _count(rows: Sequence[Prediction], missing: int) -> dict[str, int]:
    silent = sum(map(is_unanswered, rows))
    counts = {
        "answered": sum(r.is_answered for r in rows),
        "refused": sum(r.error_type == "refused" for r in rows),
        "missing_media": missing,
    }
    return counts | ({"no_answer": silent} if silent else {})


def _score_answers(
    suite: Suite | None,
    by_set: Mapping[str, Sequence[Prediction]],
    counts: Mapping[str, dict[str, int]],
    *,
    out: Path,
    title: str,
    options: ScoringOptions,
    by: Mapping[str, str],
) -> dict[str, Any]:
    """Scores answers and writes the results; `by` names who answered each set.

    Sets without any answer have no score.

    Raises:
      PredictionError: no clip has an answer.
    """
    if jax.process_index():
        return {}
    answered = {name: rows for name, rows in by_set.items() if any(r.is_answered for r in rows)}
    for name in sorted(set(by_set) - set(answered)) if answered else ():
        logger.warning("%s: no clip has an answer, so this set has no score", name)
    by_set = answered or by_set  # without any, the scorer says why
    facts = {name: {"clips": counts[name], "answered_by": by[name]} for name in by_set}
    results, scored = score_files.score_predictions(suite, by_set, options, facts=facts)
    return write_results(results, scored, out=out, title=title, options=options)


def evaluate_server(
    endpoint: Endpoint,
    suite: Suite | None,
    place: Path,
    *,
    split: str | None,
    out: Path,
    options: ScoringOptions,
    send: str = "frames",
    concurrency: int = 4,
    limit: int = 0,
    columns: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Asks an OpenAI-compatible multimodal server about the clips of a suite or manifest.

    Args:
      endpoint: the server.
      suite: the suite; None for a manifest.
      place: the folder of data sets, or the manifest.
      split: of the manifest; None: all.
      out: folder of the results.
      options: how to score; its labels are the label space of a manifest.
      send: "frames" or "video".
      concurrency: requests at once.
      limit: at most so many clips per set; 0: all of them.
      columns: of a manifest; see `read_records`.
      progress: gets one task per set.

    Returns:
      The scores, as in evaluation.json.

    Raises:
      ValueError: there is no clip.
      EndpointError: the server cannot be used, or gave no usable reply about any clip.
    """
    if suite is None:
        questions, labels = manifest_clips(
            place, split=split, limit=limit, labels=options.labels or None, columns=columns
        )
        options = dataclasses.replace(options, metric="single", labels=labels)
    else:
        questions = suite_clips(suite, place, limit=limit, progress=progress)
    with ChatClient(endpoint, out / "replies", concurrency=concurrency, use_cut=True) as client:
        by_set, counts = answer_members(
            questions,
            lambda _, asked: (server_answerer(client), [0] * len(asked)),
            decode_for_server(send),
            out=out,
            identity={"server": endpoint.settings(), "send": send, "prompts": prompts_id()},
            batch=4 * concurrency,
            progress=progress,
        )
        if not by_set:
            raise ValueError(f"{place} holds no clip of {suite.title if suite else 'the manifest'}")
        _log_requests(client)
    _report_unanswered(endpoint.url, by_set)
    title, by = f"{place.name}: {endpoint.model}", dict.fromkeys(by_set, endpoint.model)
    return _score_answers(suite, by_set, counts, out=out, title=title, options=options, by=by)


def _report_unanswered(url: str, by_set: Mapping[str, Sequence[Prediction]]) -> None:
    """Logs why clips have no answer, in the server's own words.

    Raises:
      EndpointError: no clip has one.
    """
    rows = [row for set_rows in by_set.values() for row in set_rows]
    reasons = [r.error.removeprefix(NO_ANSWER) for r in rows if is_unanswered(r)]
    if reasons and not any(r.is_answered for r in rows):
        raise no_usable_reply(url, reasons)
    for reason, number in count_faults(reasons).items():
        logger.warning("without an answer: %d, %s", number, reason)


def _log_requests(client: ChatClient) -> None:
    """Logs how many requests a run sent, and what they cost."""
    faults = ", ".join(f"{n} x {kind}" for kind, n in sorted(client.faults.items()))
    prompts, replies = client.tokens_paid
    cost = ""
    if client.endpoint.price_in is not None:
        cost = f", cost {client.cost(client.tokens_paid):.2f}"
    logger.info(
        f"{counted(client.requests_sent, 'request')}{f' ({faults})' if faults else ''}, "
        f"{prompts:,} + {replies:,} tokens{cost}"
    )
    if client.estimated:
        logger.info(
            "the server did not report the tokens of "
            f"{counted(client.estimated, 'answer')}: they are estimated"
        )
    if client.cut:
        logger.warning(
            f"{counted(client.cut, 'answer')} cut off after {client.endpoint.max_tokens} tokens "
            "and read as far as that: raise --max-reply"
        )
