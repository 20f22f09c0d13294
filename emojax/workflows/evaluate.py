"""The jobs behind `emojax evaluate`: a model on a suite or a manifest, or predictions that are there already."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh
from rich.console import Console

from data_pipeline.datasets.benchmarks import Benchmark
from data_pipeline.datasets.dataset import DatasetContents
from data_pipeline.datasets.file_index import FileIndex
from data_pipeline.datasets.registry import read_root
from data_pipeline.llm.client import ChatClient
from data_pipeline.llm.endpoint import Endpoint, prompt_hash
from data_pipeline.media.views import Views
from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import Bundle, load_bundle
from emojax.cli.progress_bars import bar, bars
from emojax.evaluate import results_folder
from emojax.evaluate.emotion_wheels import BUILTIN_NAME
from emojax.evaluate.predictions import Prediction, read_predictions
from emojax.evaluate.results_folder import Options
from emojax.evaluate.scorer import Scored
from emojax.evaluate.server_answers import decode_for_server, prompts_id, server_answerer
from emojax.evaluate.suite_runner import (
    REFUSED,
    Answerer,
    Decode,
    Question,
    answer_set,
    decoder,
    only_writer,
    prompt_tokens,
    questions_of,
    row_lengths,
    unanswered,
)
from emojax.evaluate.suites import Member, Suite
from emojax.infer.answer import label_probabilities, reasons
from emojax.infer.sample import Sampler
from emojax.model.variables import flatten, variable_shardings
from emojax.reports import evaluation_tables
from emojax.reports.evaluation_page import page
from emojax.sharding import make_mesh
from emojax.workflows import jobs

_CLOSED = ("hit_rate", "two_class", "single", "last_word")  # questions for one label of a list


def evaluate_files(
    path: Path,
    name: str,
    suite: Suite | None,
    *,
    truth: Path | None,
    out: Path,
    options: Options,
    console: Console,
) -> dict[str, Any]:
    """Scores predictions files of any system; see files.py.

    Raises:
      PredictionError: they can not be used.
    """
    with bar(console, "score") as tick:
        by_set = results_folder.read_files(path, name=name, truth=truth)
        if truth and path.is_file():
            every = len(read_predictions(path))
            if lost := every - sum(map(len, by_set.values())):
                _say(
                    console,
                    f"{lost} of {every} predictions are of clips that {truth} does not name, and are left out",
                )
        results, scored, kept = results_folder.results_of(
            suite, by_set, options, lambda text: _say(console, text), tick=tick
        )
    results_folder.write_rows(out, by_set)
    return write_results(
        results, scored, kept, out=out, title=path.name, options=options, console=console
    )


def write_results(
    results: dict[str, Any],
    scored: Mapping[str, Scored],
    kept: Mapping[str, Sequence[Prediction]],
    *,
    out: Path,
    title: str,
    options: Options,
    console: Console,
) -> dict[str, Any]:
    """Every file of an evaluation, and its tables on the console."""
    out.mkdir(parents=True, exist_ok=True)
    evaluation_tables.write(results, out)
    results_folder.write_clips(out, kept, scored)
    (out / "report.html").write_text(
        page(results, scored=scored, rows=kept, title=title), encoding="utf-8"
    )
    evaluation_tables.show(results, console)
    by_words = any(s.result["metric"] in ("hit_rate", "open_vocabulary") for s in scored.values())
    if options.tables.name == BUILTIN_NAME and by_words:
        _say(
            console,
            f"words: {BUILTIN_NAME}; hit rate and F_s of papers use the official tables: `emojax fetch mer-unibench`",
        )
    _say(
        console,
        f"written: {out}/evaluation.json, evaluation.md, report.html, clips.csv, predictions/",
    )
    return results


def evaluate_suite(
    model: Path,
    suite: Suite,
    root: Path,
    *,
    out: Path,
    options: Options,
    console: Console,
    answers: str = "text",
    batch: int = 16,
    limit: int = 0,
    int8: bool = False,
    devices: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """Asks a model every clip of a suite and scores it; a run that was stopped goes on.

    Args:
      root: folder of data sets, as for `emojax data check`.
      answers: `text` as papers do; `labels`: closed questions from the probabilities of their labels, in one forward pass;
        `both`.
      limit: at most so many clips a set, 0 all of them.
      batch: clips at once, rounded up to a multiple of the devices (default: all of them).

    Raises:
      ValueError: nothing of the suite is there, or `out` holds answers of another model.
    """
    mesh = make_mesh(shape=(-1, 1, 1), devices=list(devices or jax.devices()))
    batch += -batch % mesh.size
    bundle = spread(model, mesh, int8=int8)
    asked_by = suite_clips(suite, root, limit, console)
    settings = prompt_hash(json.dumps(bundle.settings.raw, sort_keys=True, default=str))
    identity = {
        "model": bundle.name,
        "weights": weights_id(bundle),
        "settings": settings,
        "answers": answers,
    }

    def ready(member: Member, asked: Sequence[Question]) -> tuple[Answerer, list[int]]:
        tag = member.benchmark.tag or member.benchmark.task
        own = long_enough(dataclasses.replace(bundle, labels=member.benchmark.labels), asked, tag)
        return answerer(own, member, answers, batch), row_lengths(own, asked, tag)

    with jax.set_mesh(mesh):
        by_set, counts = answer_members(
            asked_by,
            ready,
            decoder(bundle.settings),
            out=out,
            identity=identity,
            batch=batch,
            console=console,
        )
    if not by_set:
        raise ValueError(
            f"{root} holds no clip of {suite.title}; look with `emojax data check {root}`"
        )
    by_label = {
        m.name for m in suite.members if answers == "labels" and m.benchmark.metric in _CLOSED
    }
    told = {
        n: "probabilities of the labels, one forward pass" if n in by_label else "greedy text"
        for n in by_set
    }
    return _finish(
        suite,
        by_set,
        counts,
        out=out,
        title=f"{suite.title}: {bundle.name}",
        options=options,
        console=console,
        how=told,
    )


Ready = Callable[[Member, Sequence[Question]], tuple[Answerer, list[int]]]


def answer_members(
    asked_by: Mapping[Member, tuple[list[Question], int]],
    ready: Ready,
    decode: Decode,
    *,
    out: Path,
    identity: dict[str, Any],
    batch: int,
    console: Console,
) -> tuple[dict[str, list[Prediction]], dict[str, dict[str, int]]]:
    """({set: rows}, {set: how many clips were answered, refused, had no answer, are not there}) of sets with clips."""
    by_set: dict[str, list[Prediction]] = {}
    counts: dict[str, dict[str, int]] = {}
    main = jax.process_index() == 0
    with (
        bars(console if main else Console(quiet=True)) as tick_set,
        only_writer(out) if main else nullcontext(),
    ):
        for member, (asked, lost) in asked_by.items():
            if not asked:
                continue
            answer, lengths = ready(member, asked)
            by_set[member.name] = rows = answer_set(
                member,
                asked,
                lengths,
                answer=answer,
                decode=decode,
                out=out,
                identity=identity,
                batch=batch,
                tick=lambda done, total, name=member.name: tick_set(name, done, total),  # type: ignore[misc]
                write=main,
            )
            refused = sum(r.error.startswith(REFUSED) for r in rows)
            silent = sum(unanswered(r) for r in rows)
            counts[member.name] = {
                "answered": len(rows) - refused - silent,
                "refused": refused,
                "missing_media": lost,
            }
            if silent:
                counts[member.name]["no_answer"] = silent
    return by_set, counts


def _finish(
    suite: Suite | None,
    by_set: Mapping[str, Sequence[Prediction]],
    counts: Mapping[str, dict[str, int]],
    *,
    out: Path,
    title: str,
    options: Options,
    console: Console,
    how: Mapping[str, str],
) -> dict[str, Any]:
    if jax.process_index():
        return {}
    for name, count in counts.items():
        for key, text in (
            ("refused", "could not be decoded: answered by nothing"),
            ("missing_media", "are not there"),
            ("no_answer", "got no usable reply"),
        ):
            if count.get(key):
                _say(console, f"{name}: {count[key]} clips {text}")
    facts = {name: {"clips": count, "answered_by": how[name]} for name, count in counts.items()}
    results, scored, kept = results_folder.results_of(
        suite, by_set, options, lambda text: _say(console, text), facts=facts
    )
    return write_results(
        results, scored, kept, out=out, title=title, options=options, console=console
    )


def evaluate_server(
    endpoint: Endpoint,
    suite: Suite | None,
    place: Path,
    *,
    split: str | None,
    out: Path,
    options: Options,
    console: Console,
    send: str = "frames",
    concurrency: int = 4,
    limit: int = 0,
) -> dict[str, Any]:
    """Asks any OpenAI-compatible multimodal server the clips of a suite (`place`: folder of data sets) or of a manifest.

    Raises:
      ValueError: nothing to ask.  EndpointError: the server can not be used.
    """
    asked_by: dict[Member, tuple[list[Question], int]]
    if suite is not None:
        asked_by = suite_clips(suite, place, limit, console)
    else:
        records = [
            r
            for r in jobs.read_records(str(place), console, hold_out=0)
            if split in (None, r.split)
        ]
        if not records:
            raise ValueError(f"{place} has no row of split '{split}'")
        options = dataclasses.replace(options, metric="single", labels=records[0].labels)
        asked_by = {}
        for part in sorted({r.split for r in records}):
            benchmark = Benchmark(
                name=part,
                dataset=place.stem,
                task="emotion",
                labels=records[0].labels,
                modes=(part,),
                scored_modes=(part,),
                metric="single",
            )
            own = [r for r in records if r.split == part]
            questions = [Question(dataclasses.replace(r, mode=part), r.label, True) for r in own]
            asked_by[Member(benchmark)] = (questions[:limit] if limit else questions, 0)
    with ChatClient(endpoint, out / "replies", concurrency=concurrency) as client:
        identity = {"server": endpoint.settings(), "send": send, "prompts": prompts_id()}
        by_set, counts = answer_members(
            asked_by,
            lambda member, asked: (server_answerer(client), [0] * len(asked)),
            decode_for_server(send),
            out=out,
            identity=identity,
            batch=4 * concurrency,
            console=console,
        )
        if not by_set:
            raise ValueError(f"{place} holds no clip of {suite.title if suite else 'the manifest'}")
        told = ", ".join(f"{n} {kind}" for kind, n in sorted(client.faults.items()))
        _say(
            console,
            f"{client.requests_sent} requests{f' ({told})' if told else ''}, {client.tokens_paid[0]:,} + {client.tokens_paid[1]:,} tokens"
            + (f", cost {client.cost(client.tokens_paid):.2f}" if endpoint.price_in is not None else ""),
        )
    return _finish(
        suite,
        by_set,
        counts,
        out=out,
        title=f"{place.name}: {endpoint.model}",
        options=options,
        console=console,
        how=dict.fromkeys(by_set, endpoint.model),
    )


def suite_clips(
    suite: Suite, root: Path, limit: int, console: Console
) -> dict[Member, tuple[list[Question], int]]:
    """{set: (clips whose media are there, at most `limit` (0: all), how many are not)} of a folder of data sets.

    Raises:
      ValueError: there is no such folder.
    """
    names = list(dict.fromkeys(m.benchmark.dataset for m in suite.members))
    with bar(console, "read annotations") as tick:
        found, listed = read_root(root, names=names, lenient=True)
        tick(len(names), len(names))
    by_name = {f.dataset.name: f for f in found}
    return {m: available(m, by_name[m.benchmark.dataset], listed, limit) for m in suite.members}


def available(
    member: Member, found: DatasetContents, listed: FileIndex, limit: int
) -> tuple[list[Question], int]:
    """(clips of a set whose media are there, how many are not)."""
    every = questions_of(member, found)
    here = [q for q in every if listed.has(Path(q.record.path)) or Path(q.record.path).is_file()]
    return (here[:limit] if limit else here), len(every) - len(here)


def spread(model: Path, mesh: Mesh, *, int8: bool = False) -> Bundle:
    """A model folder with its weights on every device of a mesh."""
    bundle = load_bundle(model)
    if int8:
        from emojax.bundle.model_folder import as_int8

        bundle = as_int8(bundle)
    if mesh.size == 1:
        return bundle
    shardings = variable_shardings(bundle.settings.model, mesh)
    placed = {p: jax.device_put(x, shardings[p]) for p, x in flatten(bundle.variables).items()}
    return dataclasses.replace(bundle, variables=traverse_util.unflatten_dict(placed, sep="/"))


def long_enough(bundle: Bundle, asked: Sequence[Question], tag: str) -> Bundle:
    """The bundle with a compiled size for its longest prompt: a list of 26 labels may exceed those of its training."""
    longest = max(prompt_tokens(bundle, asked, tag))
    data = bundle.settings.data
    if longest <= max(length for length, _ in data.buckets):
        return bundle
    data = dataclasses.replace(data, buckets=(*data.buckets, (-(-longest // 64) * 64, 1)))
    return dataclasses.replace(bundle, settings=dataclasses.replace(bundle.settings, data=data))


def weights_id(bundle: Bundle) -> str:
    """Hash of the beginning of every weight, to tell one training from another."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(bundle.variables):
        first = np.asarray(leaf.ravel()[:64]).astype(np.float32)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape}".encode() + first.tobytes())
    return digest.hexdigest()[:16]


def answerer(bundle: Bundle, member: Member, answers: str, batch: int) -> Answerer:
    """How a model answers the clips of one set."""
    closed = member.benchmark.metric in _CLOSED
    # greedy, at most 200 tokens: as the released evaluation
    sampler = Sampler(max_tokens=min(Sampler().max_tokens, bundle.settings.data.max_answer))

    def answer(items: Sequence[tuple[ClipRecord, Views]], tag: str) -> list[Prediction]:
        rows = [Prediction(clip=record.id) for record, _ in items]
        if answers != "labels" or not closed:
            texts = reasons(bundle, items, batch=batch, task=tag, sampler=sampler)
            rows = [dataclasses.replace(r, response=t) for r, t in zip(rows, texts, strict=True)]
        if answers != "text" and closed:
            chances = label_probabilities(bundle, items, bundle.labels, batch=batch, task=tag)
            for i, p in enumerate(chances):
                own = {label: round(float(x), 6) for label, x in zip(bundle.labels, p, strict=True)}
                best = bundle.labels[int(p.argmax())]
                rows[i] = dataclasses.replace(
                    rows[i],
                    probabilities=own,
                    response=best if answers == "labels" else rows[i].response,
                )
        return rows

    return answer


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)
