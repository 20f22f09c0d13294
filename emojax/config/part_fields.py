"""Sizes of named parts: what `config.model.STREAM.part` sets.

A part is a release of the registry (emojax/model/parts.py), a model of the Hugging Face hub that
was fetched (hf:OWNER/NAME), or a folder with the config.json of transformers or a GGUF file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.io import cache_root
from emojax.formats.part_config import part_config
from emojax.model.part import Family, Kind, Release
from emojax.model.parts import family_of_config, read_fields, release_named

HUB = "hf:"
_HUB_NAME = re.compile(rf"{HUB}\w[\w.-]*/\w[\w.-]*(/\w[\w.+-]*\.gguf)?", re.ASCII)
# Section of config.model -> what its part must be.
STREAM_KINDS: dict[str, Kind] = {
    "image": "picture",
    "video": "picture",
    "audio": "sound",
    "llama": "language",
}


def part_folder(part: str) -> Path:
    """Where the files of a part are, or would be: a folder of the user, or one of the cache.

    Args:
      part: as of `config.model.STREAM.part`.

    Raises:
      ValueError: it begins with hf: and goes on with what no repository is called.
    """
    if is_folder(part):
        return Path(part).expanduser()
    known = known_release(part)
    if known is None and part.startswith(HUB) and (".." in part or not _HUB_NAME.fullmatch(part)):
        raise ValueError(
            f"'{part}' names no repository: expected {HUB}OWNER/NAME or {HUB}OWNER/NAME/FILE.gguf, "
            "of letters, digits, -, _ and ."
        )
    name = known[1].name if known else part.removeprefix(HUB).replace("/", "--")
    return cache_root() / "downloads" / name


def known_release(part: str) -> tuple[Family, Release] | None:
    """The release of the registry that a name or hf:OWNER/NAME means, with its family."""
    try:
        return release_named(part.removeprefix(HUB))
    except ValueError:
        return None


def is_folder(part: str) -> bool:
    """Whether a part is named by its folder."""
    return not part.startswith(HUB) and (part.startswith(("/", ".", "~")) or Path(part).is_dir())


def read_part(part: str, kind: Kind) -> tuple[Family, dict[str, Any]]:
    """The family of a part and the fields that it sets.

    Args:
      part: as of `config.model.STREAM.part`.
      kind: what it must be.

    Raises:
      ValueError: there is no such part, it is of another kind, it has an option that is not
        supported, or its files are not here.
    """
    known = None if is_folder(part) else known_release(part)
    if known is None and (part.startswith(HUB) or is_folder(part)):
        given = _read_configs(part, kind)
        family = family_of_config(given, kind=kind)
        fields = read_fields(family, given, part)
    else:
        family, release = known or release_named(part)
        fields = dict(release.fields)
    if family.kind != kind:
        raise ValueError(f"{part} is a part for {family.kind}, but one for {kind} is needed here")
    return family, fields | {"family": family.name}


def _read_configs(part: str, kind: Kind) -> dict[str, Any]:
    """What the files of a part say of its sizes, as a config.json.

    Raises:
      ValueError: no file has them, or one is damaged.
    """
    folder = part_folder(part)
    if folder.is_file():
        raise ValueError(f"{part} is a file: name its folder, {folder.parent}")
    try:
        return part_config(folder)
    except OSError as error:
        advice = f": run `emojax fetch {part} --as {kind}`" if part.startswith(HUB) else ""
        raise ValueError(f"{part} has no config.json here ({folder}){advice}") from error


def set_part(config: ConfigDict, stream: str) -> None:
    """Sets the sizes of a stream whose field `part` was just set; "" changes nothing.

    Args:
      config: changed in place.
      stream: section of config.model.

    Raises:
      ValueError: as `read_part`.
    """
    section = config.model[stream]
    if not section.part:
        return
    _, fields = read_part(section.part, STREAM_KINDS[stream])
    defaults = {name: value for name, value in _SIZES.items() if name in section}
    section.update(defaults | fields)


# Fields that a part without them sets to these values, whatever the configuration had before.
_SIZES: Mapping[str, Any] = {
    "kv_heads": 0,
    "head_width": 0,
    "eps": 1e-5,
    "theta": 10_000.0,
    "rope_scaling": "none",
    "rope_factor": 1.0,
    "tied": False,
    "qkv_bias": False,
    "qk_norm": False,
    "window": 0,
    "activation": "",
    "mean": (),
    "std": (),
}


def check_parts(model: Mapping[str, Any]) -> None:
    """Checks that named parts have the sizes of the configuration.

    Args:
      model: the values of config.model.

    Raises:
      ValueError: a size differs; the message has both numbers.
    """
    for stream, kind in STREAM_KINDS.items():
        section = model.get(stream, {})
        if not section.get("part"):
            continue
        for name, value in read_part(section["part"], kind)[1].items():
            given = section.get(name, value)
            if name in _FREE or _same(given, value):
                continue
            raise ValueError(
                f"config.model.{stream}.{name} is {given}, but {section['part']} has {value}"
            )


# What may differ from a release: shorter windows, pictures of other sizes, no last norm.
_FREE = {"seconds", "size", "mean", "std", "final_norm", "dropout", "layer_weights"}


def _same(a: Any, b: Any) -> bool:
    as_tuple = (tuple(x) if isinstance(x, list | tuple) else x for x in (a, b))
    first, second = as_tuple
    return bool(first == second)
