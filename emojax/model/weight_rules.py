"""Rules that map torch tensors to leaves of our parameter trees, in both directions.

A table is a list of rules and a list of tensor names to ignore, each with its reason. `{i}` in a
name is the index of a layer; our trees hold all layers of a stack in one array with a leading axis.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from emojax.model.positions import resize_positions

Arrays = list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How tensors become leaves and back.

    Attributes:
      load: (tensors, shapes of the leaves) -> leaves.
      save: leaves -> tensors.
    """

    load: Callable[[Arrays, list[tuple[int, ...]]], Arrays]
    save: Callable[[Arrays], Arrays]


def _permute(*axes: int) -> Layout:
    back = np.argsort(axes)
    return Layout(lambda t, _: [t[0].transpose(axes)], lambda x: [x[0].transpose(back)])


def _patch(*frames: int) -> Layout:
    """Convolution [out, 3, (frames,) h, w] with stride = kernel -> matrix [(frames) h w 3, out]."""
    to = (*range(2, 4 + len(frames)), 1, 0)

    def save(x: Arrays) -> Arrays:
        width = x[0].shape[1]
        side = math.isqrt(x[0].shape[0] // math.prod((3, *frames)))
        return [x[0].reshape(*frames, side, side, 3, width).transpose(np.argsort(to))]

    return Layout(lambda t, _: [t[0].transpose(to).reshape(-1, t[0].shape[0])], save)


def _split(layout: Layout, parts: int) -> Layout:
    """One tensor with `parts` leaves concatenated on its first axis (q, k, v)."""

    def load(t: Arrays, shapes: list[tuple[int, ...]]) -> Arrays:
        return [
            layout.load([p], [s])[0] for p, s in zip(np.split(t[0], parts), shapes, strict=True)
        ]

    return Layout(load, lambda x: [np.concatenate([layout.save([p])[0] for p in x])])


def _weight_norm_load(t: Arrays, _: list[tuple[int, ...]]) -> Arrays:
    g, v = (x.astype(np.float64) for x in t)
    weight = g * v / np.sqrt(np.square(v).sum(axis=(0, 1), keepdims=True))
    return [weight.astype(t[1].dtype).transpose(2, 1, 0)]


def _weight_norm_save(x: Arrays) -> Arrays:
    v = x[0].transpose(2, 1, 0)
    return [
        np.sqrt(np.square(v.astype(np.float64)).sum(axis=(0, 1), keepdims=True)).astype(v.dtype),
        v,
    ]


def positions_layout(*, prefix: int = 1, antialias: bool = False, flat: bool = False) -> Layout:
    """Positions of patches, resized to the grid of the encoder by torch's bicubic interpolation.

    Args:
      prefix: as of `resize_positions`.
      antialias: as of `resize_positions`.
      flat: whether the tensor is a table [positions, D] instead of [1, positions, D].

    Returns:
      The layout.
    """

    def load(t: Arrays, shapes: list[tuple[int, ...]]) -> Arrays:
        table = t[0].astype(np.float32).reshape(1, *t[0].shape[-2:])
        grid = round((shapes[0][1] - prefix) ** 0.5)
        return [resize_positions(table, grid, prefix=prefix, antialias=antialias)]

    return Layout(load, lambda x: [x[0][0] if flat else x[0]])


SAME = Layout(lambda t, _: [t[0]], lambda x: [x[0]])
LINEAR = _permute(1, 0)  # [out, in] -> [in, out]
CONV1D = _permute(2, 1, 0)  # [out, in, k] -> [k, in, out]
PATCH = _patch()
TUBE = _patch(2)  # VideoMAE: two frames a token
QKV = _split(LINEAR, 3)
QKV_BIAS = _split(SAME, 3)
POSITIONS = positions_layout()
VECTOR = Layout(lambda t, _: [t[0][None, None]], lambda x: [x[0][0, 0]])  # [D] -> [1, 1, D]
# Whisper's positions: a shorter window than the released one uses the first of them.
FIRST_ROWS = Layout(lambda t, shapes: [t[0][: shapes[0][0]]], lambda x: [x[0]])
# (g, v) of torch's weight norm over the kernel's last axis.
WEIGHT_NORM = Layout(_weight_norm_load, _weight_norm_save)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """Tensors that make leaves.

    Attributes:
      names: torch names.
      paths: paths of the leaves.
      layout: how the tensors become the leaves.
      others: other spellings of `names`.
      optional: whether the tensors may be absent; the leaves then keep their initialisation.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    layout: Layout
    others: tuple[tuple[str, ...], ...] = ()
    optional: bool = False

    def under(self, prefix: str, tree: str) -> Rule:
        """The rule for a part of a larger model: prefixes the names and, with `tree`, the paths."""
        return dataclasses.replace(
            self,
            names=tuple(prefix + n for n in self.names),
            paths=tuple(tree + p for p in self.paths),
            others=tuple(tuple(prefix + n for n in other) for other in self.others),
        )


@dataclasses.dataclass(frozen=True)
class Table:
    """The tensors of a source.

    Attributes:
      name: for messages.
      rules: the rules.
      ignored: (regular expression on the whole name, why the tensor is not needed).
    """

    name: str
    rules: tuple[Rule, ...]
    ignored: tuple[tuple[str, str], ...] = ()

    def under(self, prefix: str, tree: str) -> Table:
        """The table for a part of a larger model; see `Rule.under`."""
        ignored = tuple((re.escape(prefix) + pattern, why) for pattern, why in self.ignored)
        return Table(self.name, tuple(r.under(prefix, tree) for r in self.rules), ignored)


def rule(name: str, path: str, layout: Layout = SAME, *others: str) -> Rule:
    """A rule of one tensor and one leaf.

    Args:
      name: torch name.
      path: path of the leaf.
      layout: how the tensor becomes the leaf.
      *others: other spellings of `name`.

    Returns:
      The rule.
    """
    return Rule(names=(name,), paths=(path,), layout=layout, others=tuple((o,) for o in others))


def linear(name: str, path: str, *, bias: bool = True) -> list[Rule]:
    """Rules of a torch.nn.Linear."""
    return [rule(f"{name}.weight", f"{path}/kernel", LINEAR)] + [
        rule(f"{name}.bias", f"{path}/bias")
    ] * bias


def conv1d(name: str, path: str, *, bias: bool = True) -> list[Rule]:
    """Rules of a torch.nn.Conv1d."""
    return [rule(f"{name}.weight", f"{path}/kernel", CONV1D)] + [
        rule(f"{name}.bias", f"{path}/bias")
    ] * bias


def norm(name: str, path: str, *, bias: bool = True) -> list[Rule]:
    """Rules of a torch.nn.LayerNorm, or of an RMSNorm, which has no bias."""
    return [rule(f"{name}.weight", f"{path}/scale")] + [rule(f"{name}.bias", f"{path}/bias")] * bias


def flatten(parts: Sequence[Rule | list[Rule]]) -> tuple[Rule, ...]:
    """Rules and lists of rules -> one tuple."""
    return tuple(r for part in parts for r in (part if isinstance(part, list) else [part]))
