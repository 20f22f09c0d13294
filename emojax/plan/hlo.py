"""What a compiled TPU program says of itself: cycles, collectives and their bytes, read from its optimised HLO text.

XLA for TPU writes `estimated_cycles` beside every operation. Summed over loops with their trip counts they estimate a step;
Pallas kernels carry none and are counted by their matmuls. The text names no such figure on other platforms.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from typing import Any

BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s16": 2,
    "u16": 2,
    "f32": 4,
    "s32": 4,
    "u32": 4,
    "f64": 8,
}
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute", "all-to-all")

_HEAD = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")
_OP = re.compile(r"^\s+(?:ROOT )?%[\w.\-]+ = (?P<type>\([^)]*\)|\S+) (?P<op>[\w\-]+)\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|branch_computations|async_execution_thread)=\{?%([\w.\-]+(?:, %[\w.\-]+)*)"
)
_LAYOUT = re.compile(r"\]\{[^}]*\}")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CHANNEL = re.compile(r"channel_id=(\d+)")
_INDEX = re.compile(r"get-tuple-element\(%[\w.\-]+\), index=(\d+)")
_CONSTANT = re.compile(r"^\s+%([\w.\-]+) = [su]32\[\]\S* constant\((\d+)\)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """One collective of the program: what it moves at once, how often a step does it, and where it came from."""

    kind: str
    bytes: int
    times: int
    source: str


@dataclasses.dataclass(frozen=True)
class Report:
    """cycles: of everything but Pallas kernels, on one chip. kernel_flops: of those. collectives: each once."""

    cycles: int
    kernel_flops: int
    collectives: tuple[Collective, ...]

    def totals(self) -> dict[str, dict[str, int]]:
        """{kind: {count, bytes}} of a step, bytes of the results on one chip."""
        out: dict[str, dict[str, int]] = {}
        for c in self.collectives:
            row = out.setdefault(c.kind, {"count": 0, "bytes": 0})
            row["count"] += c.times
            row["bytes"] += c.times * c.bytes
        return out


def array_bytes(text: str) -> int:
    """Bytes of an HLO type such as bf16[4,768]{1,0} or a tuple of them."""
    return sum(
        BYTES.get(t, 4) * math.prod(int(n) for n in dims.split(",") if n)
        for t, dims in _ARRAY.findall(text)
    )


def kernel_flops(line: str) -> int:
    """Matmul FLOPs of a splash kernel from its operand q [B, N, T, H]: the tiles it visits, 2, 3 or 4 matmuls a tile."""
    name = line.split(" = ", 1)[0]
    matmuls = 4 if "_dkv_" in name else 3 if "_dq_" in name else 2
    heads = re.search(r"bf16\[(\d+),(\d+),(\d+),(\d+)\]", line)
    tables = re.search(r"f32\[\d+,(\d+),\d+\]", line)
    if not heads:
        return 0
    batch, count, length, width = map(int, heads.groups())
    tile = int(tables.group(1)) if tables else 128
    seen = length * (length + tile) // 2 if "splash_causal" in line else length**2
    return matmuls * 2 * batch * count * seen * width


def read(text: str) -> Report:
    """Reads `compiled.as_text()`."""
    bodies: dict[str, list[str]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = head.group(2)
            bodies[current] = []
            entry = current if head.group(1) else entry
        elif line == "}":  # lines of a kernel's own notes may begin with braces
            current = ""
        elif current and line.startswith("  "):
            bodies[current].append(_LAYOUT.sub("]", line))
        elif current and bodies[current]:
            bodies[current][-1] += line

    def trips(condition: str, body: str) -> int:
        # Loops of scans and of windowed matmuls count up from 0 to a constant; the latter are unrolled, in steps of 2.
        limits = [int(m.group(2)) for line in bodies[condition] if (m := _CONSTANT.match(line))]
        counter = next(
            (m.group(1) for line in bodies[condition] if (m := _INDEX.search(line))), None
        )
        return -(-max(limits, default=1) // _step(bodies[body], counter))

    @functools.cache
    def cost(name: str) -> tuple[int, int]:
        cycles = flops = 0
        for line in bodies[name]:
            op = _OP.match(line)
            if not op:
                continue
            if op["op"] == "while":
                called = dict(re.findall(r"(body|condition)=%([\w.\-]+)", line))
                inner = cost(called["body"])
                times = trips(called["condition"], called["body"])
                cycles, flops = cycles + times * inner[0], flops + times * inner[1]
            elif op["op"] in ("call", "conditional"):
                for target in _targets(line):
                    inner = cost(target)
                    cycles, flops = cycles + inner[0], flops + inner[1]
            elif "tpu_custom_call" in line:
                flops += kernel_flops(line)
            elif own := _CYCLES.search(line):
                cycles += int(own.group(1))
        return cycles, flops

    found: dict[Any, Collective] = {}

    def collect(name: str, times: int) -> None:
        for line in bodies.get(name, ()):
            op = _OP.match(line)
            if not op:
                continue
            kind = op["op"].removesuffix("-start")
            if kind in COLLECTIVES:
                channel = _CHANNEL.search(line)
                source = re.search(r'op_name="([^"]*)"', line)
                key = channel.group(1) if channel else (name, line)
                arrays = op["type"]
                if op["op"].endswith("-start"):  # (operand, result, ...)
                    arrays = ",".join(f"{t}[{d}]" for t, d in _ARRAY.findall(arrays)[1:2])
                one = Collective(
                    kind=kind,
                    bytes=array_bytes(arrays),
                    times=times,
                    source=source.group(1) if source else "",
                )
                # The start, the middle and the end of an asynchronous one share a channel.
                if key not in found or found[key].times < times:
                    found[key] = one
            if op["op"] == "while":
                called = dict(re.findall(r"(body|condition)=%([\w.\-]+)", line))
                collect(called["body"], times * trips(called["condition"], called["body"]))
            else:
                for target in _targets(line):
                    collect(target, times)

    collect(entry, 1)
    cycles, flops = cost(entry)
    return Report(cycles, flops, tuple(found.values()))


def _step(body: list[str], counter: str | None) -> int:
    """What a loop's body adds to element `counter` of its state."""
    constants = {m.group(1): int(m.group(2)) for line in body if (m := _CONSTANT.match(line))}
    root = next((line for line in body if line.lstrip().startswith("ROOT")), "")
    names = re.findall(r"%([\w.\-]+)", root.split("tuple(", 1)[-1].split(")", 1)[0])
    if counter is None or int(counter) >= len(names):
        return 1
    start = f"%{names[int(counter)]} = "
    added = next((line for line in body if line.lstrip().startswith(start)), "")
    terms = (
        re.findall(r"%([\w.\-]+)", added.split(" add(", 1)[-1].split(")", 1)[0])
        if " add(" in added
        else []
    )
    return next((constants[t] for t in terms if t in constants), 1)


def _targets(line: str) -> list[str]:
    return [name.strip(" %") for group in _CALLED.findall(line) for name in group.split(",")]
