"""Imports go down the levels that docs/architecture.md lists, and never in a circle."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping

import import_graph as graph

FOREIGN = {  # packages and modules that a room may not import
    "data_pipeline": ("jax", "flax", "optax", "emojax"),
    "emojax.model": ("ml_collections",),
    "emojax.train": ("emojax.infer",),
    "emojax.infer": ("emojax.train",),
    "emojax.evaluate": ("rich", "matplotlib", "jinja2"),
}
DISTRIBUTIONS = {  # import name -> name in requirements.txt, where they differ
    "PIL": "pillow",
    "absl": "absl-py",
    "orbax": "orbax-checkpoint",
    "sklearn": "scikit-learn",
    "webrtcvad": "webrtcvad-wheels",
}
OPTIONAL = "emojax.serve"  # needs the extra `serve`


def is_below(name: str, package: str) -> bool:
    """Whether a dotted name is a package or something in it."""
    return name == package or name.startswith(package + ".")


def find_circle(targets: Mapping[str, set[str]]) -> str:
    """A circle of a graph as `a -> b -> a`; "" without one."""
    done: set[str] = set()

    def visit(node: str, path: tuple[str, ...]) -> str:
        if node in path:
            return " -> ".join((*path[path.index(node) :], node))
        if node in done:
            return ""
        circles = (visit(other, (*path, node)) for other in sorted(targets.get(node, ())))
        circle = next(filter(None, circles), "")
        done.add(node)
        return circle

    return next(filter(None, (visit(node, ()) for node in targets)), "")


def imports_when_loaded(node: ast.AST) -> Iterator[str]:
    """First parts of the names that a module imports outside functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module.partition(".")[0]
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports_when_loaded(child)


def test_every_module_belongs_to_a_room():
    rooms = graph.levels()
    assert len(rooms) > 20
    assert not [m for m in graph.modules() if graph.room_of(m, rooms) is None and "." in m]
    missing = [
        r for r in rooms if not any(m == r or m.startswith(r + ".") for m in graph.modules())
    ]
    assert not missing, f"docs/architecture.md names rooms that do not exist: {missing}"


def test_imports_go_down():
    rooms = graph.levels()
    wrong = [
        f"{own} (level {rooms[own]}) imports {target} (level {rooms[target]})"
        for own, target in graph.relations()
        if rooms[target] > rooms[own]
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_the_search_finds_circles():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == "b -> c -> b"
    assert find_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == ""


def test_no_circle():
    assert not find_circle(graph.imports())


def test_no_circle_of_rooms():
    targets: dict[str, set[str]] = {}
    for own, target in graph.relations():
        targets.setdefault(own, set()).add(target)
    assert len(targets) > 15 and not find_circle(targets)


def test_nothing_imports_the_command_line():
    wrong = [m for m, found in graph.imports().items() if not m.startswith("emojax.cli")
             for o in found if o.startswith("emojax.cli")]  # fmt: skip
    assert not wrong, wrong


def test_what_a_room_does_without():
    wrong = [
        f"{module} imports {name}"
        for room, packages in FOREIGN.items()
        for module, path in graph.modules().items()
        if is_below(module, room)
        for name in sorted(graph.imported_names(path))
        if any(is_below(name, package) for package in packages)
    ]
    assert not wrong, "\n".join(wrong)


def test_packages_that_are_loaded_are_in_the_requirements():
    """requirements.txt alone is enough to import every module but those of the server."""
    text = (graph.ROOT / "requirements.txt").read_text(encoding="utf-8")
    required = {n.lower().replace("_", "-") for n in re.findall(r"^([\w-]+)==", text, re.M)}
    assert len(required) > 30
    wrong = []
    for module, path in graph.modules().items():
        if not is_below(module, OPTIONAL):
            for name in set(imports_when_loaded(graph.parsed(path))):
                package = DISTRIBUTIONS.get(name, name).lower().replace("_", "-")
                known = name in sys.stdlib_module_names or name in graph.PACKAGES
                if not known and package not in required:
                    wrong.append(f"{module} imports {name}, which requirements.txt does not list")
    assert not wrong, "\n".join(sorted(wrong))


def test_no_relative_imports():
    paths = [p for package in graph.PACKAGES for p in (graph.ROOT / package).rglob("*.py")]
    assert len(paths) > 200
    wrong = [
        f"{path.relative_to(graph.ROOT)}:{node.lineno}"
        for path in paths
        for node in ast.walk(graph.parsed(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not wrong, "\n".join(wrong)


def test_the_packages_themselves_import_nothing_of_ours():
    for package in ("emojax", "data_pipeline"):
        names = graph.imported_names(graph.ROOT / package / "__init__.py")
        assert not [n for n in names if n.partition(".")[0] in graph.PACKAGES], package


def test_few_loose_modules_and_no_two_of_one_name():
    paths = [p for p in graph.modules().values() if p.relative_to(graph.ROOT).parts[0] != "configs"]
    assert len([p for p in paths if p.parent.name == "emojax"]) <= 6
    assert len([p for p in paths if p.parent.name == "data_pipeline"]) <= 5
    twice = [n for n, k in Counter(p.stem for p in paths).items() if k > 1 and n != "__init__"]
    assert not twice, twice
