"""`emojax corpus`: writes the embedded corpus."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from emojax.cli.arguments import Commands, whole
from emojax.cli.console import progress_bars


def add_parser(commands: Commands) -> None:
    """Adds `corpus`."""
    p = commands.add_parser(
        "corpus", help="write the embedded corpus: clips, records.jsonl, manifest.csv"
    )
    p.add_argument("--out", help="folder (default: the cache)")
    p.add_argument("--train", type=whole, default=600, help="clips (default %(default)s)")
    p.add_argument("--val", type=whole, default=150, help="clips (default %(default)s)")
    p.add_argument("--test", type=whole, default=300, help="clips (default %(default)s)")
    p.add_argument("--seed", type=whole, default=0, help="each seed gives another corpus")


def kept(_args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    return "the corpus is incomplete; run the same command again to make it"


def run(args: argparse.Namespace, console: Console) -> int:
    """Writes the corpus."""
    from data_pipeline.embedded.generate import make_corpus
    from data_pipeline.embedded.truth import CorpusConfig

    config = CorpusConfig(train=args.train, val=args.val, test=args.test, seed=args.seed)
    folder = Path(args.out) if args.out else None
    with progress_bars(console) as progress:
        folder = make_corpus(config=config, folder=folder, progress=progress)
    console.print(f"written: {folder} (clips/, records.jsonl, manifest.csv)", soft_wrap=True)
    return 0
