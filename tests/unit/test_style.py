"""Rules of style that ruff does not know: short files and functions, `Args:` sections, and more."""

import ast
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("emojax", "data_pipeline", "configs")
PROGRAMS = ("scripts", "bench")
LONGEST_LINE, LONGEST_FILE, LONGEST_FUNCTION = 100, 450, 60
MOST_POSITIONAL, MOST_UNDESCRIBED, MOST_UNNAMED = 5, 3, 3

EXCEPTIONS = {
    "positional_definition": {
        "emojax/model/lm/llama.py: Block.__call__",  # nn.scan passes its inputs by position
    },
    "unnamed_fields": {  # named tuples, which jax carries through jitted functions
        "emojax/infer/sample.py: State has 6 fields",
        "emojax/infer/transcribe.py: _State has 6 fields",
        "emojax/model/lm/kv_cache.py: Cache has 6 fields",
        "emojax/train/state.py: TrainState has 4 fields",
    },
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Fault = tuple[int, str]  # line, what is wrong there


def functions(tree: ast.AST, owner: str = "") -> Iterator[tuple[str, Function]]:
    """All functions with their names, those of classes as `Class.name`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield owner + node.name, node
            yield from functions(node)
        else:
            yield from functions(node, f"{node.name}." if isinstance(node, ast.ClassDef) else owner)


def arguments(function: Function, *, positional: bool = False) -> list[str]:
    args = function.args
    named = (*args.posonlyargs, *args.args, *(() if positional else args.kwonlyargs))
    return [a.arg for a in named if a.arg not in ("self", "cls")]


def long_file(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    if len(lines) > LONGEST_FILE:
        yield len(lines), "lines"


def long_line(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    yield from ((i, line) for i, line in enumerate(lines, 1) if len(line) > LONGEST_LINE)


def long_function(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    for name, f in functions(tree):
        if (length := f.end_lineno - f.lineno + 1) > LONGEST_FUNCTION:
            yield f.lineno, f"{name} has {length} lines"


def positional_call(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    """A call with many arguments by position."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and len(call.args) > MOST_POSITIONAL:
            yield call.lineno, f"{ast.unparse(call.func)} gets {len(call.args)}"


def positional_definition(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    """A function that takes many arguments by position."""
    for name, f in functions(tree):
        if len(arguments(f, positional=True)) > MOST_POSITIONAL:
            yield f.lineno, name


def undescribed_arguments(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    """A public function with a docstring and many arguments, but without an `Args:` section."""
    for name, f in functions(tree):
        text = ast.get_docstring(f) or ""
        public = text and not f.name.startswith("_")
        if public and len(arguments(f)) > MOST_UNDESCRIBED:
            if not re.search(r"^Args:$", text, re.M):
                yield f.lineno, name


def records(tree: ast.Module) -> Iterator[tuple[ast.ClassDef, bool]]:
    """(class, whether its fields are set by name) of all dataclasses and named tuples."""
    for c in ast.walk(tree):
        if isinstance(c, ast.ClassDef):
            marks = [ast.unparse(d) for d in c.decorator_list if "dataclass" in ast.unparse(d)]
            if marks or any(ast.unparse(b).endswith("NamedTuple") for b in c.bases):
                yield c, bool(marks) and "kw_only=True" in marks[0]


def number_of_fields(c: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> int:
    bases = [classes[ast.unparse(b)] for b in c.bases if ast.unparse(b) in classes]
    own = sum(isinstance(s, ast.AnnAssign) for s in c.body)
    return own + sum(number_of_fields(b, classes) for b in bases)


def unnamed_fields(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    """A record of many fields, its base classes' included, that can be set by position."""
    classes = {c.name: c for c, _ in records(tree)}
    for c, by_name in records(tree):
        if not by_name and (number := number_of_fields(c, classes)) > MOST_UNNAMED:
            yield c.lineno, f"{c.name} has {number} fields"


RULES: dict[str, Callable[[ast.Module, list[str]], Iterator[Fault]]] = {
    f.__name__: f
    for f in (
        long_file,
        long_line,
        long_function,
        positional_call,
        positional_definition,
        undescribed_arguments,
        unnamed_fields,
    )
}
FOLDERS = {  # other rules are for the packages only
    "long_file": (*PACKAGES, *PROGRAMS, "tests"),
    "long_line": (*PACKAGES, *PROGRAMS, "tests"),
    "long_function": (*PACKAGES, *PROGRAMS),
}
BREACHES = {  # code with exactly one fault
    "long_file": "x = 1\n" * (LONGEST_FILE + 1),
    "long_line": f"x = 1\ny = '{'a' * LONGEST_LINE}'\n",
    "long_function": "class A:\n    def f():\n" + "        x = 1\n" * LONGEST_FUNCTION,
    "positional_call": "f(1, 2, 3, 4, 5)\na.f(1, 2, 3, 4, 5, 6)\n",
    "positional_definition": (
        "class A:\n"
        "    def f(self, a, b, c, d, e): ...\n"
        "    def g(self, a, b, c, d, e, /, f): ...\n"
        "def h(a, b, c, d, e, *, f): ...\n"
    ),
    "undescribed_arguments": (
        'def f(a, b, c): "Three."\n'
        'def _f(a, b, c, d): "Private."\n'
        'def g(a, b, *, c, d):\n    """Four.\n\n    Args:\n      a: one.\n    """\n'
        'def h(a, b, *, c, d): "The section Args: is missing."\n'
    ),
    "unnamed_fields": (
        "@dataclass(frozen=True)\nclass A:\n    a: int\n    b: int\n    c: int\n"
        "@dataclass(kw_only=True)\nclass B(A):\n    d: int\n"
        "@dataclass\nclass C(A):\n    d: int\n"
        "class D(NamedTuple):\n    a: int\n    b: int\n"
    ),
}


parse = functools.cache(ast.parse)


def faults(rule: str, text: str) -> list[Fault]:
    return list(RULES[rule](parse(text), text.splitlines()))


@pytest.mark.parametrize("rule", RULES)
def test_rules_of_style(rule):
    exceptions = set(EXCEPTIONS.get(rule, ()))
    found, excused = [], set()
    for folder in FOLDERS.get(rule, PACKAGES):
        paths = sorted((ROOT / folder).rglob("*.py"))
        assert paths, folder
        for path in paths:
            name = path.relative_to(ROOT)
            for line, what in faults(rule, path.read_text(encoding="utf-8")):
                if f"{name}: {what}" in exceptions:
                    excused.add(f"{name}: {what}")
                else:
                    found.append(f"{name}:{line} {what}")
    assert not found, f"{len(found)}:\n" + "\n".join(found)
    assert excused == exceptions, "exceptions that are not needed"


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_finds_a_breach(rule):
    assert len(faults(rule, BREACHES[rule])) == 1
