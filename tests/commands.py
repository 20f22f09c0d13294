"""Commands as users type them: `emojax` in a process of its own, `run_command` in this one.

What ends before a model is needed runs here, without seconds of imports for each command.
"""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emojax.cli.main import main

ROOT = Path(__file__).parents[1]


def start(place: Path, *words: str, cwd: Path = ROOT) -> subprocess.Popen:
    """Starts a command; its cache folder is in `place`."""
    env = {
        **os.environ,
        "EMOJAX_CACHE": str(place / "cache"),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-u", "-m", "emojax.cli", *words]
    return subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def emojax(place: Path, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Runs a command in a process of its own."""
    with start(place, *words, cwd=cwd) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def run_command(place: Path, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Runs a command in this process; an exception that leaves it is an error of the test."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setenv("EMOJAX_CACHE", str(place / "cache"))
        patch.chdir(cwd)
        try:
            code = main(words)
        except SystemExit as stop:  # of the parser
            code = stop.code
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
