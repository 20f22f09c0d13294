"""`emojax verify`: people check annotations in the browser; shows how far they agree."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data_pipeline.io import write_bytes, write_json
from emojax.cli.arguments import Commands, check_port_is_free, count, whole

SHOWN = 10  # clips printed on which annotators differ


def add_parser(commands: Commands) -> None:
    """Adds `verify`."""
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
        help="let `annotate` ask again for clips that were sent back or on which annotators differ",
    )
    p.add_argument("--json", action="store_true", help="print agreement.json")


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    return f"marks are kept in {args.out} as they are made; run the same command again to go on"


def run(args: argparse.Namespace, console: Console) -> int:
    """Serves the page of one annotator, or shows the agreement of all."""
    from data_pipeline.annotate import verify
    from data_pipeline.annotate.runner import STATE, read_state, send_back
    from emojax.reports.agreement_plot import agreement_chart

    out = Path(args.out)
    if not (out / STATE).exists():
        raise ValueError(f"{out} has no annotations; give the folder of `emojax annotate`")
    if args.annotator is not None:
        check_port_is_free("127.0.0.1", args.port)
        from data_pipeline.annotate.review import serve
        from emojax.reports.html_page import review_page

        serve(
            out,
            args.annotator,
            count=args.sample,
            page=review_page(),
            seed=args.seed,
            port=args.port,
        )
        return 0
    known = read_state(out / STATE)
    digests = {clip: a.digest for clip, a in known.items()}
    marks = [m for m in verify.read_marks(out, digests=digests) if m.marks]
    ever_marked = {c for m in verify.read_marks(out) for c in m.marks}
    lapsed = sorted(ever_marked - {c for m in marks for c in m.marks})
    if not marks:
        raise ValueError(
            f"{out}: nobody has marked any of its present annotations; begin with --annotator NAME"
        )
    result = verify.agreement(marks) | {"lapsed": lapsed}
    if args.send_back:
        clips = dict.fromkeys(result["differ"], "") | result["sent_back"]
        number = send_back(out, clips, digests)
        console.print(f"the same `emojax annotate` command asks again for {number} clips")
    write_json(out / "agreement.json", result, indent=1)
    write_bytes(out / "agreement.png", agreement_chart(result, out.resolve().name))
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
        return 0
    _show(result, {clip: a.label for clip, a in known.items()}, console)
    console.print(f"written: {out}/agreement.json, agreement.png", soft_wrap=True)
    return 0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _show(result: dict[str, Any], labels: dict[str, str], console: Console) -> None:
    title = f"{', '.join(result['annotators'])}: {result['clips']} clips"
    table = Table("aspect", "agreed", "marks", "alpha", "kappa", title=title)
    for aspect, row in result["aspects"].items():
        kappa = "; ".join(f"{pair} {_number(k)}" for pair, k in row["kappa"].items()) or "-"
        agreed, alpha = _number(row["agreed"]), _number(row["alpha"])
        table.add_row(aspect, agreed, str(row["marks"]), alpha, kappa)
    console.print(table)
    if lapsed := result["lapsed"]:
        console.print(
            f"  {len(lapsed)} marked clips do not count: their annotations have changed since. "
            "Mark them again before you report a figure: clips that were sent back are the ones "
            "on which people did not agree",
            soft_wrap=True,
        )
    for clip, aspects in list(result["differ"].items())[:SHOWN]:
        label = labels.get(clip, "?")
        console.print(f"  they differ on {clip} ({label}): {', '.join(aspects)}", soft_wrap=True)
    for clip, remark in result["sent_back"].items():
        console.print(f"  sent back: {clip} {remark}", soft_wrap=True)
