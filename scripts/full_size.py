"""Imports Emotion-LLaMAv2 at full size and answers one clip with it, from random weights.

    .venv/bin/python scripts/full_size.py FOLDER CLIP [--precision int8] [--no-reason]

The first run writes random float16 tensors in the layout of the released files into FOLDER (about
17 GB; the whole run needs 30 GB of disk). Then `emojax weights import` and `emojax predict` run as
a user types them. Prints the seconds and the peak memory (without mapped files) of each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from small_files import tokenizer

from emojax.model.weight_rules import Table
from emojax.weights.catalogue import SOURCES, catalogue_model
from emojax.weights.importer import leaf_types, model_settings

GB = 1e9
SHARD = 1_500_000_000  # bytes
NAME = "emotion-llama-v2"


class Noise:
    """Random arrays; they repeat after `SIZE` values, since 8 billion draws would take minutes."""

    SIZE = 2**25

    def __init__(self) -> None:
        draws = np.random.default_rng(0).standard_normal(self.SIZE, np.float32)
        self.values, self.start = (0.02 * draws).astype(np.float16), 0

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        out = np.resize(np.roll(self.values, -self.start), size) if size else self.values[:0]
        self.start = (self.start + 7919 * 64) % self.SIZE
        return out.reshape(shape)


def tensors(table: Table, shapes: dict[str, tuple[int, ...]], noise: Noise) -> Iterator:
    """(name, array) of every tensor of a source, layer by layer."""
    for rule in table.rules:
        stacked = "{i}" in rule.names[0]
        for layer in range(shapes[rule.paths[0]][0]) if stacked else [None]:
            leaves = [noise(shapes[p][1:] if stacked else shapes[p]) for p in rule.paths]
            names = [n.replace("{i}", str(layer)) for n in rule.names]
            yield from zip(names, rule.layout.save(leaves), strict=True)


def write_source(key: str, folder: Path) -> int:
    """Writes one source in shards with an index; returns its bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = model_settings(catalogue_model(NAME))
    shapes = {path: leaf.shape for path, leaf in leaf_types(settings).items()}
    table = SOURCES[key].fills(settings.model)[-1][0]  # of EVA, the encoder with all blocks
    shard: dict[str, np.ndarray] = {}
    index: dict[str, str] = {}
    total, number = 0, 1

    def flush() -> None:
        nonlocal shard, number
        file = f"model-{number:05}.safetensors"
        save_file(shard, folder / file)
        index.update(dict.fromkeys(shard, file))
        shard, number = {}, number + 1

    for name, array in tensors(table, shapes, Noise()):
        shard[name] = np.ascontiguousarray(array)
        total += array.nbytes
        if sum(x.nbytes for x in shard.values()) > SHARD:
            flush()
    if shard:
        flush()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return total


def run(step: str, words: list[str], cache: Path) -> tuple[int, str]:
    """Runs a command, prints its seconds and its peak; returns its exit code and its output."""
    begin = time.monotonic()
    environment = {**os.environ, "EMOJAX_CACHE": str(cache)}
    process = subprocess.Popen(
        [sys.executable, "-m", "emojax.cli", *words], env=environment, stdout=subprocess.PIPE
    )
    anonymous = 0
    while process.poll() is None:
        anonymous = max(anonymous, _anonymous_memory(process.pid))
        time.sleep(0.05)
    assert process.stdout is not None
    output = process.stdout.read().decode()
    code, seconds = process.returncode, time.monotonic() - begin
    print(f"{step}: exit code {code}, {seconds:.0f} s, peak {anonymous / GB:.1f} GB", flush=True)
    return code, output


def _anonymous_memory(pid: int) -> int:
    """Bytes of a process that are not mapped files, which the system can drop."""
    with contextlib.suppress(OSError):  # it has just ended
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Writes the files, imports them and answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("clip")
    parser.add_argument("--precision", choices=("int8", "bf16"), default="int8")
    parser.add_argument("--no-reason", action="store_true")
    args = parser.parse_args()
    files = {key: args.folder / "released" / key for key in catalogue_model(NAME).sources}
    for key, folder in files.items():
        if not (folder / "model.safetensors.index.json").exists():
            print(f"{key}: {write_source(key, folder) / GB:.1f} GB written", flush=True)
    if not (files["llama-2-7b-chat"] / "tokenizer.model").exists():
        tokenizer(files["llama-2-7b-chat"])
    print(f"{os.cpu_count()} CPU cores ({platform.machine()})")
    model = args.folder / args.precision
    if not (model / "model.json").exists():
        words = ["weights", "import", NAME, f"--{args.precision}", "--out", str(model)]
        given = [word for k, f in files.items() for word in ("--file", f"{k}={f}")]
        if run("import", [*words, *given], args.folder / "cache")[0]:
            raise SystemExit(1)
    words = ["predict", args.clip, "--model", str(model), "--json"]
    words += ["--label-only"] if args.no_reason else []
    code, output = run("predict", words, args.folder / "cache")
    for line in output.splitlines():
        answer = json.loads(line)
        label, reason = answer["label"], answer["reason"]
        print(f"answer: {label}, a reason of {len(reason.split())} words, {answer['seconds']} s")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
