"""Where fetched files and imported models are kept: folders of the cache."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.io import cache_root
from emojax.weights.catalogue import MODELS, SOURCES, describe_source


def weights_folder(name: str) -> Path:
    """Where an imported model lies."""
    return cache_root() / "weights" / name


def downloads_folder() -> Path:
    """Where fetched files lie, a folder for each source."""
    return cache_root() / "downloads"


def find_model(name: str) -> Path:
    """A model folder as given, or that of an imported model of this name.

    Raises:
      FileNotFoundError: the name is of a model that is not imported; says what to run.
    """
    path = Path(name).expanduser()
    if (path / "model.json").exists():
        return path
    if name not in MODELS:
        if not path.exists():
            raise FileNotFoundError(
                f"there is no folder '{name}', and no model of this name; models: {', '.join(MODELS)}"
            )
        return path
    folder = weights_folder(name)
    if (folder / "model.json").exists():
        return folder
    model = MODELS[name]
    needs = [f"  {key}: {describe_source(SOURCES[key])}" for key in model.sources]
    raise FileNotFoundError(
        f"{name} ({model.title}) is not imported yet. Run `emojax fetch {name}`; it needs\n"
        + "\n".join(needs)
        + f"\nfiles that are here already: --file {model.sources[-1]}=PATH"
    )
