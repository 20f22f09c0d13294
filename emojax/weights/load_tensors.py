"""Loads the tensors of a source into the leaves of our parameter trees, and saves them back.

Every tensor is mapped or ignored by name; otherwise loading fails and says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emojax.model.quantize import SCALE, quantize_kernel
from emojax.model.weight_rules import Rule, Table
from emojax.weights.tensor_files import Reader

Flat = dict[str, np.ndarray]
Plan = list[tuple[int | None, list[str]]]  # (layer or None, names of its tensors)
SHOWN = 8  # names per kind in a message


class WeightsError(ValueError):
    """A file does not fit the model; the message lists the differences."""


class Faults(NamedTuple):
    """Why a file does not fit.

    Attributes:
      missing: names of tensors that the table needs.
      extra: names of tensors that the table does not have.
      wrong: sentences about wrong shapes and unknown leaves.
    """

    missing: list[str]
    extra: list[str]
    wrong: list[str]


def stream_tensors(
    table: Table, tensors: Mapping[str, Reader], leaves: Mapping[str, Any], *, dtype: Any = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Makes the leaves of a table one rule at a time, so the caller can put each away at once.

    Kernels with a scale leaf are quantized to int8, layer by layer.

    Args:
      table: the tensors of the source.
      tensors: {torch name: reader}.
      leaves: {path: anything with shape and dtype}, at least the leaves of the table.
      dtype: of the result; that of the leaf by default.

    Yields:
      (path, array). Only the leaves of one rule and one tensor are in memory at a time.

    Raises:
      WeightsError: before the first leaf when names do not fit, after the last when shapes do not;
        lists what is missing, unexpected or of the wrong shape, with the likely cause.
    """
    plans, faults = _plan(table, tensors, leaves)
    if faults.missing or faults.extra:
        raise WeightsError(_message(table, faults, len(tensors)))
    for rule, plan in plans:
        paths = [q for p in rule.paths for q in (p, p + SCALE) if q in leaves]
        out = {p: np.empty(leaves[p].shape, dtype or leaves[p].dtype) for p in paths}
        for layer, names in plan:
            shapes = [tuple(leaves[p].shape[layer is not None :]) for p in rule.paths]
            arrays = [tensors[n]() for n in names]
            for n, x in zip(names, arrays, strict=True):
                if not np.isfinite(x).all():
                    raise WeightsError(
                        f"{n} has values that are not finite: the {table.name} is damaged"
                    )
            try:
                made = rule.layout.load(arrays, shapes)
            except (ValueError, IndexError):
                made = []
            if [m.shape for m in made] != shapes:
                faults.wrong.append(_shape_note(names, arrays, shapes))
                continue
            for path, value in zip(rule.paths, made, strict=True):
                at = layer if layer is not None else ...
                if path + SCALE in out:
                    out[path][at], out[path + SCALE][at] = quantize_kernel(value)
                else:
                    out[path][at] = value
        yield from out.items()
    if faults.wrong:
        raise WeightsError(_message(table, faults, len(tensors)))


def _plan(
    table: Table, tensors: Mapping[str, Reader], leaves: Mapping[str, Any]
) -> tuple[list[tuple[Rule, Plan]], Faults]:
    """Assigns the tensors of a file to the rules of a table."""
    missing, wrong, used = [], [], set()
    plans: list[tuple[Rule, Plan]] = []
    for rule in table.rules:
        if unknown := [p for p in rule.paths if p not in leaves]:
            wrong.append(
                f"the model has no leaf {unknown[0]} for {rule.names[0]}: "
                "it was built with other settings"
            )
            used |= {
                n for _, names in _spelled(rule, tensors, _count(rule, tensors)) for n in names
            }
            continue
        layers = leaves[rule.paths[0]].shape[0] if "{i}" in rule.names[0] else 0
        plan = list(_spelled(rule, tensors, layers))
        names = {n for _, names in plan for n in names}
        if rule.optional and names.isdisjoint(tensors):
            continue
        used |= names
        missing += sorted(names - set(tensors))
        plans.append((rule, plan))
    extra = [
        n
        for n in tensors
        if n not in used and not any(re.fullmatch(p, n) for p, _ in table.ignored)
    ]
    return plans, Faults(missing, extra, wrong)


