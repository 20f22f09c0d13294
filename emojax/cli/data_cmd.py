"""`emojax data ...`: what is there, what is wrong with it, and making it ready to train on."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

from emojax.cli.arguments import count, percent
from emojax.cli.console import setup
from emojax.cli.progress_bars import bars


def add_parser(commands: Any) -> None:
    """The command's options."""
    p = commands.add_parser(
        "data", help="check, build and cache the data sets of MMEVerse, MERR and others"
    )
    actions = p.add_subparsers(dest="action", required=True, metavar="action")

    a = actions.add_parser("list", help="data sets that are read, and where to ask for them")
    a.add_argument("--json", action="store_true")

    a = actions.add_parser(
        "check",
        help="count clips by set, split and label; find what is missing, damaged or leaking",
    )
    _root(a)
    a.add_argument(
        "--out",
        default="runs/data",
        help="folder for report.json, counts.csv and counts.png (default %(default)s)",
    )
    a.add_argument("--no-decode", action="store_true", help="only look whether clips are there")
    a.add_argument("--all-labels", action="store_true", help="print every label of every fold")
    a.add_argument("--json", action="store_true", help="print the report as JSON")

    a = actions.add_parser(
        "build", help="write array_record shards with the clips' media, for training without mp4"
    )
    _root(a)
    a.add_argument("out", help="folder; an unfinished build in it goes on")
    a.add_argument("--fold", help="fold of sets that have folds (default: their first)")
    a.add_argument(
        "--media",
        choices=("proxy", "bytes"),
        default="proxy",
        help="small pictures and FLAC, or the files",
    )
    a.add_argument(
        "--image",
        choices=("peak", "middle", "first"),
        default="peak",
        help="the image (default %(default)s)",
    )
    a.add_argument(
        "--temporal",
        choices=("uniform", "window"),
        default="window",
        help="16 frames over the whole clip, or consecutive ones as released (default %(default)s)",
    )
    a.add_argument(
        "--quality",
        type=percent,
        default=92,
        help="of the proxies' JPEG, 1 to 100 (default %(default)s)",
    )
    a.add_argument(
        "--skip-missing",
        action="store_true",
        help="build although clips are missing; they are counted",
    )
    a.add_argument("--workers", type=count, help="processes (default: one a core)")

    a = actions.add_parser(
        "encode", help="keep what a model's frozen encoders say of every clip, for training from it"
    )
    a.add_argument("data", help="folder of `emojax data build`")
    a.add_argument("cache", help="folder to write; an unfinished encoding in it goes on")
    a.add_argument("--model", required=True, help="model folder, or the name of an imported model")
    a.add_argument("--sets", metavar="A,B,...", help="data sets (default: all that were built)")
    a.add_argument(
        "--batch", type=count, default=8, help="clips at once on each device (default %(default)s)"
    )

    a = actions.add_parser(
        "records", help="write what the annotation files say as JSON Lines of the unified schema"
    )
    _root(a)
    a.add_argument("--out", required=True, help="file")
    a.add_argument("--fold", help="fold of sets that have folds (default: all of them)")
    a.add_argument(
        "--instructions",
        choices=("perception", "cognition"),
        help="write one drawn instruction a clip",
    )


def _root(a: argparse.ArgumentParser) -> None:
    a.add_argument(
        "root", help="folder that holds data sets, as their makers or MMEVerse give them out"
    )
    a.add_argument(
        "--sets", metavar="A,B,...", help="data sets (default: all; see `emojax data list`)"
    )
    a.add_argument(
        "--lenient",
        action="store_true",
        help="repair hand-edited JSON and leave rows with faults out; both are counted",
    )


