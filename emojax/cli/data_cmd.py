"""`emojax data ...`: lists, checks, builds and encodes data sets for training."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from data_pipeline.media.notes import counted
from emojax.cli.arguments import Commands, count, name_list, percent
from emojax.cli.console import progress_bars, setup
from emojax.cli.manifest_options import add_columns_option, add_labels_option
from emojax.cli.output import kept_in, print_parts
from emojax.cli.plot_options import add_plots_option

if TYPE_CHECKING:
    from data_pipeline.media.storage import StoreConfig
    from data_pipeline.progress import Progress


def add_parser(commands: Commands) -> None:
    """Adds `data`."""
    p = commands.add_parser(
        "data", help="check, build and cache the data sets of MMEVerse, MERR and others"
    )
    actions = p.add_subparsers(dest="action", required=True, metavar="action")

    a = actions.add_parser("list", help="known data sets, and where to request them")
    a.add_argument("--json", action="store_true")
    _add_check(actions)
    _add_build(actions)
    _add_encode(actions)
    _add_records(actions)


def _add_check(actions: Commands) -> None:
    a = actions.add_parser(
        "check",
        help="count clips by set, split and label; find missing, damaged or leaking ones",
    )
    _add_root(a)
    a.add_argument(
        "--out",
        default="runs/data",
        help="folder for report.json, counts.csv and counts.png (default %(default)s)",
    )
    a.add_argument("--no-decode", action="store_true", help="only check that the files exist")
    a.add_argument("--all-labels", action="store_true", help="print every label of every fold")
    a.add_argument("--json", action="store_true", help="print the report as JSON")
    add_plots_option(a)


def _add_build(actions: Commands) -> None:
    a = actions.add_parser(
        "build", help="write array_record shards with the clips' media, for training without mp4"
    )
    _add_root(a)
    a.add_argument("out", help="folder; an unfinished build in it is continued")
    a.add_argument("--fold", help="fold of sets that have folds (default: their first)")
    a.add_argument(
        "--media",
        choices=("proxy", "bytes"),
        default="proxy",
        help="small JPEG frames and FLAC, or the files",
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
        help="of the JPEG frames, 1 to 100 (default %(default)s)",
    )
    a.add_argument(
        "--skip-missing",
        action="store_true",
        help="build although clips are missing; they are counted",
    )
    a.add_argument("--workers", type=count, help="processes (default: one per core)")


def _add_encode(actions: Commands) -> None:
    a = actions.add_parser(
        "encode", help="cache the features of a model's frozen encoders, for training from them"
    )
    a.add_argument("data", help="folder of `emojax data build`")
    a.add_argument("cache", help="folder to write; an unfinished encoding in it is continued")
    a.add_argument("--model", required=True, help="model folder, or the name of an imported model")
    a.add_argument("--sets", metavar="A,B,...", help="data sets (default: all that were built)")
    a.add_argument(
        "--batch", type=count, default=8, help="clips at once on each device (default %(default)s)"
    )


def _add_records(actions: Commands) -> None:
    a = actions.add_parser(
        "records", help="write the annotations as JSON Lines of the unified schema"
    )
    _add_root(a)
    a.add_argument("--out", required=True, help="file")
    a.add_argument("--fold", help="fold of sets that have folds (default: all of them)")
    a.add_argument(
        "--instructions",
        choices=("perception", "cognition"),
        help="write one randomly drawn instruction per clip",
    )


def _add_root(a: argparse.ArgumentParser) -> None:
    a.add_argument(
        "root",
        help="folder of data sets, as their authors or MMEVerse distribute them; or a manifest",
    )
    add_columns_option(a)
    add_labels_option(a)
    a.add_argument(
        "--sets", metavar="A,B,...", help="data sets (default: all; see `emojax data list`)"
    )
    a.add_argument(
        "--lenient",
        action="store_true",
        help="repair hand-edited JSON and leave out rows with faults; both are counted",
    )


def set_names(args: argparse.Namespace) -> list[str] | None:
    """The names in --sets; None if the option is not given.

    Raises:
      ValueError: the option names no data set.
    """
    if args.sets is None:
        return None
    names = name_list(args.sets)
    if not names:
        raise ValueError("--sets names no data set; see `emojax data list`")
    return names


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    if args.action in ("check", "build", "encode"):
        place = args.cache if args.action == "encode" else args.out
        return kept_in(place, "what is finished is")
    return "nothing was written; run the same command again"


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs one action; exit code 2 if nothing was found, 3 if something was refused."""
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
        use = ", training set of MMEVerse" if s.name in TRAINING else ""
        if s.name in IMAGES:
            use = use or ", image set of its mixture"
        console.print(
            f"{s.name}: {s.title}{use}\n  folder {' or '.join(s.folders)}\n"
            f"  request at {s.request}\n  {s.terms}",
            soft_wrap=True,
        )
    return 0


