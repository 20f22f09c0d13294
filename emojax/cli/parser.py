"""The parser of all commands: argparse, with the nearest name for typing errors."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from data_pipeline.suggestions import nearest, no_such, not_one_of
from emojax import __version__


class Parser(argparse.ArgumentParser):
    """Refuses unknown commands, options and choices with the nearest one that exists.

    Each parser checks its own options before argparse reports missing ones: a missing option may be
    one that was mistyped.
    """

    takes_fields = False

    def accept_fields(self) -> None:
        """Collects the words `--config.NAME=VALUE` in the attribute `fields`."""
        self.takes_fields = True
        self.epilog = (
            "any field of the configuration can be set: --config.optim.lr=3e-4 "
            "--config.train.batch=16"
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse does, but refuses unknown options itself."""
        words = list(args)
        fields: list[str] = []
        if self.takes_fields:
            fields, words = _take_fields(words)
        self._check_options(words)
        values, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self.error(f"not understood: {' '.join(unknown)}")
        if self.takes_fields:
            values.fields = fields
        return values, []

    def error(self, message: str) -> NoReturn:
        """Prints one sentence and where the options are explained; exit code 2."""
        text = message.removeprefix("argument ")
        text = text.replace("the following arguments are required: ", "missing: ")
        actions = self._subparsers._group_actions[0] if self._subparsers else None
        if actions is not None and actions.choices and text == f"missing: {actions.metavar}":
            text += f", one of {', '.join(actions.choices)}"
        self.exit(2, f"{self.prog}: {text}\n`{self.prog} --help` explains the options\n")

    def _check_options(self, words: Sequence[str]) -> None:
        known = self._option_string_actions
        for word in words:
            name = word.partition("=")[0]
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                return  # what follows is no option, or belongs to a command
            if not re.match(r"-{1,2}[A-Za-z]", name) or " " in name:
                continue
            if not any(option.startswith(name) for option in known):
                near = nearest(name, known)
                hint = f"; did you mean {near}?" if near else ""
                self.error(f"there is no option {name}{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            near = nearest(str(value), ("--help", "--version", *choices))
            if near.startswith("--") and near in self._option_string_actions:
                self.error(f"there is no {action.dest} '{value}'; did you mean {near}?")
            kind = "command" if action.dest == "command" else "action"
            self.error(no_such(kind, str(value), choices))
        name = "/".join(action.option_strings) or str(action.metavar or action.dest)
        self.error(f"{name}: {not_one_of(str(value), choices)}")


class ShowVersion(argparse.Action):
    """Prints the versions that a report of a fault needs."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Prints them and ends the process."""
        import importlib.metadata
        import platform

        jax, python = importlib.metadata.version("jax"), platform.python_version()
        print(f"emojax {__version__} (jax {jax}, Python {python})")
        parser.exit()


def _take_fields(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(words that set fields, with their values; the other words)."""
    fields: list[str] = []
    others: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not re.match(r"--?(no)?config\.", word):
            others.append(word)
        elif "=" not in word and not word.lstrip("-").startswith("no") and _is_value(rest):
            fields.append(f"{word}={rest.pop(0)}")
        else:
            fields.append(word)
    return fields, others


def _is_value(rest: Sequence[str]) -> bool:
    """Whether the next word is a value, as in `--config.optim.lr 3e-4`."""
    return bool(rest) and bool(re.match(r"[^-]|-[\d.]", rest[0]))
