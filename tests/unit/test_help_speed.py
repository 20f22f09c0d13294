"""Help is instant: it loads none of the libraries that take seconds."""

import subprocess
import sys

import pytest

from emojax.cli.main import COMMANDS

SLOW = ("jax", "flax", "tensorflow", "tensorflow_datasets", "matplotlib", "scipy", "numpy", "torch")
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
ACTIONS = {
    "data": ("list", "check", "build", "encode", "records"),
    "weights": ("list", "show", "verify", "import"),
    "plan": ("weights", "train"),
    "sweep": ("list", "run", "launch"),
}
HELP = [
    [],
    *([command] for command in COMMANDS),
    *([command, action] for command, actions in ACTIONS.items() for action in actions),
]


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


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