def _check(args: argparse.Namespace, console: Console) -> int:
    from data_pipeline.datasets.check import check_root, missing_sets
    from data_pipeline.datasets.registry import choose_sets
    from emojax.reports import data_tables

    out = Path(args.out)
    quiet = Console(stderr=True) if args.json else console
    with progress_bars(quiet) as progress:
        report = check_root(
            Path(args.root),
            names=set_names(args),
            lenient=args.lenient,
            columns=args.columns,
            labels=name_list(args.labels) or None,
            decode=not args.no_decode,
            store=out / "media.jsonl",
            progress=progress,
        )
    written = data_tables.write_report(report, out, plots=args.plots)
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        print_parts(data_tables.terminal_report(report, all_labels=args.all_labels), console)
        nothing = ", ".join(s.name for s in missing_sets(report, choose_sets(set_names(args))))
        if nothing and not Path(args.root).is_file():
            console.print(
                f"nothing found of: {nothing} (`emojax data list` says where to request it)",
                soft_wrap=True,
            )
        console.print(f"written: {', '.join(map(str, written))}", soft_wrap=True)
    if not report["sets"]:
        return 2
    return 3 if report["refused"] or report["unreadable"] else 0


def _chosen(args: argparse.Namespace, console: Console) -> list[Any]:
    """The clips to build by data set, of a folder, a manifest CSV or a file of records.

    Raises:
      ValueError: a file has faults, or nothing was found.
    """
    from data_pipeline.datasets.registry import choose_records

    by_set: dict[str, list[Any]] = {}
    records, files = _read(args, console)
    for record in records:
        by_set.setdefault(record.dataset, []).append(record)
    if files.unreadable:
        raise ValueError(f"folders cannot be read: {', '.join(files.unreadable[:5])}")
    chosen = [choose_records(name, own, files, fold=args.fold) for name, own in by_set.items()]
    for c in chosen:
        for reason, n in c.excluded.items():
            console.print(f"{c.name}: {counted(n, 'clip')} left out: {reason}")
    return chosen


def _read(args: argparse.Namespace, console: Console) -> tuple[list[Any], Any]:
    """The records of a folder, a manifest or a file of records, and the files found there."""
    from data_pipeline.datasets.registry import read_manifest_set, read_root

    root = Path(args.root)
    if root.is_file():
        if args.sets:
            raise ValueError("--sets chooses among data sets in a folder; this is a file")
        contents, files = read_manifest_set(
            root, labels=name_list(args.labels) or None, columns=args.columns
        )
        return [record for c in contents for record in c.records], files
    found, files = read_root(root, names=set_names(args), lenient=args.lenient)
    annotation_files = [file for contents in found for file in contents.annotation_files]
    lines = [line for file in annotation_files if file.refused for line in file.fault_lines()]
    if lines:
        raise ValueError(
            "annotation files with faults (--lenient leaves out faulty rows):\n" + "\n".join(lines)
        )
    for f in found:
        if f.conflicts:
            console.print(
                f"{f.dataset.name}: different labels in two files: "
                f"{counted(len(f.conflicts), 'clip')}, "
                f"such as {f.conflicts[0]}",
                soft_wrap=True,
            )
        for r in f.annotation_files:
            for reason, n in r.excluded.items():
                console.print(
                    f"{f.dataset.name}: {counted(n, 'row')} of {r.path} left out: {reason}",
                    soft_wrap=True,
                )
            for line in r.fault_lines():
                console.print(f"left out: {line}", soft_wrap=True)
    every = [record for f in found for record in f.records]
    if not every:
        raise ValueError(f"{root} holds no known data set; see `emojax data check {root}`")
    return every, files