def set_names(args: argparse.Namespace) -> list[str] | None:
    """--sets as a list.

    Raises:
      ValueError: it names none.
    """
    if args.sets is None:
        return None
    names = [n.strip() for n in args.sets.split(",") if n.strip()]
    if not names:
        raise ValueError("--sets names no data set; see `emojax data list`")
    return names


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs one action; see emojax.cli.main for exit codes."""
    actions = {
        "list": _list,
        "check": _check,
        "build": _build,
        "encode": _encode,
        "records": _records,
    }
    return actions[args.action](args, console)


def _list(args: argparse.Namespace, console: Console) -> int:
    from data_pipeline.datasets.registry import DATASETS, IMAGES, TRAINING

    if args.json:
        rows = [
            {
                "name": s.name,
                "title": s.title,
                "folders": s.folders,
                "request": s.request,
                "terms": s.terms,
            }
            for s in DATASETS.values()
        ]
        print(json.dumps(rows, indent=1))
        return 0
    for s in DATASETS.values():
        use = (
            ", trained on in MMEVerse"
            if s.name in TRAINING
            else ", image set of its mixture"
            if s.name in IMAGES
            else ""
        )
        console.print(
            f"{s.name}: {s.title}{use}\n  folder {' or '.join(s.folders)}\n  ask at {s.request}\n  {s.terms}",
            soft_wrap=True,
        )
    return 0


def _check(args: argparse.Namespace, console: Console) -> int:
    from data_pipeline.datasets.check import check_root, missing_sets
    from data_pipeline.datasets.registry import choose_sets
    from emojax.reports import data_tables

    out = Path(args.out)
    quiet = Console(stderr=True) if args.json else console
    with bars(quiet) as tick:
        report = check_root(
            Path(args.root), names=set_names(args), lenient=args.lenient, decode=not args.no_decode, store=out / "media.jsonl", progress=tick
        )  # fmt: skip
    written = data_tables.write(report, out)
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        data_tables.show(report, console, all_labels=args.all_labels)
        nothing = ", ".join(s.name for s in missing_sets(report, choose_sets(set_names(args))))
        if nothing:
            console.print(
                f"nothing found of: {nothing} (`emojax data list` says where to ask)",
                soft_wrap=True,
            )
        console.print(f"written: {', '.join(map(str, written))}", soft_wrap=True)
    if not report["sets"]:
        return 2
    return 3 if report["refused"] or report["unreadable"] else 0


def _chosen(args: argparse.Namespace, console: Console) -> list[Any]:
    """Clips to build by data set: of a root, of a manifest CSV or of records in JSON Lines.

    Raises:
      ValueError: a file with faults, or nothing found.
    """
    from data_pipeline.datasets.registry import choose_records

    by_set: dict[str, list[Any]] = {}
    records, files = _read(args, console)
    for record in records:
        by_set.setdefault(record.dataset, []).append(record)
    if files.unreadable:
        raise ValueError(f"folders can not be read: {', '.join(files.unreadable[:5])}")
    chosen = [choose_records(name, own, files, fold=args.fold) for name, own in by_set.items()]
    for c in chosen:
        for reason, n in c.excluded.items():
            console.print(f"{c.name}: {n:,} clips left out: {reason}")
    return chosen


def _read(args: argparse.Namespace, console: Console) -> tuple[list[Any], Any]:
    """(every record of a root, a manifest or a file of records; the files there); raises as `_chosen`."""
    from data_pipeline.datasets.manifest import read_manifest
    from data_pipeline.datasets.file_index import FileIndex
    from data_pipeline.datasets.registry import read_root
    from data_pipeline.schema import read_records

    root = Path(args.root)
    if root.is_file():
        if args.sets:
            raise ValueError("--sets chooses among data sets in a folder; this is a file")
        records = read_records(root) if root.suffix == ".jsonl" else read_manifest(root)
        if not records:
            raise ValueError(f"{root} holds no record")
        return records, FileIndex(root.absolute().parent)
    found, files = read_root(root, names=set_names(args), lenient=args.lenient)
    files_read = [file for contents in found for file in contents.annotation_files]
    lines = [line for file in files_read if file.refused for line in file.fault_lines()]
    if lines:
        raise ValueError(
            "annotation files with faults (--lenient leaves faulty rows out):\n" + "\n".join(lines)
        )
    for f in found:
        if f.conflicts:
            text = f"{f.dataset.name}: {len(f.conflicts):,} clips are labelled differently by two files, such as {f.conflicts[0]}"
            console.print(text, soft_wrap=True)
        for r in f.annotation_files:
            for reason, n in r.excluded.items():
                console.print(
                    f"{f.dataset.name}: {n:,} rows of {r.path} left out: {reason}", soft_wrap=True
                )
            for line in r.fault_lines():
                console.print(f"left out: {line}", soft_wrap=True)
    every = [record for f in found for record in f.records]
    if not every:
        raise ValueError(f"no data set is found in {root}; see `emojax data check {root}`")
    return every, files


def _build(args: argparse.Namespace, console: Console) -> int:
    from data_pipeline.builders.shards import SKIPPED, NoDecodableClipError, build_set
    from data_pipeline.media.storage import StoreConfig

    config = StoreConfig(
        kind=args.media, image_choice=args.image, temporal=args.temporal, quality=args.quality
    )
    chosen = _chosen(args, console)
    missing = {c.name: c.missing for c in chosen if c.missing}
    for name, clips in missing.items():
        console.print(
            f"{name}: {len(clips):,} clips are missing, such as {clips[0].path}", soft_wrap=True
        )
    if missing and not args.skip_missing:
        raise ValueError(
            "clips are missing; put them there, name other --sets, or leave them out with --skip-missing"
        )
    out, failed = Path(args.out), 0
    for c in chosen:
        if not c.records:
            console.print(f"{c.name}: no clip is there, nothing is built")
            continue
        with bars(console) as tick:
            what = f"build {c.name}"
            try:
                facts = build_set(
                    out / c.name,
                    c.records,
                    config,
                    progress=lambda d, t, w=what: tick(w, d, t),  # type: ignore[misc]
                    workers=args.workers,
                )
            except NoDecodableClipError as error:  # the other sets are built all the same
                console.print(f"{c.name}: {error}", soft_wrap=True)
                failed += 1
                continue
        counts = ", ".join(f"{split} {n:,}" for split, n in facts["examples"].items())
        console.print(
            f"{c.name}: {counts}; {facts['skipped']} skipped ({facts['state']})", soft_wrap=True
        )
        if config.image_choice == "peak" and (
            unknown := sum(r.peak_index is None for r in c.records)
        ):
            console.print(
                f"  {unknown:,} clips have no known peak frame; the middle one stands for them",
                soft_wrap=True,
            )
        if facts["skipped"]:
            console.print(f"  see {out / c.name / SKIPPED}", soft_wrap=True)
    console.print(
        f"try next: python -m emojax.train --config=configs/v2.py:stage1 --data={shlex.quote(str(out))} --out=DIR",
        soft_wrap=True,
    )
    return 3 if failed else 0


def _encode(args: argparse.Namespace, console: Console) -> int:
    import jax

    from data_pipeline.builders.shards import open_built
    from emojax.bundle.model_folder import load_bundle
    from emojax.model.variables import flatten, is_encoder_path, variable_shardings
    from emojax.sharding import make_mesh
    from emojax.weights.locations import find_model
    from emojax.workflows.encode_features import encode_built

    setup()
    built = open_built(Path(args.data), names=set_names(args))
    folder = find_model(args.model)
    bundle = load_bundle(folder)
    mesh = make_mesh(shape=(-1, 1, 1), devices=jax.local_devices())
    shardings = variable_shardings(bundle.settings.model, mesh)
    with jax.set_mesh(mesh), bars(console) as tick:
        # The encoders alone go to the devices: the language model has no part in it.
        variables = {
            p: jax.device_put(x, shardings[p])
            for p, x in flatten(bundle.variables).items()
            if is_encoder_path(p)
        }
        batch = args.batch * len(jax.local_devices())
        config = encode_built(
            bundle.settings,
            variables,
            built,
            out=Path(args.cache),
            mesh=mesh,
            batch=batch,
            progress=lambda d, t: tick("encode clips", d, t),
        )
    size = sum(f.stat().st_size for f in Path(args.cache).rglob("*.array_record"))
    console.print(
        f"written: {args.cache} ({size / 1e9:.2f} GB, {config.dtype}, encoder {config.encoder})",
        soft_wrap=True,
    )
    console.print(
        f"try next: python -m emojax.train --config=... --config.train.init_from={folder} --data={args.data} "
        f"--cache={args.cache} --out=DIR",
        soft_wrap=True,
    )
    return 0


def _records(args: argparse.Namespace, console: Console) -> int:
    import numpy as np

    from data_pipeline.loader.tasks import StageTasks, draw_example
    from data_pipeline.schema import write_records

    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if not args.instructions:
        records = [r for r in _read(args, console)[0] if args.fold in (None, r.fold)]
        write_records(out, records)
    else:
        records = [r for c in _chosen(args, console) for r in (*c.records, *c.missing)]
        tasks = {
            "perception": ("emotion", "audio", "image"),
            "cognition": ("emotion", "think", "reason"),
        }
        stage = StageTasks(style=args.instructions, tasks=tasks[args.instructions], released=True)
        write_records(
            out, [draw_example(r, stage, np.random.default_rng(i)) for i, r in enumerate(records)]
        )
    console.print(f"written: {out} ({len(records):,} lines)", soft_wrap=True)
    return 0
