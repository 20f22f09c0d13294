"""Imports run one way (docs/architecture.md): a lower layer never knows a higher one."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Lower number = lower layer; a module may import its own number or lower. First match wins.
LAYERS = [
    ("emojax.types", 0),
    ("emojax.__version__", 0),
    ("emojax.cli.progress_bars", 0),
    ("emojax.train.malloc", 0),
    ("emojax.cli.arguments", 0),
    ("emojax.workflows.encode_features", 10),
    ("data_pipeline.embedded", 2),
    ("data_pipeline", 1),
    ("emojax.sharding", 3),
    ("emojax.model.attention", 4),
    ("emojax.model.layers", 4),
    ("emojax.model.emotion", 6),
    ("emojax.model.emotion_v1", 6),
    ("emojax.model.build", 6),
    ("emojax.model", 5),
    ("emojax.weights", 6),
    ("emojax.config", 7),
    ("emojax.bundle.calibration", 8),
    ("emojax.bundle.model_folder", 8),
    ("emojax.train.__main__", 12),
    ("emojax.train", 9),
    ("emojax.infer", 9),
    ("emojax.outputs", 10),
    ("emojax.evaluate.__main__", 12),
    ("emojax.evaluate", 10),
    ("emojax.workflows.jobs", 11),
    ("emojax", 12),
]


def layer(name: str) -> int | None:
    if name == "emojax":  # the package's own file holds its version alone
        return 0
    return next(
        (n for prefix, n in LAYERS if name == prefix or name.startswith(prefix + ".")), None
    )


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    return found


def test_direction_of_imports():
    wrong = []
    for package in ("emojax", "data_pipeline"):
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            own = layer(name)
            for imported in imports(path):
                main = (
                    name == "emojax.workflows.encode_features"
                )  # may use the model; nothing else of data_pipeline imports it
                if (
                    package == "data_pipeline"
                    and not main
                    and imported == "emojax.workflows.encode_features"
                ):
                    wrong.append(f"{name} imports {imported}: it is a main")
                if (
                    package == "data_pipeline"
                    and not main
                    and imported.split(".")[0] in ("jax", "flax")
                ):
                    wrong.append(f"{name} imports {imported}: data_pipeline is NumPy alone")
                if (
                    package == "data_pipeline"
                    and not main
                    and imported.startswith("emojax")
                    and not imported.startswith("emojax.types")
                ):
                    wrong.append(f"{name} imports {imported}: only emojax.types is allowed")
                target = layer(imported)
                if (
                    target is not None
                    and own is not None
                    and target > own
                    and not imported.startswith("data_pipeline")
                ):
                    wrong.append(f"{name} (layer {own}) imports {imported} (layer {target})")
                if name.startswith("emojax.model") and imported.startswith(
                    ("ml_collections", "emojax.weights")
                ):
                    wrong.append(f"{name} imports {imported}: models see dataclasses alone")
    assert not wrong, "\n".join(sorted(wrong))


def test_train_and_infer_do_not_know_each_other():
    for one, other in (("train", "infer"), ("infer", "train")):
        for path in (ROOT / "emojax" / one).glob("*.py"):
            if path.name != "__main__.py":
                assert not {i for i in imports(path) if i.startswith(f"emojax.{other}")}, path


def test_files_stay_short():
    for folder in ("emojax", "data_pipeline", "configs", "tests", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 450, path