def _build(args: argparse.Namespace, console: Console) -> int:
    from data_pipeline.media.storage import StoreConfig

    config = StoreConfig(
        kind=args.media, image_choice=args.image, temporal=args.temporal, quality=args.quality
    )
    chosen = _chosen(args, console)
    missing = [
        f"{c.name}: {counted(len(c.missing), 'clip')} missing, such as {c.missing[0].path}"
        for c in chosen
        if c.missing
    ]
    if missing and not args.skip_missing:
        raise ValueError(
            "\n".join(missing)
            + "\nadd them, name other --sets, or leave them out with --skip-missing"
        )
    for line in missing:
        console.print(line, soft_wrap=True)
    with progress_bars(console) as progress:
        built = [_build_one(args, config, c, console, progress=progress) for c in chosen]
    console.print(
        "try next: python -m emojax.train --config=configs/v2.py:stage1 "
        f"--data={shlex.quote(args.out)} --out=DIR",
        soft_wrap=True,
    )
    return 0 if all(built) else 3


def _build_one(
    args: argparse.Namespace,
    config: StoreConfig,
    chosen: Any,
    console: Console,
    *,
    progress: Progress,
) -> bool:
    """Builds one data set; False if none of its clips can be decoded."""
    from data_pipeline.builders.shards import SKIPPED, NoDecodableClipError, build_set

    if not chosen.records:
        console.print(f"{chosen.name}: all clips are missing, nothing is built")
        return True
    folder = Path(args.out) / chosen.name
    try:
        facts = build_set(
            folder,
            chosen.records,
            config,
            progress=progress,
            workers=args.workers,
        )
    except NoDecodableClipError as error:
        console.print(f"{chosen.name}: {error}", soft_wrap=True)
        return False
    counts = ", ".join(f"{split} {n:,}" for split, n in facts["examples"].items())
    console.print(
        f"{chosen.name}: {counts}; {facts['skipped']} skipped ({facts['state']})", soft_wrap=True
    )
    unknown = sum(r.peak_index is None for r in chosen.records)
    if config.image_choice == "peak" and unknown:
        console.print(
            f"  {counted(unknown, 'clip')} without a known peak frame: the middle one is used",
            soft_wrap=True,
        )
    if facts["skipped"]:
        console.print(f"  see {folder / SKIPPED}", soft_wrap=True)
    return True


def _encode(args: argparse.Namespace, console: Console) -> int:
    setup()
    from data_pipeline.builders.shards import open_built
    from emojax.weights.locations import find_model
    from emojax.workflows.encode_features import encode_with_model

    built = open_built(Path(args.data), names=set_names(args))
    folder = find_model(args.model)
    with progress_bars(console) as progress:
        config = encode_with_model(
            folder, built, out=Path(args.cache), batch=args.batch, progress=progress
        )
    size = sum(f.stat().st_size for f in Path(args.cache).rglob("*.array_record"))
    console.print(
        f"written: {args.cache} ({size / 1e9:.2f} GB, {config.dtype}, encoder {config.encoder})",
        soft_wrap=True,
    )
    console.print(
        f"try next: python -m emojax.train --config=... --config.train.init_from={folder} "
        f"--data={args.data} --cache={args.cache} --out=DIR",
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
    console.print(f"written: {out} ({counted(len(records), 'line')})", soft_wrap=True)
    return 0
