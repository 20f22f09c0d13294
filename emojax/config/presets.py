"""Presets: configurations by name, from the files of the folder `configs/`.

They are loaded by path, because another folder named `configs` may come first on the import path.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from emojax.config.declaration import config_names, to_config_dict, unknown_field
from emojax.config.fields import StageFields
from emojax.config.renamed_fields import current_arguments, current_name

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = (
    "tiny, tiny:people, tiny:v1, tiny:test, tiny:test_v1, tiny:released, tiny:released_v1, "
    "v1, v1:pretrain, v1:tune, v1:labels, v1:mer2023_semi, v2, v2:stage1, v2:stage2, v2:joint; "
    "those of v1 and v2 with _pod for many devices"
)


@functools.cache
def preset_module(name: str) -> ModuleType:
    """The module of `configs/NAME.py`.

    Raises:
      FileNotFoundError: there is no such file.
    """
    return _load(CONFIGS / f"{name}.py")


def load_config(preset: str) -> ConfigDict:
    """A configuration of `configs/` by name: `tiny`, `tiny:people`, `configs/v2.py:stage1`.

    Raises:
      ValueError: there is no such preset.
    """
    name, _, variant = preset.partition(":")
    name = name.removeprefix("configs/").removesuffix(".py")  # as --config takes them
    unknown = ValueError(f"there is no preset '{preset}'; there are {PRESETS}")
    if not (CONFIGS / f"{name}.py").is_file():
        raise unknown
    module = preset_module(name)
    get_config = getattr(module, "get_config", None)
    if get_config is None or (variant and not inspect.signature(get_config).parameters):
        raise unknown
    return _get_config(module, variant)


def check_arguments(argv: Sequence[str]) -> None:
    """Checks the names in `--config.NAME=VALUE` against the configuration of `--config=FILE`.

    Raises:
      ValueError: there is no such field.
      OSError: there is no such file.
    """
    path, _, variant = _option(argv, "--config").partition(":")
    known = [f"config.{name}" for name in config_names(_get_config(_load(Path(path)), variant))]
    for argument in current_arguments(argv):
        if match := re.match(r"--?(?:no)?(config\.[\w.]+)", argument):
            if match[1] not in known:
                raise unknown_field(match[1], known)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"configs.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _get_config(module: ModuleType, variant: str) -> ConfigDict:
    return module.get_config(variant) if variant else module.get_config()


def _option(argv: Sequence[str], name: str) -> str:
    """The value of `--name=VALUE` or `--name VALUE`."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if argument == name:
            return following
        if argument.startswith(f"{name}="):
            return argument.removeprefix(f"{name}=")
    return ""


def known_name(config: ConfigDict, name: str) -> str:
    """The current name of a field such as `optim.lr`.

    Raises:
      ValueError: there is no such field.
    """
    known, current = list(config_names(config)), current_name(name)
    if current not in known:
        raise unknown_field(f"config.{current}", [f"config.{n}" for n in known])
    return current


def change_fields(config: ConfigDict, changes: Mapping[str, Any]) -> None:
    """Sets fields of a configuration by dotted names, such as `optim.lr`.

    Raises:
      ValueError: there is no such field, or it has another type.
    """
    for name, value in changes.items():
        current = known_name(config, name)
        try:
            config.update_from_flattened_dict({current: value})
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"config.{current}: {str(error).strip() or repr(value)}") from error


def stage(style: str, tasks: tuple[str, ...], max_words: int) -> ConfigDict:
    """A stage of the curriculum with the defaults of `StageFields`."""
    fields: dict[str, Any] = {"style": style, "tasks": tasks, "max_words": max_words}
    return to_config_dict(StageFields(**fields))


def split_variant(variant: str) -> tuple[str, bool]:
    """`stage1_pod` -> (`stage1`, True)."""
    name = variant.removesuffix("pod").removesuffix("_")
    return (name, True) if variant.endswith("pod") else (variant, False)


def to_pod(c: ConfigDict) -> None:
    """Changes a configuration for many devices (docs/scaling.md).

    Weights and optimizer state are split over up to 16 devices; the batch size is 4 per device.
    """
    c.train.mesh = (0, 0, 0)
    c.train.rows_per_device = 4
