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
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console

from emojax.cli.arguments import Commands
from emojax.cli.console import escape_unprintable, shown_log
from emojax.cli.faults import file_fault
from emojax.cli.interrupts import Interrupts, end_process
from emojax.cli.parser import Parser, ShowVersion

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


class CommandModule(Protocol):
    """What the module of a command defines."""

    def add_parser(self, commands: Commands) -> None:
        """Adds the parser of the command."""

    def run(self, args: argparse.Namespace, console: Console) -> int:
        """Runs the command and returns its exit code."""

    # Optional: `def kept(args: argparse.Namespace) -> str` returns what an interrupted run of the
    # command has kept, and how to continue.


def module_of(command: str) -> CommandModule:
    """Imports the module of a command."""
    module: CommandModule = importlib.import_module(COMMANDS[command])
    return module


def make_parser(argv: Sequence[str]) -> Parser:
    """The parser of the command that `argv` names, or of all commands if it names none."""
    parser = Parser(
        prog="emojax", description="Names the emotion that a clip of a person shows, and why."
    )
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="print the version and end")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name in argv[:1] if argv and argv[0] in COMMANDS else COMMANDS:
        module_of(name).add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the words of the command line; by default those of the process.

    Returns:
      The exit code: 0 done, 1 failed, 2 wrong usage or a fault of a file or disk, 3 some files
      were refused or some clips are unfinished, 130 interrupted.
    """
    escape_unprintable()
    if argv is not None:
        return _run(list(argv), lambda: False)[0]
    with Interrupts() as interrupts:
        code, in_order = _run(sys.argv[1:], lambda: interrupts.requested)
        if not in_order:  # the hooks of `Interrupts` stay until the end
            end_process(code)
    return code


def _run(argv: list[str], is_interrupted: Callable[[], bool]) -> tuple[int, bool]:
    """Runs one command; prints its faults on stderr.

    Returns:
      (exit code, False if threads may still work on what cannot be finished).
    """
    faults = Console(stderr=True, markup=False, highlight=False)
    args = argparse.Namespace(command=argv[0] if argv else "")
    try:
        if not argv:
            make_parser(argv).print_help(sys.stderr)
            return 2, True
        args = make_parser(argv).parse_args(argv)
        code = _run_command(args)
        sys.stdout.flush()  # a full disk is noticed here, not after the end
        return code, True
    except BrokenPipeError:  # the reader of the pipe, such as `head`, has ended
        _give_up_stdout()
        return 0, True
    except KeyboardInterrupt as stop:
        return _report_stop(stop, args, faults), False
    except Exception as error:
        if is_interrupted():
            return _report_stop(KeyboardInterrupt(), args, faults), False
        text = file_fault(error, place=getattr(args, "out", None) or "")
        if not text and not isinstance(error, ValueError | OSError):
            raise
        faults.print(f"emojax {args.command}: {text or error}", soft_wrap=True)
        if text:
            _give_up_stdout()
            if kept := _kept(args):
                faults.print(kept, soft_wrap=True)
        return 2, not text


def _run_command(args: argparse.Namespace) -> int:
    answers_on_stdout = args.command in ("predict", "annotate", "verify") or (
        args.command in ("data", "plan") and getattr(args, "json", False)
    )
    console = Console(stderr=answers_on_stdout, markup=False, highlight=False)
    with shown_log(console):
        return module_of(args.command).run(args, console)


def _report_stop(stop: KeyboardInterrupt, args: argparse.Namespace, faults: Console) -> int:
    """Says what was kept; returns the exit code."""
    text = str(stop) or "; ".join(filter(None, ("stopped", _kept(args))))
    faults.print(f"emojax {args.command}: {text}", soft_wrap=True)
    return int(getattr(stop, "code", 130))


def _kept(args: argparse.Namespace) -> str:
    """What an interrupted command has kept, and how to go on; "" if it says nothing."""
    if args.command not in COMMANDS:
        return ""
    kept = getattr(module_of(args.command), "kept", None)
    return str(kept(args)) if kept is not None else ""


def _give_up_stdout() -> None:
    """If stdout cannot take what is still to be printed, sends it nowhere."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
