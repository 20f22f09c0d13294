"""Draws docs/images/imports.svg: which room imports which, by the levels of docs/architecture.md.

    python scripts/import_graph.py

A room is a folder or a single module that the table "Levels" of docs/architecture.md names. The
test tests/unit/test_imports.py reads the same table and refuses imports against its order.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "images" / "imports.svg"
PACKAGES = ("emojax", "data_pipeline", "configs")
ENTRY = "__main__"  # entry points may import the command line


def module_name(path: Path) -> str:
    """`emojax/train/step.py` -> `emojax.train.step`; an `__init__.py` has its package's name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name, entry points left out."""
    paths = [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]
    return {module_name(p): p for p in paths if p.stem != ENTRY}


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The code of a file; files are expected not to change."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_names(path: Path) -> set[str]:
    """Dotted names that a file imports at its top or inside functions, types alone included."""
    names = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def imports() -> dict[str, set[str]]:
    """{module: modules of ours that it imports}; `from package import module` counts the module."""
    known = modules()
    out = {}
    for name, path in known.items():
        found = {n for n in imported_names(path) if n in known and n != name}
        # A package that is named only because one of its modules is imported does not count.
        out[name] = {n for n in found if not any(other.startswith(n + ".") for other in found)}
    return out


def levels() -> dict[str, int]:
    """{room: level} of the table in docs/architecture.md, in its order."""
    text = PAGE.read_text(encoding="utf-8").partition("## Levels")[2].partition("\n## ")[0]
    out = {}
    for line in text.splitlines():
        if match := re.match(r"\|\s*(\d+)\s*\|([^|]+)\|", line):
            for room in re.findall(r"`([^`]+)`", match[2]):
                out[room.removesuffix(".py").strip("/").replace("/", ".")] = int(match[1])
    return out


def room_of(module: str, rooms: dict[str, int]) -> str | None:
    """The most exact room that holds a module."""
    fits = [r for r in rooms if module == r or module.startswith(r + ".")]
    return max(fits, key=len, default=None)


def relations() -> Counter[tuple[str, str]]:
    """{(room, imported room): how many imports}, rooms that differ."""
    rooms = levels()
    out: Counter[tuple[str, str]] = Counter()
    for module, found in imports().items():
        own = room_of(module, rooms)
        for other in found:
            target = room_of(other, rooms)
            if own and target and own != target:
                out[own, target] += 1
    return out


def direct_relations() -> list[tuple[str, str]]:
    """Relations that do not follow from others: without a -> c where a -> b -> c exists."""
    targets: dict[str, set[str]] = {}
    for own, target in relations():
        targets.setdefault(own, set()).add(target)

    def reachable(room: str) -> set[str]:
        near = targets.get(room, set())
        return near.union(*(reachable(r) for r in near))

    return sorted(
        (own, target)
        for own, near in targets.items()
        for target in near
        if not any(target in reachable(other) for other in near - {target})
    )


def draw(path: Path) -> None:
    """Writes the picture: a row per level, the lowest at the bottom, a line per direct relation."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "emojax"
    from matplotlib import pyplot

    rooms = levels()
    by_level: dict[int, list[str]] = {}
    for room, level in rooms.items():
        by_level.setdefault(level, []).append(room)
    top = max(by_level)
    figure, axes = pyplot.subplots(figsize=(9, 0.6 * top + 1))
    places = {}
    for level, names in by_level.items():
        for i, room in enumerate(names):
            places[room] = ((i + 0.5) / len(names) + 0.06 * (-1) ** level, level)
    for own, target in direct_relations():
        (x1, y1), (x2, y2) = places[own], places[target]
        axes.annotate(
            "",
            xy=(x2, y2 + 0.2),
            xytext=(x1, y1 - 0.2),
            arrowprops={
                "arrowstyle": "->",
                "color": "#5b6b7b",
                "connectionstyle": "arc3,rad=0.05",
            },
        )
    for room, (x, y) in places.items():
        ours = room.startswith("emojax")
        axes.text(
            x,
            y,
            room.replace(".", "/"),
            ha="center",
            va="center",
            fontsize=8,
            bbox={"boxstyle": "round", "fc": "#dbe9f6" if ours else "#e6f2dc", "ec": "#5b6b7b"},
        )
    axes.set(xlim=(0, 1), ylim=(0.4, top + 0.6), yticks=sorted(by_level), xticks=[])
    axes.set_ylabel("level")
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(PICTURE)
    print(f"written: {PICTURE.relative_to(ROOT)}", file=sys.stderr)
