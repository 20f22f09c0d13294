"""Log records and progress on the console of a command, where the output is not a terminal."""

import io
import logging
import os
import subprocess
import sys

import absl.logging
import jax
import pytest
from rich.console import Console

from emojax.cli.console import progress_bars, setup, shown_log


def console() -> Console:
    return Console(file=io.StringIO(), width=80, markup=False, highlight=False)


def test_records_are_printed_as_they_are():
    out, logger = console(), logging.getLogger("emojax.somewhere")
    before = logging.getLogger("emojax").handlers[:]
    with shown_log(out):
        logger.info("%d clips [red] :smile: %s", 3, "x" * 100)
        logger.warning("note: %s", "a warning")
        logger.debug("not shown")
    logger.warning("after the command")
    assert out.file.getvalue() == f"3 clips [red] :smile: {'x' * 100}\nnote: a warning\n"
    assert logging.getLogger("emojax").handlers == before


def test_each_bar_is_printed_once_in_the_order_of_the_tasks():
    out = console()
    with shown_log(out), progress_bars(out) as progress:
        for done in range(5):
            progress("decode clips", done, 4)
        progress("decode clips", 4, 4)
        logging.getLogger("emojax").info("1 of 4 clips skipped")
        progress("train", 0, None)
        progress("train", 3, 10)
    lines = [" ".join(line.replace("━", "").split()) for line in out.file.getvalue().splitlines()]
    assert lines[0].startswith("decode clips 4/4") and lines[1] == "1 of 4 clips skipped"
    assert lines[2].startswith("train 3/10") and len(lines) == 3


def test_a_task_that_starts_again_has_a_new_bar():
    out = console()
    with progress_bars(out) as progress:
        for _ in range(2):
            progress("fetch", 0.0, 2.0)
            progress("fetch", 2.0, 2.0)
    assert out.file.getvalue().count("2/2") == out.file.getvalue().count("\n") == 2


def test_a_bar_ends_with_its_note():
    out = console()
    with progress_bars(out, note=lambda done, total: f"{done} [of] {total}") as progress:
        progress("annotate", 1, 2)
        progress("annotate", 2, 2)
    assert out.file.getvalue().rstrip().endswith("2 [of] 2") and "1 [of]" not in out.file.getvalue()


@pytest.fixture
def unchanged_settings(monkeypatch):
    """What `setup` changes is put back after the test."""
    fields = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {field: getattr(jax.config, field) for field in fields}
    level = absl.logging.get_verbosity()
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    yield
    for field, value in before.items():
        jax.config.update(field, value)
    absl.logging.set_verbosity(level)


@pytest.mark.usefixtures("unchanged_settings")
def test_compiled_programs_are_kept_in_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("EMOJAX_CACHE", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "chosen")
    before = jax.config.jax_compilation_cache_dir
    setup()
    assert jax.config.jax_compilation_cache_dir == before != str(tmp_path / "jax")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    setup()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "jax")


def test_answers_reach_a_file_while_bars_are_on_the_terminal(tmp_path):
    """stderr is a terminal, stdout a file: what is printed inside a bar lands in the file."""
    code = (
        "import rich.console\n"
        "from emojax.cli.console import progress_bars\n"
        "with progress_bars(rich.console.Console(stderr=True)) as progress:\n"
        "    progress('answer', 0, 2)\n"
        "    print('{}', flush=True)\n"
        "    progress('answer', 2, 2)\n"
    )
    ours, theirs = os.openpty()
    with (tmp_path / "out.jsonl").open("w") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert (tmp_path / "out.jsonl").read_text() == "{}\n"
    assert "answer" in shown and "{}" not in shown
