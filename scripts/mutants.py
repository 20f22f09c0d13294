"""Puts faults into the code, one at a time: each must turn its tests red (`make test-mutants`).

    python scripts/mutants.py [NAME ...] [--write] [--jobs 2]

scripts/mutants.toml lists the faults. Each is made in a copy of the repository, where only the
tests that it names are run, each by itself. A fault that leaves one of them green is a gap of the
tests. `--write` puts the table of faults and results into docs/testing.md.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import dataclasses
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".toml")
PAGE = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- mutants -->", "<!-- end of mutants -->"
COPIED = ("emojax", "data_pipeline", "configs", "tests", "scripts", "pyproject.toml", "docs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault.

    Attributes:
      name: what is wrong, in a few words.
      file: where, from the root of the repository.
      old: text that occurs exactly once in the file.
      new: text that replaces it.
      tests: files or node ids; each of them must turn red.
    """

    name: str
    file: str
    old: str
    new: str
    tests: list[str]


def read_list() -> list[Mutant]:
    """The faults of the list.

    Raises:
      ValueError: the old text of a fault does not occur exactly once, or the code with the fault
        cannot be parsed or does the same as without it.
    """
    mutants = [Mutant(**m) for m in tomllib.loads(LIST.read_text(encoding="utf-8"))["mutant"]]
    parsed = functools.cache(lambda text: ast.dump(ast.parse(text)))
    for m in mutants:
        text = (ROOT / m.file).read_text(encoding="utf-8")
        if (number := text.count(m.old)) != 1:
            raise ValueError(
                f"{m.name}: its old text occurs {number} times in {m.file}, expected once"
            )
        try:
            changed = parsed(text) != parsed(text.replace(m.old, m.new))
        except SyntaxError as error:
            raise ValueError(f"{m.name}: {m.file} cannot be parsed: {error}") from error
        if not changed:
            raise ValueError(f"{m.name}: changes nothing in {m.file}")
    return mutants


def copy_repository(folder: Path) -> Path:
    """A copy of everything that tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def run_tests(folder: Path, tests: list[str]) -> tuple[bool, str]:
    """(whether all pass, the last line of pytest) of tests in a copy of the repository.

    Raises:
      RuntimeError: pytest neither passes nor fails, for example because a module does not import.
    """
    path = os.pathsep.join(str(folder / p) for p in ("", "tests", "scripts"))
    shared = os.environ.get("EMOJAX_SHARED_DATA") or str(ROOT.parent / "shared" / "data")
    env = {
        **os.environ,
        "PYTHONPATH": path,
        "EMOJAX_SHARED_DATA": shared,
        "EMOJAX_CACHE": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest could not run: {done.stdout[-500:]}{done.stderr[-500:]}")
    lines = done.stdout.strip().splitlines() or [""]
    return done.returncode == 0, lines[-1]


def try_mutant(mutant: Mutant) -> tuple[list[str], float]:
    """(tests that stay green, seconds)."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = copy_repository(Path(place))
        path = folder / mutant.file
        path.write_text(
            path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8"
        )
        green = [test for test in mutant.tests if run_tests(folder, [test])[0]]
    return green, time.monotonic() - begin


def write_page(results: dict[str, bool], mutants: list[Mutant]) -> None:
    """Puts the table between the marks of docs/testing.md."""
    rows = ["| fault | file | caught by | result |", "|---|---|---|---|"]
    for m in mutants:
        tests = ", ".join(f"`{t.removeprefix('tests/')}`" for t in m.tests)
        rows.append(
            f"| {m.name} | `{m.file}` | {tests} | {'red' if results[m.name] else '**green**'} |"
        )
    text = PAGE.read_text(encoding="utf-8")
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{tail}", encoding="utf-8")


def main() -> int:
    """Tries the faults; exit code 1 if one leaves a test green."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of names of faults (default: all)")
    parser.add_argument("--write", action="store_true", help="write the table of docs/testing.md")
    parser.add_argument(
        "--jobs", type=int, default=2, help="faults at a time (default %(default)s)"
    )
    args = parser.parse_args()
    every = read_list()
    mutants = [m for m in every if not args.names or any(n in m.name for n in args.names)]
    with tempfile.TemporaryDirectory() as place:  # without a fault all of them pass
        tests = sorted({t for m in mutants for t in m.tests})
        green, line = run_tests(copy_repository(Path(place)), tests)
    if not green:
        print(f"the tests are red without any fault: {line}", file=sys.stderr)
        return 2
    print(f"{len(mutants)} faults; without one: {line}", flush=True)
    results: dict[str, bool] = {}
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(try_mutant, m): m for m in mutants}
        for future in concurrent.futures.as_completed(futures):
            mutant, (still_green, seconds) = futures[future], future.result()
            results[mutant.name] = not still_green
            word = "GREEN" if still_green else "red  "
            print(
                f"{len(results):3}/{len(mutants)} {word} {seconds:5.0f} s  {mutant.name}",
                *still_green,
                flush=True,
            )
    if args.write and not args.names:
        write_page(results, every)
    lost = [name for name, red in results.items() if not red]
    print(f"{len(results) - len(lost)} of {len(results)} faults turn all their tests red")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
