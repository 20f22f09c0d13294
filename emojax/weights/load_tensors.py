"""Tensors of a source -> leaves of our trees: every tensor mapped, ignored by name, or the load fails and says why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from emojax.model.quantize import SCALE, quantize_kernel
from emojax.weights.rules import Rule, Table
from emojax.weights.tensor_files import Reader

Flat = dict[str, np.ndarray]
SHOWN = 8  # names of a kind in a message


class WeightsError(ValueError):
    """The file and the model do not fit each other; the message lists how."""


def stream_tensors(
    table: Table, tensors: Mapping[str, Reader], leaves: Mapping[str, Any], *, dtype: Any = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Fills the leaves that a table names, one rule after another, so that the caller may put each away at once.

    Args:
      table: what the source holds.
      tensors: {torch name: reader}.
      leaves: {path: anything with shape and dtype}, of the part of our tree that the table fills or of more.
      dtype: of the result; that of the leaf by default. Kernels with a scale beside them are made int8, layer by layer.

    Yields:
      (path, array); the leaves of one rule and one tensor are held at a time.

    Raises:
      WeightsError: before the first leaf when names do not fit, after the last when shapes do not; lists what is
        missing, unexpected or of the wrong shape, with the likely cause.
    """
    missing, wrong, used = [], [], set()
    plans: list[tuple[Rule, list[tuple[int | None, list[str]]]]] = []
    for rule in table.rules:
        if unknown := [p for p in rule.paths if p not in leaves]:
            wrong.append(
                f"the model has no leaf {unknown[0]} for {rule.names[0]}: it was built with other settings"
            )
            used |= {
                n for _, names in _spelled(rule, tensors, _count(rule, tensors)) for n in names
            }
            continue
        plan = list(
            _spelled(rule, tensors, leaves[rule.paths[0]].shape[0] if "{i}" in rule.names[0] else 0)
        )
        wanted = {n for _, names in plan for n in names}
        if rule.optional and wanted.isdisjoint(tensors):
            continue
        used |= wanted
        missing += sorted(wanted - set(tensors))
        plans.append((rule, plan))
    extra = [
        n
        for n in tensors
        if n not in used and not any(re.fullmatch(p, n) for p, _ in table.ignored)
    ]
    if missing or extra:
        raise WeightsError(_message(table, missing, extra, wrong, len(tensors)))
    for rule, plan in plans:
        made_paths = [q for p in rule.paths for q in (p, p + SCALE) if q in leaves]
        out = {p: np.empty(leaves[p].shape, dtype or leaves[p].dtype) for p in made_paths}
        for layer, names in plan:
            shapes = [tuple(leaves[p].shape[layer is not None :]) for p in rule.paths]
            read = [tensors[n]() for n in names]
            if broken := [n for n, x in zip(names, read, strict=True) if not np.isfinite(x).all()]:
                raise WeightsError(
                    f"{broken[0]} holds values that are not finite: the {table.name} is damaged"
                )
            try:
                made = rule.layout.load(read, shapes)
            except (ValueError, IndexError):
                made = []
            if [m.shape for m in made] != shapes:
                wrong.append(_shape_note(names, read, shapes))
                continue
            for path, value in zip(rule.paths, made, strict=True):
                at = layer if layer is not None else ...
                if path + SCALE in out:
                    out[path][at], out[path + SCALE][at] = quantize_kernel(value)
                else:
                    out[path][at] = value
        yield from out.items()
    if wrong:
        raise WeightsError(_message(table, missing, extra, wrong, len(tensors)))


def load_tensors(
    table: Table, tensors: Mapping[str, Reader], leaves: Mapping[str, Any], *, dtype: Any = None
) -> Flat:
    """{path: array} of all leaves of the table's rules; see `stream_tensors`."""
    return dict(stream_tensors(table, tensors, leaves, dtype=dtype))


def choose_table(tables: Sequence[Table], tensors: Mapping[str, Reader]) -> Table:
    """Of several spellings of one source, the one whose names the file uses most."""

    def known(table: Table) -> int:
        patterns = [
            re.escape(n).replace(r"\{i\}", r"\d+")
            for r in table.rules
            for n in sum(r.others, r.names)
        ]
        spelled = re.compile("|".join(patterns))
        return sum(spelled.fullmatch(name) is not None for name in tensors)

    return max(tables, key=known)


def save_tensors(table: Table, leaves: Mapping[str, np.ndarray]) -> Flat:
    """The inverse of `load_tensors`: leaves -> tensors in the source's names and layouts."""
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
    """(layer or None, names) in the spelling that the file uses, the first one where it uses none."""
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


def _shape_note(names: list[str], read: list[np.ndarray], shapes: list[tuple[int, ...]]) -> str:
    found = ", ".join(f"{n} {list(t.shape)}" for n, t in zip(names, read, strict=True))
    turned = len(read) == 1 and read[0].ndim == 2 and read[0].shape == shapes[0]
    hint = " (transposed?)" if turned and read[0].shape[0] != read[0].shape[1] else ""
    return f"{found} does not make {', '.join(str(list(s)) for s in shapes)}{hint}"


def _message(
    table: Table, missing: list[str], extra: list[str], wrong: list[str], count: int
) -> str:
    lines = [f"this is not a complete {table.name} ({count} tensors)"]
    for title, entries in (
        ("missing", missing),
        ("unexpected", extra),
        ("of the wrong shape", wrong),
    ):
        if entries:
            rest = f", and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
            lines.append(f"{len(entries)} {title}: " + "; ".join(entries[:SHOWN]) + rest)
    lines.append(f"likely cause: {_cause(missing, extra, wrong)}")
    return "\n".join(lines)


def _cause(missing: list[str], extra: list[str], wrong: list[str]) -> str:
    ends = {m.rsplit(".", 1)[0].rsplit(".", 1)[-1] for m in missing}
    for name in extra:
        for lost in missing:
            if name.endswith(f".{lost}") or lost.endswith(f".{name}"):
                return f"names with another prefix ('{name}' stands for '{lost}'): the module alone, or the whole model?"
    if missing and extra and len(missing) == len(extra):
        return f"renamed tensors, such as '{extra[0]}' for '{missing[0]}'"
    if wrong and not missing and not extra:
        return "a model of another size, or tensors that were transposed on their way"
    if missing and not extra:
        return f"the file is incomplete, or of a smaller model (all that is missing ends on {sorted(ends)[:4]})"
    if extra and not missing:
        return "the file is of a larger or another model"
    return "a file of another model, or of another version of it"
