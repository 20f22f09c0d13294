"""`emojax export`: writes the trained parameters of a model in other projects' layouts."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from emojax.cli.arguments import Commands
from emojax.cli.console import setup


def add_parser(commands: Commands) -> None:
    """Adds `export`."""
    p = commands.add_parser(
        "export", help="write the trained parameters of a model in other projects' layouts"
    )
    p.add_argument("model", help="model folder, or the name of an imported model")
    p.add_argument(
        "--format",
        required=True,
        choices=("peft", "emotion-llama", "hf-merged", "safetensors"),
        help="layout",
    )
    p.add_argument("--out", required=True, help="file or folder to write")


def kept(_args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    return "the export is incomplete; run the same command again"


def run(args: argparse.Namespace, console: Console) -> int:
    """Writes the files."""
    setup()
    from emojax.weights.exporter import export_model
    from emojax.weights.locations import find_model

    files = export_model(find_model(args.model), args.format, Path(args.out))
    console.print(f"written: {', '.join(map(str, files))}", soft_wrap=True)
    return 0
