"""Reads and writes trees of dataclasses that declare the fields of a configuration.

A field's annotation says what it accepts: a `Literal` or `OneOf` lists the allowed words, `AtLeast`
gives a lower bound. The same tree becomes a ConfigDict (`to_config_dict`) and is built from one
(`build`), which refuses unknown fields with the nearest known name.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from ml_collections import ConfigDict, config_dict

from data_pipeline.suggestions import did_you_mean, similarity

T = TypeVar("T")


class OneOf:
    """Marks a field whose allowed words are only known at run time."""

    def __init__(self, *words: str) -> None:
        self.words = words


class AtLeast:
    """Marks a number with a lower bound."""

    def __init__(self, minimum: float) -> None:
        self.minimum = minimum


def to_config_dict(tree: Any) -> ConfigDict:
    """A dataclass tree as a ConfigDict; a None becomes a placeholder of the annotated type."""
    kind: Any = type(tree)
    hints = _hints(kind)
    return ConfigDict({name: _value(getattr(tree, name), hint) for name, hint in hints.items()})


def build(cls: Callable[..., T], values: Mapping[str, Any], *, at: str = "config") -> T:
    """Builds a declared dataclass from nested dicts and checks every field.

    Args:
      cls: the dataclass.
      values: a value for each of its fields; lists become tuples.
      at: dotted name of `values`, for messages.

    Returns:
      The dataclass.

    Raises:
      ValueError: a field is unknown or missing, or its value is not allowed or not finite.
    """
    hints = _hints(cls)
    if unknown := sorted(set(values) - set(hints)):
        raise unknown_field(f"{at}.{unknown[0]}", [f"{at}.{name}" for name in field_names(cls)])
    if missing := sorted(set(hints) - set(values)):
        raise ValueError(f"{at}.{missing[0]} is missing")
    return cls(**{name: _read(hints[name], values[name], f"{at}.{name}") for name in hints})


def field_names(cls: Any) -> Iterator[str]:
    """Dotted names of a declared dataclass's fields and of all fields below them."""
    for name, hint in _hints(cls).items():
        yield name
        if dataclasses.is_dataclass(hint):
            yield from (f"{name}.{below}" for below in field_names(hint))


def config_names(config: ConfigDict) -> Iterator[str]:
    """Dotted names of a ConfigDict's fields and of all fields below them."""
    for name, value in config.items():
        yield str(name)
        if isinstance(value, ConfigDict):
            yield from (f"{name}.{below}" for below in config_names(value))


# What other projects call a field -> its name here.
_OTHER_NAMES = {
    "learning_rate": "optim.lr",
    "min_learning_rate": "optim.min_lr",
    "beta1": "optim.b1",
    "beta2": "optim.b2",
    "epsilon": "optim.eps",
    "warmup_steps": "optim.warmup",
    "wd": "optim.weight_decay",
    "grad_clip": "optim.clip",
    "max_grad_norm": "optim.clip",
    "batch_size": "train.batch",
    "per_device_batch_size": "train.rows_per_device",
    "gradient_accumulation_steps": "train.accumulate",
    "num_workers": "data.workers",
    "eval_every": "train.validate_every",
    "checkpoint_every": "train.save_every",
    "tokenizer_file": "train.tokenizer_path",
    "random_seed": "seed",
}


def unknown_field(name: str, known: Iterable[str]) -> ValueError:
    """The error for a field that does not exist, with the nearest names that do.

    A name is near if its last part is: fields are looked for in all sections.

    Args:
      name: dotted name, beginning with `config.`.
      known: the names that exist.
    """
    targets = {name: name for name in known}
    others = {f"config.{old}": f"config.{new}" for old, new in _OTHER_NAMES.items()}
    targets |= {old: new for old, new in others.items() if new in targets}
    last = name.rpartition(".")[2]
    scores = {n: (similarity(last, n.rpartition(".")[2]), similarity(name, n)) for n in targets}
    best = max(scores.values(), default=(0.0, 0.0))
    near = [n for n, (part, whole) in scores.items() if part == best[0] and best[1] - whole < 0.1]
    shown = dict.fromkeys(targets[n] for n in near)
    hint = f"; did you mean {' or '.join(shown)}?" if sum(best) >= 1.2 and len(shown) < 4 else ""
    return ValueError(f"there is no field {name}{hint}")


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _optional(hint: Any) -> Any | None:
    """The type X of `X | None`; None for every other annotation."""
    if get_origin(hint) not in (Union, types.UnionType):
        return None
    return next(h for h in get_args(hint) if h is not type(None))


def _value(value: Any, hint: Any) -> Any:
    """A field's value as it is in a ConfigDict."""
    if dataclasses.is_dataclass(value):
        return to_config_dict(value)
    if isinstance(value, dict):
        below = get_args(hint)[1]
        return ConfigDict({name: _value(x, below) for name, x in value.items()})
    return config_dict.placeholder(_optional(hint)) if value is None else value


def _read(hint: Any, value: Any, at: str) -> Any:
    """A field's value as it is in the dataclass tree."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{at} is {value}; it must be a finite number")
    if get_origin(hint) is Annotated:
        hint, *marks = get_args(hint)
        for mark in marks:
            if isinstance(mark, OneOf):
                _check_word(value, mark.words, at)
            elif value < mark.minimum:
                raise ValueError(f"{at} is {value}; it must be at least {mark.minimum:g}")
    if get_origin(hint) is Literal:
        _check_word(value, get_args(hint), at)
    if get_origin(hint) is dict:
        below = get_args(hint)[1]
        return {name: _read(below, x, f"{at}.{name}") for name, x in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, at=at)
    return _tuples(value)


def _check_word(value: Any, words: tuple[str, ...], at: str) -> None:
    if value not in words:
        hint = did_you_mean(str(value), words)
        raise ValueError(f"{at} is '{value}'; it must be one of {', '.join(words)}{hint}")


def _tuples(value: Any) -> Any:
    """The value with every list in it as a tuple."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
