"""The commands about weights: fetch, weights list | show | verify | import, export, plan."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from emojax.bundle.model_folder import MANIFEST
from emojax.cli.console import setup
from emojax.cli.progress_bars import bar
from emojax.evaluate import official_files
from emojax.weights import importer
from emojax.weights.catalogue import MODELS, SOURCES, catalogue_model, describe_source
from emojax.weights.exporter import export_model
from emojax.weights.fetch import fetch
from emojax.weights.locations import downloads_folder, find_model, weights_folder
from emojax.weights.provenance import verify_model
from emojax.weights.tensor_files import tensor_files
from emojax.workflows import jobs


def run(args: argparse.Namespace, console: Console) -> int:
    """One command of this page; its exit code."""
    if args.command == "plan":
        return _plan(args, console)
    setup()
    if args.command == "export":
        written = export_model(
            find_model(args.model), args.format, Path(args.out), say=console.print
        )
        console.print(f"written: {', '.join(map(str, written))}", soft_wrap=True)
        return 0
    if args.command == "fetch" or args.action == "import":
        return _import(args, console, download=args.command == "fetch")
    return {"list": _list, "show": _show, "verify": _verify}[args.action](args, console)


def _import(args: argparse.Namespace, console: Console, download: bool) -> int:
    say = lambda text: console.print(text, soft_wrap=True)  # noqa: E731
    if download and args.name == official_files.NAME:
        with bar(console, f"fetch {args.name}") as tick:
            official_files.fetch(say, tick=tick)
        return 0
    if download and args.name in SOURCES and args.name not in MODELS:
        with bar(console, f"fetch {args.name}") as tick:
            path = fetch(
                SOURCES[args.name],
                downloads_folder() / args.name,
                say,
                mirror=args.mirror,
                tick=tick,
            )
        console.print(f"fetched: {path}; give it to a model with --file", soft_wrap=True)
        return 0
    model = catalogue_model(args.name)
    files: dict[str, Path] = {}
    for entry in args.file:
        key, equals, path = entry.partition("=")
        if not equals or key not in SOURCES:
            raise ValueError(
                f"--file {entry}: give SOURCE=PATH, SOURCE one of {', '.join(model.sources)}"
            )
        files[key] = Path(path).expanduser()
        tensor_files(files[key])
    out = jobs.run_folder(args.out or str(weights_folder(args.name)))
    settings = importer.model_settings(
        model, preset=args.preset, int8=args.int8, questions=_questions(args.questions)
    )
    if download:
        replaced = {SOURCES[f].instead_of for f in files}
        wanted = [key for key in model.sources if key not in files and key not in replaced]
        if by_hand := [key for key in wanted if not SOURCES[key].repo and not SOURCES[key].url]:
            lines = [f"  --file {key}=PATH   {SOURCES[key].by_hand}" for key in by_hand]
            raise ValueError(
                "these files can not be fetched by a program; give them:\n" + "\n".join(lines)
            )
        for key in wanted:
            with bar(console, f"fetch {key}") as tick:
                files[key] = fetch(
                    SOURCES[key],
                    downloads_folder() / key,
                    say,
                    mirror=args.mirror,
                    tick=tick,
                )
    with bar(console, f"import {args.name}") as tick:
        importer.import_model(args.name, files, out, settings=settings, say=say, tick=tick)
    where = args.name if not args.out else out
    then = f"emojax predict CLIP --model {where}"
    if not model.fields:  # a start answers nothing yet
        then = f"python -m emojax.train --config=configs/v2.py:stage1 --config.train.init_from={where} --manifest=M.csv --out=DIR"
    console.print(f"written: {out}\ntry next: {then}", soft_wrap=True)
    return 0


def _questions(path: str | None) -> dict[str, list[str]]:
    found = json.loads(Path(path).read_text()) if path else {}
    if not isinstance(found, dict) or not all(isinstance(v, list) and v for v in found.values()):
        raise ValueError(f"{path} should hold a JSON object of lists, {{task: [wordings]}}")
    return found


def _list(args: argparse.Namespace, console: Console) -> int:
    models = [
        {
            "name": name,
            "title": m.title,
            "sources": list(m.sources),
            "imported": (weights_folder(name) / "model.json").exists(),
        }
        for name, m in MODELS.items()
    ]
    sources = [
        {
            "name": key,
            "title": s.title,
            "bytes": s.size,
            "licence": s.licence,
            "gated": s.gated,
            "from": s.repo or s.url or f"by hand: {s.by_hand}",
            "here": any(f.suffix != ".part" for f in (downloads_folder() / key).glob("*.*")),
        }
        for key, s in SOURCES.items()
    ]
    if args.json:
        print(json.dumps({"models": models, "sources": sources}))
        return 0
    table = Table("model", "what", "imported", title="models")
    for m in models:
        table.add_row(str(m["name"]), str(m["title"]), "yes" if m["imported"] else "-")
    console.print(table)
    table = Table(
        "source", "GB", "from", "gated", "licence", "fetched", title="sources (addresses: --json)"
    )
    table.columns[0].no_wrap = True
    for s in sources:
        size = f"{s['bytes'] / 1e9:.1f}" if isinstance(s["bytes"], int) else "?"
        here = "yes" if s["here"] else "-"
        place = {"by hand": "hand", "https": "web"}.get(str(s["from"]).split(":")[0], "hub")
        table.add_row(
            str(s["name"]),
            size,
            place,
            "yes" if s["gated"] else "-",
            str(s["licence"]).split(";")[0],
            here,
        )
    console.print(table)
    return 0


def _show(args: argparse.Namespace, console: Console) -> int:
    folder = Path(args.name) if args.name not in MODELS else weights_folder(args.name)
    if (folder / MANIFEST).exists():
        facts = json.loads((folder / MANIFEST).read_text())
        if args.json:
            print(json.dumps(facts))
            return 0
        console.print(
            f"{facts['name']}: {facts['parameters']:,} parameters, imported into {folder}",
            soft_wrap=True,
        )
        for key, source in facts["sources"].items():
            console.print(f"  {key}: {source['title']} ({source['licence']})", soft_wrap=True)
            for file in source["files"]:
                console.print(
                    f"    {file['file']}  {file['bytes']:,} bytes  sha256 {file['sha256']}",
                    soft_wrap=True,
                )
        return 0
    if args.name not in MODELS:
        raise FileNotFoundError(
            f"{folder} has no {MANIFEST}; models of the catalogue: {', '.join(MODELS)}"
        )
    model = MODELS[args.name]
    if args.json:
        print(
            json.dumps(
                {
                    "name": args.name,
                    "title": model.title,
                    "sources": list(model.sources),
                    "imported": False,
                }
            )
        )
        return 0
    console.print(
        f"{args.name}: {model.title}, not imported; `emojax fetch {args.name}` needs",
        soft_wrap=True,
    )
    for key in model.sources:
        console.print(
            f"  {key}: {SOURCES[key].title}\n    {describe_source(SOURCES[key])}",
            soft_wrap=True,
        )
    return 0


def _verify(args: argparse.Namespace, console: Console) -> int:
    wrong = verify_model(find_model(args.name))
    for line in wrong:
        console.print(line, soft_wrap=True)
    console.print(
        f"{args.name}: " + (f"{len(wrong)} differences" if wrong else "as it was imported")
    )
    return 1 if wrong else 0


def _plan(args: argparse.Namespace, console: Console) -> int:
    plans = [
        importer.plan_weights(preset, int8=args.int8) for preset in args.preset or ("v1", "v2")
    ]
    if args.json:
        print(json.dumps(plans))
        return 0
    for plan in plans:
        table = Table(
            "module", "parameters", "trainable", "tensors", "MiB at rest", title=plan["preset"]
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for row in (*plan["modules"], plan["total"]):
            cells = (f"{row['parameters']:,}", f"{row['trainable']:,}", str(row["tensors"]))
            table.add_row(row["module"], *cells, f"{row['bytes'] / 2**20:,.1f}")
        console.print(table)
    return 0
