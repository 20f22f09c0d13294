"""Reads cycles, collectives and their bytes from the optimised HLO text of a compiled TPU program.

XLA for TPU writes `estimated_cycles` into every operation. Their sum, over loops with their trip
counts, estimates the time of a step. Pallas kernels have no cycles and are counted by their
matmuls. On other platforms the text has no such figures.
"""

from __future__ import annotations

import dataclasses
import math
import re

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
    r"(?:calls|to_apply|body|condition|branch_computations|async_execution_thread)"
    r"=\{?%([\w.\-]+(?:, %[\w.\-]+)*)"
)
_LAYOUT = re.compile(r"\]\{[^}]*\}")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CHANNEL = re.compile(r"channel_id=(\d+)")
_INDEX = re.compile(r"get-tuple-element\(%[\w.\-]+\), index=(\d+)")
_CONSTANT = re.compile(r"^\s+%([\w.\-]+) = [su]32\[\]\S* constant\((\d+)\)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """One collective operation of a program.

    Attributes:
      kind: one of COLLECTIVES.
      bytes: size of its result on one chip.
      times: how often a step runs it.
      source: operation of the model that it belongs to.
    """

    kind: str
    bytes: int
    times: int
    source: str


@dataclasses.dataclass(frozen=True)
class ProgramCosts:
    """What one step of a program costs.

    Attributes:
      cycles: of one chip, without Pallas kernels.
      kernel_flops: matmul FLOPs of Pallas kernels.
      collectives: every collective once.
    """

    cycles: int
    kernel_flops: int
    collectives: tuple[Collective, ...]

    def totals(self) -> dict[str, dict[str, int]]:
        """{kind: {count, bytes}} per step; bytes of the results on one chip."""
        out: dict[str, dict[str, int]] = {}
        for c in self.collectives:
            row = out.setdefault(c.kind, {"count": 0, "bytes": 0})
            row["count"] += c.times
            row["bytes"] += c.times * c.bytes
        return out


def array_bytes(text: str) -> int:
    """Bytes of an HLO type such as bf16[4,768]{1,0}, or of a tuple of types."""
    return sum(
        BYTES.get(t, 4) * math.prod(int(n) for n in dims.split(",") if n)
        for t, dims in _ARRAY.findall(text)
    )


def kernel_flops(line: str) -> int:
    """Matmul FLOPs of a splash kernel, from its largest operand or result, q's [B, N, T, H].

    It runs 2 (forward), 3 (dq) or 4 (dkv) matmuls on each tile that it visits.
    """
    name = line.split(" = ", 1)[0]
    matmuls = 4 if "_dkv_" in name else 3 if "_dq_" in name else 2
    heads = re.findall(r"bf16\[(\d+),(\d+),(\d+),(\d+)\]", line)  # keys may have fewer heads
    tables = re.search(r"f32\[\d+,(\d+),\d+\]", line)
    if not heads:
        return 0
    batch, count, length, width = max((tuple(map(int, h)) for h in heads), key=math.prod)
    tile = int(tables.group(1)) if tables else 128
    visited = length * (length + tile) // 2 if "splash_causal" in line else length**2
    return matmuls * 2 * batch * count * visited * width


def read_program(text: str) -> ProgramCosts:
    """Reads the costs of a compiled program.

    Args:
      text: the optimised HLO text, `compiled.as_text()` or what the compiler dumps.

    Returns:
      Cycles, kernel FLOPs and collectives of one run; loops count with their number of iterations.
    """
    program = _Program(text)
    cycles, flops = program.cost(program.entry)
    return ProgramCosts(cycles, flops, program.collectives())


class _Program:
    """The computations of a program: lines by name, and the name of the entry."""

    def __init__(self, text: str) -> None:
        self.bodies: dict[str, list[str]] = {}
        self.entry = current = ""
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = head.group(2)
                self.bodies[current] = []
                self.entry = current if head.group(1) else self.entry
            elif line == "}":  # a line of a kernel's own notes may start with a brace
                current = ""
            elif current and line.startswith("  "):
                self.bodies[current].append(_LAYOUT.sub("]", line))
            elif current and self.bodies[current]:
                self.bodies[current][-1] += line
        self._costs: dict[str, tuple[int, int]] = {}

    def cost(self, name: str) -> tuple[int, int]:
        """(cycles, kernel FLOPs) of a computation and of all that it calls."""
        if name not in self._costs:
            self._costs[name] = self._cost(name)
        return self._costs[name]

    def collectives(self) -> tuple[Collective, ...]:
        """Every collective that the entry runs, directly or in a computation that it calls."""
        out: dict[object, Collective] = {}
        self._collect(self.entry, 1, out)
        return tuple(out.values())

    def _cost(self, name: str) -> tuple[int, int]:
        cycles = flops = 0
        for line in self.bodies[name]:
            op = _OP.match(line)
            if not op:
                continue
            if op["op"] == "while":
                body, times = self._loop(line)
                inner = self.cost(body)
                cycles, flops = cycles + times * inner[0], flops + times * inner[1]
            elif op["op"] in ("call", "conditional"):
                for target in _targets(line):
                    inner = self.cost(target)
                    cycles, flops = cycles + inner[0], flops + inner[1]
            elif "tpu_custom_call" in line:
                flops += kernel_flops(line)
            elif match := _CYCLES.search(line):
                cycles += int(match.group(1))
        return cycles, flops

    def _collect(self, name: str, times: int, out: dict[object, Collective]) -> None:
        for line in self.bodies.get(name, ()):
            op = _OP.match(line)
            if not op:
                continue
            kind = op["op"].removesuffix("-start")
            if kind in COLLECTIVES:
                channel = _CHANNEL.search(line)
                key = channel.group(1) if channel else (name, line)
                # The start, middle and end of an asynchronous collective share a channel.
                if key not in out or out[key].times < times:
                    out[key] = _collective(line, op, kind, times)
            if op["op"] == "while":
                body, inner = self._loop(line)
                self._collect(body, times * inner, out)
            else:
                for target in _targets(line):
                    self._collect(target, times, out)

    def _loop(self, line: str) -> tuple[str, int]:
        """(name of the body, number of iterations) of a while loop.

        Loops of scans and of windowed matmuls count up from 0 to a constant; the latter are
        unrolled and count in steps of 2.
        """
        called = dict(re.findall(r"(body|condition)=%([\w.\-]+)", line))
        condition = self.bodies[called["condition"]]
        limits = [int(m.group(2)) for text in condition if (m := _CONSTANT.match(text))]
        counter = next((m.group(1) for text in condition if (m := _INDEX.search(text))), None)
        step = _step(self.bodies[called["body"]], counter)
        return called["body"], -(-max(limits, default=1) // step)


def _collective(line: str, op: re.Match[str], kind: str, times: int) -> Collective:
    source = re.search(r'op_name="([^"]*)"', line)
    arrays = op["type"]
    if op["op"].endswith("-start"):  # (operand, result, ...)
        arrays = ",".join(f"{t}[{d}]" for t, d in _ARRAY.findall(arrays)[1:2])
    return Collective(
        kind=kind,
        bytes=array_bytes(arrays),
        times=times,
        source=source.group(1) if source else "",
    )


def _step(body: list[str], counter: str | None) -> int:
    """What the body of a loop adds to element `counter` of its state."""
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
    """Names of the computations that an operation calls."""
    return [name.strip(" %") for group in _CALLED.findall(line) for name in group.split(",")]
