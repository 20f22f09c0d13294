"""`emojax <command>`: reads the command line and runs the module of the command.

The module of command `x` is `emojax/cli/x_cmd.py`. Its `add_parser(commands)` adds the options and
its `run(args, console)` returns the exit code. Only the module of the command that was typed is
imported, and no command module imports anything slow at its top, so that help is instant.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console

from emojax.cli.arguments import Commands
from emojax.cli.console import escape_unprintable, shown_log

COMMANDS = {
    "demo": "emojax.cli.demo_cmd",
    "train": "emojax.cli.train_cmd",
    "evaluate": "emojax.cli.evaluate_cmd",
    "judge": "emojax.cli.judge_cmd",
    "compare": "emojax.cli.compare_cmd",
    "suites": "emojax.cli.suites_cmd",
    "calibrate": "emojax.cli.calibrate_cmd",
    "predict": "emojax.cli.predict_cmd",
    "serve": "emojax.cli.serve_cmd",
    "annotate": "emojax.cli.annotate_cmd",
    "verify": "emojax.cli.verify_cmd",
    "data": "emojax.cli.data_cmd",
    "fetch": "emojax.cli.fetch_cmd",
    "weights": "emojax.cli.weights_cmd",
    "export": "emojax.cli.export_cmd",
    "plan": "emojax.cli.plan_cmd",
    "sweep": "emojax.cli.sweep_cmd",
    "watch": "emojax.cli.watch_cmd",
    "report": "emojax.cli.report_cmd",
    "corpus": "emojax.cli.corpus_cmd",
}
CONTINUES = ("annotate", "data", "sweep", "train")  # commands that continue where they stopped


class CommandModule(Protocol):
    """What the module of a command defines."""

    def add_parser(self, commands: Commands) -> None:
        """Adds the parser of the command."""

    def run(self, args: argparse.Namespace, console: Console) -> int:
        """Runs the command and returns its exit code."""


def module_of(command: str) -> CommandModule:
    """Imports the module of a command."""
    module: CommandModule = importlib.import_module(COMMANDS[command])
    return module


def make_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the command that `argv` names, or of all commands if it names none."""
    parser = argparse.ArgumentParser(
        prog="emojax", description="Names the emotion that a clip of a person shows, and why."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name in argv[:1] if argv and argv[0] in COMMANDS else COMMANDS:
        module_of(name).add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the words of the command line; by default those of the process.

    Returns:
      The exit code: 0 done, 1 failed, 2 wrong usage, 3 some files were refused or
      some clips are unfinished, 130 interrupted.
    """
    escape_unprintable()
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["train"] and any(a.startswith("--config") for a in argv):
        return _run_config(argv[1:])
    parser = make_parser(argv)
    args, unknown = parser.parse_known_args(argv)
    if args.command == "plan" and args.what == "train":
        args.fields = [word for word in unknown if word.startswith("--config.")]
        unknown = [word for word in unknown if word not in args.fields]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    answers_on_stdout = args.command in ("predict", "annotate", "verify") or (
        args.command in ("data", "plan") and getattr(args, "json", False)
    )
    console = Console(stderr=answers_on_stdout, markup=False, highlight=False)
    try:
        with shown_log(console):
            return module_of(args.command).run(args, console)
    except BrokenPipeError:  # the reader of the pipe, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        console.print(f"emojax {args.command}: {error}", soft_wrap=True)
        return 2
    except KeyboardInterrupt as stop:
        if str(stop):  # train.stop.Stopped says what was saved
            console.print(f"emojax {args.command}: {stop}", soft_wrap=True)
            return getattr(stop, "code", 130)
        console.print(f"emojax {args.command}: stopped{_how_to_continue(args)}")
        return 130


def _how_to_continue(args: argparse.Namespace) -> str:
    recording = getattr(args, "timeline", False) or getattr(args, "report", None)
    if args.command not in CONTINUES and not (args.command == "predict" and recording):
        return ""
    where = " from the last checkpoint" if args.command == "train" else ""
    return f"; run the same command again to continue{where}"


def _run_config(argv: list[str]) -> int:
    from absl import app

    from emojax.cli import train_config_cmd

    app.run(train_config_cmd.main, ["emojax train", *argv], flags_parser=train_config_cmd.parse)
    return 0


if __name__ == "__main__":
    sys.exit(main())
