"""Measures the peak host memory of an import, with the layer shapes of LLaMA-2-7B.

    .venv/bin/python scripts/import_memory.py [--layers 8] [--int8]

Writes random bfloat16 shards of a LLaMA with that many of its 32 layers (tiny files for the other
sources), imports them in another process, and prints its peak and the bound: imported tree +
largest tensor + 2 GB. Exit code 1 if the peak exceeds the bound.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path

GB = 1e9


def config(layers: int, int8: bool):
    from emojax.config import load_config, resolve

    c = load_config("tiny:released")
    c.model.llama.update(
        {"vocab": 32000, "width": 4096, "depth": layers, "heads": 32, "mlp": 11008}
    )
    c.model.param_dtype = c.model.compute_dtype = "bfloat16"
    c.model.lora.rank = 64
    c.model.kernels = "int8" if int8 else "float"
    return resolve(c)


def write_files(layers: int, folder: Path) -> dict[str, Path]:
    """Writes random files of every source; LLaMA in shards of three layers."""
    import ml_dtypes
    import numpy as np
    from safetensors.numpy import save_file
    from small_files import source_files

    files = source_files("emotion-llama-v2", config(layers, False), folder, skip="llama-2-7b-chat")
    rng = np.random.default_rng(0)

    def noise(shape: tuple[int, ...]) -> np.ndarray:
        return (rng.standard_normal(shape, np.float32) * 0.02).astype(ml_dtypes.bfloat16)

    width, mlp = 4096, 11008
    shapes = {f"self_attn.{p}_proj": (width, width) for p in "qkvo"}
    shapes |= {
        "mlp.gate_proj": (mlp, width),
        "mlp.up_proj": (mlp, width),
        "mlp.down_proj": (width, mlp),
    }
    shapes |= {"input_layernorm": (width,), "post_attention_layernorm": (width,)}
    parts: list[dict[str, np.ndarray]] = []
    for layer in range(layers):
        if layer % 3 == 0:
            parts.append({})
        parts[-1] |= {f"model.layers.{layer}.{n}.weight": noise(s) for n, s in shapes.items()}
        if layer % 3 == 2 or layer == layers - 1:
            save_file(parts[-1], files["llama-2-7b-chat"] / f"model-{len(parts)}.safetensors")
            parts[-1] = dict.fromkeys(parts[-1])
    ends = {
        "model.embed_tokens.weight": (32000, width),
        "lm_head.weight": (32000, width),
        "model.norm.weight": (width,),
    }
    save_file(
        {n: noise(s) for n, s in ends.items()}, files["llama-2-7b-chat"] / "model-0.safetensors"
    )
    index = {n: f"model-{i + 1}.safetensors" for i, part in enumerate(parts) for n in part}
    index |= dict.fromkeys(ends, "model-0.safetensors")
    (files["llama-2-7b-chat"] / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": index})
    )
    return files


def memory(field: str) -> int:
    """The bytes in a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(layers: int, int8: bool, folder: Path, files: dict[str, Path], out) -> None:
    """Runs the import and puts its figures into the queue `out`."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    from emojax.weights.importer import import_model, leaf_types

    settings = config(layers, int8)
    leaves = leaf_types(settings)
    sizes = [x.size * x.dtype.itemsize for x in leaves.values()]
    before, peak, done = memory("RssAnon"), 0, False

    def watch() -> None:
        nonlocal peak
        while not done:
            peak = max(peak, memory("RssAnon"))
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    begin = time.monotonic()
    import_model("emotion-llama-v2", files, folder / "model", settings=settings)
    seconds = time.monotonic() - begin
    done = True
    thread.join()
    out.put(
        {
            "tree": sum(sizes),
            "largest": max(sizes),
            "before": before,
            "peak": peak,
            "seconds": seconds,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--int8", action="store_true")
    args = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        writer = spawn.Pool(1)
        files = writer.apply(write_files, (args.layers, folder))
        writer.close()
        out = spawn.Queue()
        process = spawn.Process(target=measure, args=(args.layers, args.int8, folder, files, out))
        process.start()
        facts = out.get()
        process.join()
    bound = facts["tree"] + facts["largest"] + 2 * GB
    tree, largest = facts["tree"] / GB, facts["largest"] / GB
    print(f"{args.layers} layers: tree {tree:.2f} GB, largest leaf {largest:.2f} GB")
    print(f"peak {facts['peak'] / GB:.2f} GB, bound {bound / GB:.2f} GB, {facts['seconds']:.0f} s")
    raise SystemExit(facts["peak"] > bound)


if __name__ == "__main__":
    main()
