"""Presets: configurations by name, from the files of the folder `configs/`.

They are loaded by path, because another folder named `configs` may come first on the import path.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.suggestions import no_such
from emojax.config.declaration import config_names, to_config_dict, unknown_field
from emojax.config.fields import StageFields
from emojax.config.overrides import set_fields
from emojax.config.part_fields import set_part
from emojax.config.renamed_fields import current_name

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = (
    *("tiny", "tiny:people", "tiny:v1", "tiny:test", "tiny:test_v1"),
    *("tiny:released", "tiny:released_v1"),
    *("v1", "v1:pretrain", "v1:tune", "v1:labels", "v1:mer2023_semi"),
    *("v2", "v2:stage1", "v2:stage2", "v2:joint"),
)


@functools.cache
def preset_module(name: str) -> ModuleType:
    """The module of `configs/NAME.py`.

    Raises:
      FileNotFoundError: there is no such file.
    """
    return _load(CONFIGS / f"{name}.py")


def load_config(preset: str, changes: Sequence[str] = ()) -> ConfigDict:
    """A configuration by name, or of a file: `tiny`, `configs/v2.py:stage1`, `my/own.py:variant`.

    Args:
      preset: the name or file, with a variant after a colon.
      changes: words such as `--config.optim.lr=3e-4`.

    Raises:
      ValueError: there is no such preset or file, or a change is not valid.
    """
    _, _, variant = preset.partition(":")
    module = _find(preset)
    get_config = getattr(module, "get_config", None)
    if get_config is None or (variant and not inspect.signature(get_config).parameters):
        raise _unknown_preset(preset)
    config: ConfigDict = get_config(variant) if variant else get_config()
    if changes:
        set_fields(config, changes)
    return config


def unknown_variant(preset: str, variant: str, known: Iterable[str]) -> ValueError:
    """The error of a preset's file for a variant that it does not have."""
    names = (f"{preset}:{name}" for name in known)
    return ValueError(no_such("preset", f"{preset}:{variant}", names))


def _unknown_preset(preset: str) -> ValueError:
    short, kind = _short_name(preset), "preset or file" if ".py" in preset else "preset"
    text = no_such(kind, short, PRESETS).replace(f"'{short}'", f"'{preset}'", 1)
    return ValueError(f"{text}; those of v1 and v2 also with _pod for many devices")


def _short_name(preset: str) -> str:
    """`configs/v2.py:stage1` -> `v2:stage1`."""
    name, colon, variant = preset.partition(":")
    return name.removeprefix("configs/").removesuffix(".py") + colon + variant


def _find(preset: str) -> ModuleType:
    """The module of a preset, or of a file of the user."""
    name = preset.partition(":")[0]
    short = _short_name(name)
    if (CONFIGS / f"{short}.py").is_file():
        return preset_module(short)
    if name.endswith(".py") and Path(name).is_file():
        return _load(Path(name))
    raise _unknown_preset(preset)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"configs.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
            section, _, last = current.rpartition(".")
            if last == "part":
                set_part(config, section.rpartition(".")[2])
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


def with_pods(variants: Iterable[str]) -> list[str]:
    """The variants, and those for many devices; "" is the preset without a variant."""
    names = [name for name in variants if name]
    return [*names, "pod", *(f"{name}_pod" for name in names)]


def to_pod(c: ConfigDict) -> None:
    """Changes a configuration for many devices (docs/scaling.md).

    Weights and optimizer state are split over up to 16 devices; the batch size is 4 per device.
    """
    c.train.mesh = (0, 0, 0)
    c.train.rows_per_device = 4
