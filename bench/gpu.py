"""Compares a LoRA training step of LLaMA-2-7B on one GPU with transformers + peft + SDPA.

    pip install -e .[cuda] peft torch transformers      # torch with CUDA, for the other side
    python bench/gpu.py [--rows 8] [--length 768] [--answers 128] [--depth 32] [--json]
    python bench/gpu.py --check       # on any machine: both sides in small, no figure is kept

Rank 64, random weights in bfloat16. Prints step time, tokens/s, executed FLOPs as a share of the
GPU's measured matmul peak (limit 0.45), the ratio of tokens/s to the other side's (limit 1.3) and
peak memory. The sides run in turn, each in its own process, because neither frees its memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROUNDS, STEPS = 3, 8
FULL = {"vocab": 32000, "width": 4096, "heads": 32, "mlp": 11008}
SMALL = {"vocab": 320, "width": 64, "heads": 4, "mlp": 128}
SMALL_STEP = {"rows": 2, "length": 512, "answers": 8, "depth": 2}  # the soft prompt has 448 tokens
RANK = 64
SIDES = {"ours": ("jax",), "theirs": ("torch", "transformers", "peft")}  # and what they import


def device_of(side: str) -> str:
    """Name of the GPU that a side would use; "" if it finds none."""
    if side == "ours":
        import jax

        device = jax.devices()[0]
        return str(device.device_kind) if device.platform == "gpu" else ""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def timed(step: Any, wait: Any, steps: int = STEPS) -> float:
    step(), step()
    wait()
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        step()
        wait()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def made_batch(args: argparse.Namespace, settings: Any, mesh: Any) -> dict[str, Any]:
    """Random features and tokens; the soft prompt begins at position 4."""
    import jax.numpy as jnp
    import numpy as np

    from emojax.plan.abstract_step import abstract_batch

    rng = np.random.default_rng(0)
    soft = settings.model.soft_tokens
    batch = {}
    for name, x in abstract_batch(
        settings,
        mesh,
        batch_size=args.rows,
        bucket=(args.length, args.answers),
        cached=True,
    ).items():
        wide = x.dtype == jnp.bfloat16
        batch[name] = (
            rng.standard_normal(x.shape).astype(x.dtype) if wide else np.ones(x.shape, x.dtype)
        )
    index = np.full((args.rows, args.length), -1, np.int32)
    index[:, 4 : 4 + soft] = np.arange(soft)
    steps = np.arange(args.length, dtype=np.int32)
    batch |= {"soft_index": index, "positions": np.tile(steps, (args.rows, 1))}
    batch |= {"answer_at": np.tile(steps[-args.answers :], (args.rows, 1))}
    vocab = settings.model.llama.vocab
    batch |= {"ids": rng.integers(3, vocab, index.shape).astype(np.int32)}
    return {k: jnp.asarray(v) for k, v in batch.items()}


def matmul_peak(n: int, steps: int) -> float:
    """FLOP/s of a product of matrices [n, n] in bfloat16."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((n, n), jnp.bfloat16)
    product = jax.jit(lambda x: x @ x)
    out = [product(a)]

    def multiply() -> None:
        out[0] = product(out[0])

    return 2 * n**3 / timed(multiply, lambda: jax.block_until_ready(out[0]), steps)


def ours(args: argparse.Namespace) -> dict[str, float]:
    import jax
    import numpy as np

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from emojax.config import load_config, resolve
    from emojax.model.variables import (
        abstract_variables,
        flatten,
        init_flat,
        is_encoder_path,
        select_trainable,
        split_trainable,
        unbox,
    )
    from emojax.sharding import make_mesh
    from emojax.train.flops import executed_flops, useful_flops
    from emojax.train.state import start_state
    from emojax.train.step import make_optimizer, make_step

    config = load_config("v2:stage1")
    config.model.llama.update({**size_of(args), "depth": args.depth})
    config.model.remat = args.remat
    settings = resolve(config)
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        shapes = flatten(unbox(abstract_variables(settings.model)))
        select_trainable(list(shapes), settings.trainable)
        flat = init_flat(
            settings.model, 0, mesh, paths=[p for p in shapes if not is_encoder_path(p)]
        )
        trainable, frozen = split_trainable(flat, settings.trainable)
        tx = make_optimizer(settings.stages[0].optim)
        held = [start_state(tx, trainable, mesh, ema=False)]
        del flat, trainable
        batch = made_batch(args, settings, mesh)
        step = make_step(settings.model, tx, 0.0)
        key, rate = jax.random.key(0, impl="rbg"), np.float32(1e-4)
        executed = executed_flops(step.trace(held[0], frozen, batch, rate, key).jaxpr)
        sizes = {"batch_size": args.rows, "length": args.length, "answers": args.answers}
        useful = useful_flops(settings.model, held[0].train, frozen, **sizes)

        def run() -> None:
            held[0], metrics = step(held[0], frozen, batch, rate, key)
            held.append(metrics)
            del held[1:-1]

        steps = 1 if args.check else STEPS
        seconds = timed(run, lambda: jax.block_until_ready(held[-1]), steps)
        peak = matmul_peak(256 if args.check else 8192, steps)
    stats = jax.local_devices()[0].memory_stats() or {}
    return {
        "seconds": seconds,
        "executed_flops": executed,
        "useful_flops": sum(useful.values()),
        "matmul_peak": peak,
        "memory_bytes": stats.get("peak_bytes_in_use", 0),
        "loss": float(held[-1]["loss"]),
    }


