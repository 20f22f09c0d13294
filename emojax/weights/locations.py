"""Where fetched files and imported models are kept: folders of the cache."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.io import cache_root
from emojax.bundle.model_folder import MODEL_FILE
from emojax.weights.catalogue import MODELS, SOURCES, describe_source, no_such_model

DEMO_POINTER = "demo_model.txt"  # file in the cache: the folder of the newest `emojax demo` model


def weights_folder(name: str) -> Path:
    """The folder of an imported model."""
    return cache_root() / "weights" / name


def downloads_folder() -> Path:
    """The folder of fetched files, with one folder per source."""
    return cache_root() / "downloads"


def default_model() -> Path | None:
    """The newest model folder among imported weights, `runs/demo` here and the last `emojax demo`.

    Imported weights that are only a start for training are left out.
    """
    root = cache_root()
    folders = [
        Path("runs/demo"),
        *(f for f in (root / "weights").glob("*") if not f.name.endswith("-start")),
    ]
    if (root / DEMO_POINTER).exists():
        folders.append(Path((root / DEMO_POINTER).read_text().strip()))
    complete = [f for f in folders if (f / MODEL_FILE).exists()]
    return max(complete, key=lambda f: (f / MODEL_FILE).stat().st_mtime, default=None)


def check_folder(path: Path) -> None:
    """Checks what is given as a model and is no name of the catalogue.

    Raises:
      FileNotFoundError: there is no such folder; the message lists the models of the catalogue.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no folder '{path}'; {no_such_model(str(path))}")


def find_model(name: str) -> Path:
    """Finds a model folder.

    Args:
      name: path of a model folder, or name of an imported model.

    Returns:
      The folder.

    Raises:
      FileNotFoundError: there is no such folder or model, or the model is not imported; the message
        says what to run.
    """
    path = Path(name).expanduser()
    if (path / MODEL_FILE).exists():
        return path
    if name not in MODELS:
        check_folder(path)
        return path
    folder = weights_folder(name)
    if (folder / MODEL_FILE).exists():
        return folder
    model = MODELS[name]
    needs = [f"  {key}: {describe_source(SOURCES[key])}" for key in model.sources]
    raise FileNotFoundError(
        f"{name} ({model.title}) is not imported yet. Run `emojax fetch {name}`; it needs\n"
        + "\n".join(needs)
        + f"\nfor files that are already on this machine: --file {model.sources[-1]}=PATH"
    )
