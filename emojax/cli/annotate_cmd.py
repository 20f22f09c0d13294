"""`emojax annotate`: descriptions of clips by a recipe.  `emojax verify`: people check them, and how far they agree."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from data_pipeline.progress import Progress as ProgressCallback
from emojax.cli.arguments import count, not_negative, positive, seconds, whole
from emojax.cli.console import setup
from emojax.cli.serve_cmd import check_free

if TYPE_CHECKING:
    from data_pipeline.annotate.runner import Job
    from data_pipeline.llm.budget import Ledger

_FIELDS: dict[str, tuple[type, ...]] = {
    "url": (str,), "model": (str,), "key_from": (str,), "temperature": (int, float), "max_tokens": (int,),
    "timeout": (int, float), "price_in": (int, float), "price_out": (int, float), "seed": (int,), "image_tokens": (int,),
    "second_tokens": (int,),
}  # fmt: skip


def add_parsers(commands: Any) -> None:
    """Adds `annotate` and `verify`."""
    p = commands.add_parser(
        "annotate",
        help="describe clips as MERR and MMEVerse do, by language models of your choice (docs/annotate.md)",
        description="A run that was stopped goes on with the same command; nothing is asked twice.",
    )
    p.add_argument(
        "clips", nargs="?", help="folder of media, manifest CSV (labels if known), or records.jsonl"
    )
    p.add_argument(
        "--recipe",
        default="mmeverse",
        help="merr_coarse, merr_fine, mmeverse, or your own .toml (default %(default)s)",
    )
    p.add_argument(
        "--show-recipe", action="store_true", help="print the recipe, to change it, and end"
    )
    p.add_argument("--out", help="folder of the outputs")
    p.add_argument(
        "--labels", metavar="A,B,...", help="the label space, where clips have no labels"
    )
    p.add_argument(
        "--units",
        default="none",
        metavar="DIR",
        help="folder of OpenFace or py-feat CSV files named as the clips; `py-feat` to measure now; `none`: the apex of motion and loudness",
    )
    p.add_argument(
        "--eight-units",
        metavar="N,...",
        help="which FACS units the columns AU01 to AU08 of your files are",
    )
    e = p.add_argument_group(
        "endpoints",
        "one for all agents, or --agents FILE with a table [visual], [audio], [audio_2], [reasoning] each",
    )
    e.add_argument(
        "--endpoint", metavar="URL", help="OpenAI-compatible, as http://localhost:8000/v1"
    )
    e.add_argument("--model", metavar="NAME", help="as the endpoint names it")
    e.add_argument("--agents", metavar="FILE.toml", help=f"fields: {', '.join(_FIELDS)}")
    e.add_argument(
        "--key-from",
        metavar="VARIABLE",
        help="environment variable of the key, which is sent to the endpoint (default OPENAI_API_KEY, if there is one)",
    )
    e.add_argument("--temperature", type=not_negative, default=0.0)
    e.add_argument(
        "--max-reply",
        type=count,
        default=600,
        metavar="N",
        help="tokens of a reply (default %(default)s)",
    )
    e.add_argument(
        "--timeout",
        type=seconds,
        default=120.0,
        metavar="S",
        help="of a request (default %(default)s)",
    )
    e.add_argument(
        "--price-in", type=not_negative, metavar="X", help="money for a million tokens of prompts"
    )
    e.add_argument(
        "--price-out", type=not_negative, metavar="X", help="money for a million tokens of replies"
    )
    e.add_argument(
        "--image-tokens",
        type=count,
        default=1500,
        metavar="N",
        help="at most, of a picture (default %(default)s)",
    )
    e.add_argument(
        "--second-tokens",
        type=count,
        default=50,
        metavar="N",
        help="at most, of a second of sound (default %(default)s)",
    )
    e.add_argument(
        "--concurrency",
        type=count,
        default=4,
        metavar="N",
        help="requests to an endpoint at once (default %(default)s)",
    )
    e.add_argument(
        "--retries",
        type=whole,
        default=5,
        metavar="N",
        help="of a request that failed (default %(default)s)",
    )
    e.add_argument(
        "--backoff",
        type=not_negative,
        default=1.0,
        metavar="S",
        help="before the first retry (default %(default)s)",
    )
    e.add_argument(
        "--ask-again",
        action="store_true",
        help="also ask what was left out for what agents answered (empty, refusing, no form)",
    )
    b = p.add_argument_group(
        "budget", "of everything ever asked for this folder; what could go over it is not sent"
    )
    b.add_argument("--most-money", type=positive, metavar="X", help="needs prices")
    b.add_argument("--most-tokens", type=count, metavar="N")
    p.add_argument(
        "--transcribe",
        metavar="DIR",
        help="hear the words of clips that have none: folder of Whisper's release",
    )
    p.add_argument(
        "--hear-with",
        metavar="MODEL",
        help="with --transcribe: a model folder whose tower is that Whisper's",
    )
    p.add_argument(
        "--cluster",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="on Ray: of a running cluster, or `local` (emojax[cluster])",
    )
    p.add_argument("--name", help="of the set, in file names (default: that of the clips)")
    p.add_argument(
        "--text-column", default="text", help="of MMEVerse's files (default %(default)s)"
    )
    p.add_argument(
        "--label-column", default="emotion_label", help="of MMEVerse's files (default %(default)s)"
    )
    p.add_argument("--licence", default="", help="of clips and annotations, for the data card")
    p.add_argument("--seed", type=whole, default=0, help="of what filters draw")
    p.add_argument("--limit", type=count, metavar="N", help="the first N clips alone")
    p.add_argument("--json", action="store_true", help="print summary.json")

    p = commands.add_parser(
        "verify", help="mark annotations in the browser, and see how far annotators agree"
    )
    p.add_argument("out", help="folder of `emojax annotate`")
    p.add_argument(
        "--annotator", metavar="NAME", help="who marks; without it the agreement so far is shown"
    )
    p.add_argument(
        "--sample",
        type=count,
        default=100,
        metavar="N",
        help="clips, the same for all annotators (default %(default)s)",
    )
    p.add_argument("--seed", type=whole, default=0, help="of the sample")
    p.add_argument("--port", type=int, default=8610, help="(default %(default)s)")
    p.add_argument(
        "--send-back",
        action="store_true",
        help="have `annotate` ask again what was sent back or annotators differ on",
    )
    p.add_argument("--json", action="store_true", help="print agreement.json")


def run(args: argparse.Namespace, console: Console) -> int:
    """Both commands."""
    return (_annotate if args.command == "annotate" else _verify)(args, console)


def _annotate(args: argparse.Namespace, console: Console) -> int:
    from data_pipeline.annotate import filters, outputs, verify
    from data_pipeline.annotate.clip_lists import read_clip_list
    from data_pipeline.annotate.data_card import Outcome
    from data_pipeline.annotate.recipe import load_recipe, recipe_text
    from data_pipeline.annotate.runner import Job, run_job

    if args.show_recipe:
        print(recipe_text(args.recipe), end="")
        return 0
    if not args.clips or not args.out:
        raise ValueError("give clips (a folder, a manifest or records.jsonl) and --out DIR")
    recipe = load_recipe(args.recipe)
    labels = [x.strip() for x in (args.labels or "").split(",") if x.strip()]
    records = read_clip_list(Path(args.clips), labels=labels)[: args.limit]
    if not labels and any(not r.labels for r in records) and "reasoning" in recipe.agents:
        raise ValueError("some clips have no labels: say which there are, --labels happy,sad,...")
    endpoints = _endpoints(args, recipe.agents)
    _check(args, endpoints)
    eight_units = tuple(
        int(x) if x.strip().isdecimal() else -1 for x in (args.eight_units or "").split(",") if x
    )
    if eight_units and (len(eight_units) != 8 or min(eight_units) < 1):
        raise ValueError(
            f"--eight-units {args.eight_units}: eight numbers, such as 1,2,4,6,9,12,25,26"
        )
    job = Job(
        recipe=recipe,
        out=Path(args.out).absolute(),
        endpoints=endpoints,
        concurrency=args.concurrency,
        retries=args.retries,
        backoff=args.backoff,
        units=args.units,
        eight_units=eight_units,
        max_money=args.most_money,
        max_tokens=args.most_tokens,
        ask_again=args.ask_again,
    )
    missing = [a for a in recipe.agents if a not in endpoints and a not in recipe.optional]
    if missing:
        raise ValueError(
            f"recipe {recipe.name} asks {', '.join(missing)}: give --endpoint URL --model NAME, or --agents FILE"
        )
    transcribe, transcriber = _transcriber(args)
    work = None
    if args.cluster:
        from data_pipeline.annotate.cluster import on_cluster

        if transcribe:
            raise ValueError(
                "--transcribe runs on this machine alone: write the words into the manifest first"
            )
        work = on_cluster(address=None if args.cluster == "local" else args.cluster)
    with _bar(console, job) as progress:
        result = run_job(
            job,
            records,
            progress=progress,
            transcribe=transcribe,
            transcriber=transcriber,
            work=work,
        )
    checks = verify.check_claims(result.annotations)
    left_out = filters.apply(recipe, result.annotations, checks, seed=args.seed)
    outcome = Outcome(
        recipe=recipe,
        annotations=result.annotations,
        left_out=left_out,
        unfinished=result.unfinished,
        checks=checks,
        spending=result.spending,
    )
    settings = outputs.OutputSettings(
        name=args.name or Path(args.clips).stem or "clips",
        text=args.text_column,
        label=args.label_column,
        licence=args.licence,
    )
    facts = {
        "endpoints": {n: e.settings() for n, e in endpoints.items()},
        "faults": result.faults,
        "seed": args.seed,
    }
    written = outputs.write_all(job.out, settings, outcome, facts)
    summary = json.loads((job.out / "summary.json").read_text())
    if args.json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        _show(summary, console)
        console.print(
            f"written: {job.out}/ with {', '.join(p.name for p in written)}", soft_wrap=True
        )
    if result.stopped:
        more = "; give more and the same command goes on" if result.budget_reached else ""
        console.print(result.stopped + more, soft_wrap=True)
    elif result.unfinished:
        console.print(
            f"{len(result.unfinished)} clips are unfinished (unfinished.csv): the same command asks again",
            soft_wrap=True,
        )
    elif not outcome.kept:
        why = (
            ""
            if args.units != "none"
            else "; recipes that take labels or texts from action units need --units DIR"
        )
        console.print(f"nothing was kept: left_out.csv says why of every clip{why}", soft_wrap=True)
    else:
        console.print(f"try next: emojax verify {args.out} --annotator YOUR_NAME", soft_wrap=True)
    return 3 if result.unfinished else 0


def _check(args: argparse.Namespace, endpoints: dict[str, Any]) -> None:
    if args.name is not None and (
        not args.name or args.name.startswith(".") or set(args.name) & set("/\\\0")
    ):
        raise ValueError(f"--name '{args.name}': a plain name, it stands in file names")
    if len({"video_id", "mode", args.text_column, args.label_column}) < 4:
        raise ValueError(
            "--text-column and --label-column: two names, neither of them video_id or mode"
        )
    if Path(args.out).exists() and not Path(args.out).is_dir():
        raise ValueError(f"--out {args.out}: this is a file, give a folder")
    if args.most_money is not None and any(
        e.price_in is None or e.price_out is None for e in endpoints.values()
    ):
        raise ValueError(
            "--most-money needs the prices of every endpoint: --price-in and --price-out, or in --agents"
        )
    if bool(args.transcribe) != bool(args.hear_with):
        raise ValueError("--transcribe DIR and --hear-with MODEL belong together")


def _endpoints(args: argparse.Namespace, agents: tuple[str, ...]) -> dict[str, Any]:
    """By agent, from --agents or from the one for all; raises ValueError."""
    from data_pipeline.llm.endpoint import Endpoint

    if args.key_from is not None and args.key_from not in os.environ:
        raise ValueError(f"--key-from: the environment has no variable {args.key_from}")
    usual = args.key_from or "OPENAI_API_KEY"

    def made(who: str, url: str, model: str, key_from: str, **fields: Any) -> Endpoint:
        if not str(url).startswith(("http://", "https://")):
            raise ValueError(
                f"{who}: '{url}' is no address, give one such as http://localhost:8000/v1"
            )
        return Endpoint(url=str(url), model=str(model), key=os.environ.get(key_from, ""), **fields)

    out = {}
    if args.agents:
        path = Path(args.agents)
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path}: {error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: no UTF-8 text (byte {error.start})") from error
        for name, fields in found.items():
            if name not in agents:
                raise ValueError(
                    f"{path}: [{name}] is no agent of this recipe, which asks {', '.join(agents)}"
                )
            if (
                not isinstance(fields, dict)
                or {"url", "model"} - set(fields)
                or set(fields) - set(_FIELDS)
            ):
                raise ValueError(
                    f"{path}, [{name}]: needs url and model, may have {', '.join(list(_FIELDS)[2:])}"
                )
            for key, value in fields.items():
                number = _FIELDS[key] != (str,)
                if (
                    isinstance(value, bool)
                    or not isinstance(value, _FIELDS[key])
                    or (isinstance(value, (int, float)) and not 0 <= value < 1e9)
                ):
                    raise ValueError(
                        f"{path}, [{name}]: {key} is {value!r}, needs {'a number of at least 0' if number else 'text'}"
                    )
            if "key_from" in fields and fields["key_from"] not in os.environ:
                raise ValueError(
                    f"{path}, [{name}]: the environment has no variable {fields['key_from']}"
                )
            own = {"max_tokens": args.max_reply, "timeout": args.timeout, **fields}
            key_from = own.pop("key_from", usual)
            out[name] = made(f"{path}, [{name}]", own.pop("url"), own.pop("model"), key_from, **own)
    if args.endpoint:
        if not args.model:
            raise ValueError("--endpoint needs --model NAME")
        shared = made(
            "--endpoint", args.endpoint, args.model, usual, temperature=args.temperature,
            max_tokens=args.max_reply, timeout=args.timeout, price_in=args.price_in, price_out=args.price_out,
            image_tokens=args.image_tokens, second_tokens=args.second_tokens,
        )  # fmt: skip
        for name in agents:
            out.setdefault(name, shared)
    first, second = out.get("audio"), out.get("audio_2")
    if first and second and (first.model, first.seed) == (second.model, second.seed):
        out["audio_2"] = dataclasses.replace(
            second, seed=second.seed + 1000
        )  # else both would say the same
    return out


def _transcriber(args: argparse.Namespace) -> tuple[Any, str]:
    if not args.transcribe:
        return None, ""
    from data_pipeline.media.views import make_views
    from data_pipeline.schema import Clip, ClipRecord
    from emojax.bundle.model_folder import load_bundle
    from emojax.infer.answer import encode
    from emojax.infer.transcribe import open_transcriber
    from emojax.weights.locations import find_model

    setup()
    bundle, hear, alone = (
        load_bundle(find_model(args.hear_with)),
        open_transcriber(Path(args.transcribe)),
        threading.Lock(),
    )

    def transcribe(wave: Any) -> tuple[str, str]:
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
            waveform=wave,
        )
        with alone:
            found = hear(
                encode(
                    bundle, [(record, make_views(clip, bundle.settings.views))], batch=1, heard=True
                ).heard[0][None]
            )[0]
        return found.text, found.language

    return transcribe, f"{args.transcribe} {args.hear_with}"


@contextmanager
def _bar(console: Console, job: Job) -> Iterator[ProgressCallback]:
    """A bar of the annotated clips, with the cost so far and the expected total cost."""
    priced = any(e.price_in is not None for e in job.endpoints.values())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[cost]}"),
    )
    ledgers: list[Ledger] = []
    first: list[tuple[float, float]] = []
    with Progress(*columns, console=console) as bars:
        number = bars.add_task("annotate", total=None, cost="")

        def progress(task: str, done: float, total: float | None) -> None:
            if not ledgers:
                ledgers.append(job.ledger())
            spending = ledgers[0].spending()
            value = spending.money if priced else float(spending.tokens)
            if not first:
                first.append((done, value))
            made, paid = done - first[0][0], value - first[0][1]
            expected = value + paid / made * ((total or done) - done) if made > 0 else value
            cost = (
                f"{value:.2f} of about {expected:.2f}"
                if priced
                else f"{value:,.0f} of about {expected:,.0f} tokens"
            )
            bars.update(
                number, description=task, completed=done, total=total, cost=cost if value else ""
            )

        yield progress


def _show(s: dict[str, Any], console: Console) -> None:
    table = Table("label", "clips", title=f"{s['kept']} of {s['clips']} clips kept")
    for label, n in s["labels"].items():
        table.add_row(label or "(none)", str(n))
    console.print(table)
    for title in ("left_out", "unfinished"):
        for why, n in s[title].items():
            console.print(f"  {title.replace('_', ' ')}: {n}  {why}", soft_wrap=True)
    known = {
        m: (c.get("supported", 0), c.get("contradicted", 0), c.get("unknown", 0))
        for m, c in s["claims"].items()
    }
    console.print(
        "claims of the reasons, supported / contradicted / not known: "
        + "; ".join(f"{m} {a} / {b} / {c}" for m, (a, b, c) in known.items()),
        soft_wrap=True,
    )
    spent = s["spent"]
    lost = (
        f", {spent['lost']:,} more taken at their most: what they cost was not told"
        if spent["lost"]
        else ""
    )
    money = f", money {spent['money']:.4f}" if spent["money"] else ""
    console.print(
        f"{spent['requests']:,} requests answered{lost}, {spent['tokens_in'] + spent['tokens_out']:,} tokens{money}",
        soft_wrap=True,
    )


def _verify(args: argparse.Namespace, console: Console) -> int:
    from data_pipeline.annotate import verify
    from data_pipeline.annotate.runner import STATE, read_state, send_back

    out = Path(args.out)
    if not (out / STATE).exists():
        raise ValueError(f"{out}: no annotations in it; it must be the folder of `emojax annotate`")
    if args.annotator is not None:
        check_free("127.0.0.1", args.port)
        from data_pipeline.annotate.review import serve

        return serve(out, args.annotator, args.sample, seed=args.seed, port=args.port)
    known = read_state(out / STATE)
    digests = {clip: a.digest for clip, a in known.items()}
    people = [m for m in verify.read_marks(out, digests=digests) if m.marks]
    ever = {c for m in verify.read_marks(out) for c in m.marks}
    lapsed = sorted(ever - {c for m in people for c in m.marks})
    if not people:
        raise ValueError(
            f"{out}: nobody has marked anything of what it holds now; begin with --annotator NAME"
        )
    found = verify.agreement(people) | {"lapsed": lapsed}
    if args.send_back:
        fresh = send_back(out, dict.fromkeys(found["differ"], "") | found["sent_back"], digests)
        console.print(f"{fresh} clips are asked again by the same `emojax annotate` command")
    (out / "agreement.json").write_text(
        json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    (out / "agreement.png").write_bytes(verify.agreement_chart(found, out.resolve().name))
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    number = lambda x: "-" if x is None else f"{x:.2f}"  # noqa: E731
    table = Table(
        "aspect",
        "agreed",
        "marks",
        "alpha",
        "kappa",
        title=f"{', '.join(found['annotators'])}: {found['clips']} clips",
    )
    for aspect, row in found["aspects"].items():
        kappa = "; ".join(f"{who} {number(k)}" for who, k in row["kappa"].items())
        table.add_row(
            aspect, number(row["agreed"]), str(row["marks"]), number(row["alpha"]), kappa or "-"
        )
    console.print(table)
    if lapsed:
        console.print(
            f"  {len(lapsed)} marked clips do not count: their annotations have changed since. Mark them anew before you tell a figure: "
            "those that were sent back are the ones people did not agree on",
            soft_wrap=True,
        )
    for clip, aspects in list(found["differ"].items())[:10]:
        console.print(
            f"  they differ on {clip} ({known[clip].label if clip in known else '?'}): {', '.join(aspects)}",
            soft_wrap=True,
        )
    for clip, remark in found["sent_back"].items():
        console.print(f"  sent back: {clip} {remark}", soft_wrap=True)
    console.print(f"written: {out}/agreement.json, agreement.png", soft_wrap=True)
    return 0
