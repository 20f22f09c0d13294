"""Help is instant: it loads none of the libraries that take seconds."""

import argparse
import subprocess
import sys

import pytest

from emojax.cli.main import COMMANDS, make_parser

SLOW = (
    *("jax", "flax", "optax", "orbax", "grain", "tensorflow", "tensorflow_datasets", "torch"),
    *("numpy", "scipy", "pandas", "pyarrow", "sklearn", "transformers", "ray"),
    *("av", "PIL", "matplotlib", "jinja2", "httpx2", "fastapi", "gradio", "uvicorn"),
)
CODE = """
import sys
sys.argv = ["emojax", *{words}]
from emojax.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
print("loaded:", *sorted(set({slow}) & set(sys.modules)))
"""


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers below a parser, by name."""
    choices = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return choices[0] if choices else {}


PARSERS = subcommands(make_parser([]))
HELP = [
    [],
    *([command] for command in PARSERS),
    *([command, action] for command, parser in PARSERS.items() for action in subcommands(parser)),
]


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_every_command_and_action_is_checked():
    assert set(PARSERS) == set(COMMANDS)
    actions = {words[0] for words in HELP if len(words) == 2}
    assert actions == {"data", "weights", "plan", "sweep"}


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_loads_nothing_slow(words):
    out = run(CODE.format(words=[*words, "--help"], slow=SLOW))
    assert "usage: emojax" in out and " ".join(words) in out
    assert out.splitlines()[-1] == "loaded:"


def test_help_loads_only_the_module_of_its_command():
    out = run(CODE.format(words=["predict", "--help"], slow=list(COMMANDS.values())))
    assert out.splitlines()[-1] == "loaded: emojax.cli.predict_cmd"


def test_the_package_loads_nothing_slow():
    out = run(f"import sys, emojax; print('loaded:', *sorted(set({SLOW}) & set(sys.modules)))")
    assert out.strip() == "loaded:"