def theirs(args: argparse.Namespace) -> dict[str, float]:
    import peft
    import torch
    import transformers

    size = size_of(args)
    config = transformers.LlamaConfig(
        vocab_size=size["vocab"],
        hidden_size=size["width"],
        num_hidden_layers=args.depth,
        num_attention_heads=size["heads"],
        intermediate_size=size["mlp"],
    )
    with torch.device("cpu" if args.check else "cuda"):
        torch.set_default_dtype(torch.bfloat16)
        base = transformers.LlamaForCausalLM._from_config(
            config, attn_implementation="sdpa", dtype=torch.bfloat16
        )
        adapter = peft.LoraConfig(
            r=RANK, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"]
        )
        model = peft.get_peft_model(base, adapter).train()
        if args.peer_checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable()
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True
        )
        x = torch.randn(args.rows, args.length, size["width"])
        labels = torch.randint(3, size["vocab"], (args.rows, args.answers))

    last = []

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = model(inputs_embeds=x, logits_to_keep=args.answers).logits
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, size["vocab"]).float(), labels.reshape(-1)
        )
        loss.backward()
        optimizer.step()
        last[:] = [loss]

    if args.check:
        seconds = timed(run, lambda: None, 1)
        return {"seconds": seconds, "memory_bytes": 0, "loss": last[0].item()}
    return {
        "seconds": timed(run, torch.cuda.synchronize),
        "memory_bytes": torch.cuda.max_memory_allocated(),
        "loss": last[0].item(),
    }


def size_of(args: argparse.Namespace) -> dict[str, int]:
    """Sizes of the language model."""
    return SMALL if args.check else FULL


def measure(side: str, words: list[str]) -> dict[str, float]:
    """Runs one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, *words]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)  # the process has printed why
    return json.loads(done.stdout.splitlines()[-1])


def summary(one: dict[str, float], other: dict[str, float], tokens: int) -> dict[str, float]:
    """The figures of both sides, for steps of `tokens` tokens."""
    return {
        "step_seconds": one["seconds"],
        "peer_step_seconds": other["seconds"],
        "tokens_per_second": tokens / one["seconds"],
        "peer_tokens_per_second": tokens / other["seconds"],
        "ratio": other["seconds"] / one["seconds"],
        "matmul_peak": one["matmul_peak"],
        "executed_share_of_peak": one["executed_flops"] / one["seconds"] / one["matmul_peak"],
        "useful_share_of_peak": one["useful_flops"] / one["seconds"] / one["matmul_peak"],
        "memory_bytes": one["memory_bytes"],
        "peer_memory_bytes": other["memory_bytes"],
    }


def check(words: list[str]) -> int:
    """Runs every side that is installed in small, then reports what a measurement lacks."""
    lacking = []
    found = {}
    for side, needs in SIDES.items():
        if missing := [name for name in needs if importlib.util.find_spec(name) is None]:
            lacking.append(f"{side}: {', '.join(missing)} not installed")
            continue
        found[side] = measure(side, words)
        print(f"{side}: ran, loss {found[side]['loss']:.3f}")
        if not found[side]["gpu"]:
            lacking.append(f"{side}: no GPU found")
    if len(found) == len(SIDES):
        tokens = SMALL_STEP["rows"] * SMALL_STEP["length"]
        print(f"summary: {', '.join(summary(*found.values(), tokens))}")
    print("\n".join(lacking) or "everything that a measurement needs is here")
    return 0


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("rows", 8), ("length", 768), ("answers", 128), ("depth", 32)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--remat", default="all")
    parser.add_argument(
        "--peer-checkpointing",
        action="store_true",
        help="for sizes at which the other side does not fit without it",
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--check",
        action="store_true",
        help="run both sides in small on whatever device there is; nothing is measured",
    )
    parser.add_argument("--side", choices=tuple(SIDES), help=argparse.SUPPRESS)
    return parser


def main(words: list[str]) -> int:
    args = options().parse_args(words)
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")
    if args.check:
        vars(args).update(SMALL_STEP)
    if args.side:
        gpu = device_of(args.side)
        if not gpu and not args.check:
            print(f"{args.side}: no GPU found; --check runs in small without one", file=sys.stderr)
            return 2
        figures = ours(args) if args.side == "ours" else theirs(args)
        print(json.dumps(figures | {"gpu": gpu}))
        return 0
    if args.check:
        return check(words)
    measured: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(ROUNDS):
        for side, runs in measured.items():
            runs.append(measure(side, words))
    one, other = (
        {k: statistics.median(r[k] for r in rows) for k in rows[0] if k != "gpu"}
        for rows in measured.values()
    )
    result = summary(one, other, args.rows * args.length)
    lines = "\n".join(f"{k:26} {v:.4g}" for k, v in result.items())
    print(json.dumps(result) if args.json else lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
