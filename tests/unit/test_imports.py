"""Imports go down the levels that docs/architecture.md lists, and never in a circle."""

from collections import Counter

import import_graph as graph

FOREIGN = {  # packages that a room may not import
    "data_pipeline": ("jax", "flax", "optax", "emojax"),
    "emojax.model": ("ml_collections",),
    "emojax.evaluate": ("rich", "matplotlib", "jinja2"),
}


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


def test_no_circle():
    found = graph.imports()
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(found[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in found:
        visit(module, ())


def test_no_circle_of_rooms():
    rooms = graph.levels()
    level = [(a, b) for a, b in graph.relations() if rooms[a] == rooms[b]]
    assert not [(a, b) for a, b in level if (b, a) in level]


def test_nothing_imports_the_command_line():
    wrong = [m for m, found in graph.imports().items() if not m.startswith("emojax.cli")
             for o in found if o.startswith("emojax.cli")]  # fmt: skip
    assert not wrong, wrong


def test_packages_that_a_room_does_without():
    wrong = []
    for module, path in graph.modules().items():
        for room, packages in FOREIGN.items():
            if module == room or module.startswith(room + "."):
                names = {n.partition(".")[0] for n in graph.imported_names(path)}
                wrong += [f"{module} imports {n}" for n in sorted(names & set(packages))]
    assert not wrong, "\n".join(wrong)


def test_few_loose_modules_and_no_two_of_one_name():
    paths = [p for p in graph.modules().values() if p.relative_to(graph.ROOT).parts[0] != "configs"]
    assert len([p for p in paths if p.parent.name == "emojax"]) <= 6
    assert len([p for p in paths if p.parent.name == "data_pipeline"]) <= 4
    twice = [n for n, k in Counter(p.stem for p in paths).items() if k > 1 and n != "__init__"]
    assert not twice, twice
