"""Changes of a configuration by words of a command line: `--config.optim.lr=3e-4`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from emojax.config.declaration import config_names, unknown_field
from emojax.config.part_fields import set_part
from emojax.config.renamed_fields import current_arguments

_WORD = re.compile(
    r"--?(?P<no>no)?config\.(?P<name>[^=\[]+)(?P<item>\[[^=]*\])?(?P<value>=.*)?", re.S
)
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def set_fields(config: ConfigDict, words: Sequence[str]) -> None:
    """Sets fields of a configuration, with the words that ml_collections reads, in any order.

    Args:
      config: changed in place.
      words: `--config.NAME=VALUE`; of a field that is true or false also `--config.NAME` and
        `--noconfig.NAME`. If a field is set twice, the last one counts.

    Raises:
      ValueError: a word has another form, a field does not exist, or a value has another type.
    """
    words = current_arguments(words)
    for word in words:
        _check(config, word)
    argv = ["emojax", *words]
    untyped_flags: Any = flags
    values = untyped_flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    # A part sets sizes, which other words may change: parts come first.
    for word in sorted(words, key=lambda word: _part_stream(word) is None):
        try:
            values(["emojax", word])
        except (flags.Error, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            raise ValueError(_wrong_value(config, word)) from error
        if (stream := _part_stream(word)) is not None:
            set_part(config, stream)


def _part_stream(word: str) -> str | None:
    """The stream of `--config.model.STREAM.part=NAME`; None for other words."""
    match = re.fullmatch(r"--?config\.model\.(\w+)\.part=.*", word)
    return match[1] if match else None


def _check(config: ConfigDict, word: str) -> None:
    """Raises ValueError if a word names no field that can be set."""
    match = _WORD.fullmatch(word)
    if match is None:
        raise ValueError(f"not understood: {word} (fields are set as --config.train.batch=16)")
    name = match["name"]
    if name not in config_names(config):
        raise unknown_field(f"config.{name}", _used_names(config))
    value = _value(config, name)
    if match["item"]:
        raise ValueError(f"{word}: give the whole value of config.{name}, which is {value}")
    if isinstance(value, ConfigDict) and not match["value"]:
        raise ValueError(
            f"config.{name} is a section: set one of its fields, such as "
            f"--config.{name}.{next(iter(value), 'NAME')}=..."
        )
    if not match["value"] and not isinstance(value, bool):
        raise ValueError(f"config.{name} has no value: give --config.{name}={value}")


def _wrong_value(config: ConfigDict, word: str) -> str:
    match = _WORD.fullmatch(word)
    name, text = (match["name"], (match["value"] or "=")[1:]) if match else ("", word)
    now = _value(config, name)
    *owner, field = name.split(".")
    kind = _value(config, ".".join(owner)).get_type(field) if owner else config.get_type(field)
    if isinstance(now, ConfigDict):
        return f"config.{name} is a section: set its fields one by one, --config.{name}.FIELD=..."
    example = "" if now is None else f", such as {now}"
    return f"config.{name} is '{text}'; it must be {_KINDS.get(kind, 'a list')}{example}"


def _value(config: ConfigDict, name: str) -> Any:
    value: Any = config
    for part in filter(None, name.split(".")):
        value = value[part]
    return value


def _used_names(config: ConfigDict) -> Iterator[str]:
    """The fields to suggest: those of stages that are not run are left out."""
    used = set(config.get("stages", ()))
    for name in config_names(config):
        section, *rest = name.split(".")
        if section != "stage" or not rest or rest[0] in used:
            yield f"config.{name}"