def load_tensors(
    table: Table, tensors: Mapping[str, Reader], leaves: Mapping[str, Any], *, dtype: Any = None
) -> Flat:
    """Makes all leaves of a table at once.

    Args:
      table: as of `stream_tensors`.
      tensors: as of `stream_tensors`.
      leaves: as of `stream_tensors`.
      dtype: as of `stream_tensors`.

    Returns:
      {path: array}.

    Raises:
      WeightsError: as `stream_tensors`.
    """
    return dict(stream_tensors(table, tensors, leaves, dtype=dtype))


def choose_table(tables: Sequence[Table], tensors: Mapping[str, Reader]) -> Table:
    """Picks the spelling of a source whose names the file uses most."""

    def matches(table: Table) -> int:
        patterns = [
            re.escape(n).replace(r"\{i\}", r"\d+")
            for r in table.rules
            for n in sum(r.others, r.names)
        ]
        spelled = re.compile("|".join(patterns))
        return sum(spelled.fullmatch(name) is not None for name in tensors)

    return max(tables, key=matches)


def save_tensors(table: Table, leaves: Mapping[str, np.ndarray]) -> Flat:
    """The inverse of `load_tensors`: leaves -> tensors with the source's names and layouts."""
    out: Flat = {}
    for rule in table.rules:
        if "{i}" not in rule.names[0]:
            out.update(
                zip(
                    rule.names,
                    rule.layout.save([np.asarray(leaves[p]) for p in rule.paths]),
                    strict=True,
                )
            )
            continue
        stacks = [np.asarray(leaves[p]) for p in rule.paths]
        for layer in range(len(stacks[0])):
            names = [n.replace("{i}", str(layer)) for n in rule.names]
            out.update(zip(names, rule.layout.save([s[layer] for s in stacks]), strict=True))
    return {name: np.ascontiguousarray(value) for name, value in out.items()}


def _spelled(
    rule: Rule, tensors: Mapping[str, Reader], layers: int
) -> Iterator[tuple[int | None, list[str]]]:
    """(layer or None, names) in the spelling that the file uses; the first one if it uses none."""
    for layer in range(layers) if "{i}" in rule.names[0] else [None]:
        spellings = [
            [n.replace("{i}", str(layer)) for n in names] for names in (rule.names, *rule.others)
        ]
        yield layer, next((s for s in spellings if any(n in tensors for n in s)), spellings[0])


def _count(rule: Rule, tensors: Mapping[str, Reader]) -> int:
    count = 0
    while rule.names[0].replace("{i}", str(count)) in tensors and "{i}" in rule.names[0]:
        count += 1
    return count


def _shape_note(names: list[str], arrays: list[np.ndarray], shapes: list[tuple[int, ...]]) -> str:
    given = ", ".join(f"{n} {list(t.shape)}" for n, t in zip(names, arrays, strict=True))
    transposed = len(arrays) == 1 and arrays[0].ndim == 2 and arrays[0].shape == shapes[0]
    hint = " (transposed?)" if transposed and arrays[0].shape[0] != arrays[0].shape[1] else ""
    return f"{given} does not make {', '.join(str(list(s)) for s in shapes)}{hint}"


def _message(table: Table, faults: Faults, count: int) -> str:
    lines = [f"this is not a complete {table.name} ({count} tensors)"]
    for title, entries in (
        ("missing", faults.missing),
        ("unexpected", faults.extra),
        ("of the wrong shape", faults.wrong),
    ):
        if entries:
            more = f", and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
            lines.append(f"{len(entries)} {title}: " + "; ".join(entries[:SHOWN]) + more)
    lines.append(f"likely cause: {_cause(*faults)}")
    return "\n".join(lines)


def _cause(missing: list[str], extra: list[str], wrong: list[str]) -> str:
    ends = {m.rsplit(".", 1)[0].rsplit(".", 1)[-1] for m in missing}
    for name in extra:
        for lost in missing:
            if name.endswith(f".{lost}") or lost.endswith(f".{name}"):
                return (
                    f"names with another prefix ('{name}' for '{lost}'): "
                    "one file is of the module, the other of the whole model?"
                )
    if missing and extra and len(missing) == len(extra):
        return f"renamed tensors, such as '{extra[0]}' for '{missing[0]}'"
    if wrong and not missing and not extra:
        return "a model of another size, or transposed tensors"
    if missing and not extra:
        return (
            "the file is incomplete, or of a smaller model "
            f"(all missing names end in {sorted(ends)[:4]})"
        )
    if extra and not missing:
        return "the file is of a larger model or of another one"
    return "the file is of another model, or of another version of it"
