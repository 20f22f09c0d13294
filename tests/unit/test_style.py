"""Rules of style that ruff does not know: short files and functions, `Args:` sections, and more."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("emojax", "data_pipeline")
FOLDERS = (*PACKAGES, "configs", "tests", "scripts", "bench")
LONGEST_FILE, LONGEST_FUNCTION, MOST_POSITIONAL, MOST_UNDESCRIBED, MOST_UNNAMED = 450, 60, 5, 3, 3


def files(folders: tuple[str, ...]) -> list[tuple[str, ast.Module, list[str]]]:
    out = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            out.append((str(path.relative_to(ROOT)), ast.parse(text), text.splitlines()))
    return out


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def faults(rule: str) -> list[str]:
    out = []
    for name, tree, lines in files(FOLDERS if rule in ("file", "columns") else PACKAGES):
        if rule == "file" and len(lines) > LONGEST_FILE:
            out.append(f"{name}: {len(lines)} lines")
        if rule == "columns":
            out += [f"{name}:{i}" for i, line in enumerate(lines, 1) if len(line) > 100]
        if rule == "function":
            for f in functions(tree):
                if (length := f.end_lineno - f.lineno + 1) > LONGEST_FUNCTION:
                    out.append(f"{name}:{f.lineno} {f.name}: {length} lines")
        if rule == "positional":
            for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
                if len(call.args) > MOST_POSITIONAL:
                    out.append(f"{name}:{call.lineno} {ast.unparse(call.func)}: {len(call.args)}")
        if rule == "args":
            for f in functions(tree):
                own = [a.arg for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs)]
                own = [a for a in own if a not in ("self", "cls")]
                text = ast.get_docstring(f) or ""
                public = not f.name.startswith("_") and text
                if public and len(own) > MOST_UNDESCRIBED and "Args:" not in text:
                    out.append(f"{name}:{f.lineno} {f.name}")
        if rule == "records":
            for c in (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)):
                marks = [ast.unparse(d) for d in c.decorator_list if "dataclass" in ast.unparse(d)]
                number = sum(isinstance(s, ast.AnnAssign) for s in c.body)
                if marks and number > MOST_UNNAMED and "kw_only=True" not in marks[0]:
                    out.append(f"{name}:{c.lineno} {c.name}: {number} fields")
    return out


@pytest.mark.parametrize("rule", ["file", "columns", "function", "positional", "args", "records"])
def test_rules_of_style(rule):
    found = faults(rule)
    assert not found, f"{len(found)}:\n" + "\n".join(found)
