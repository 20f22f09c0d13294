"""Compares a LoRA training step on CPU with transformers + peft in torch (part of `make bench`).

Both sides have the same sizes and run in turn, each in its own process; medians are reported. Ours
is the step of `emojax train`, from cached features: it also trains fusion and projectors, which the
other side does not have. The other side computes logits at as many positions, the last ones.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")

import jax
import numpy as np

from bench import ROUNDS, alternate
from emojax.config import load_config, resolve
from emojax.model.variables import init_flat, is_encoder_path, split_trainable
from emojax.plan.abstract_step import abstract_batch
from emojax.sharding import make_mesh
from emojax.train.malloc import tune_malloc
from emojax.train.state import start_state
from emojax.train.step import make_optimizer, make_step

# name: (width, depth, heads, mlp, vocabulary, LoRA rank, rows, row length, answer length)
SIZES = {
    "tiny": (96, 2, 4, 192, 1200, 4, 24, 128, 64),
    "small": (512, 8, 8, 1376, 4000, 64, 4, 512, 128),
}


def ours(size: tuple[int, ...]) -> Callable[[], None]:
    """A function that runs one step of emojax."""
    width, depth, heads, mlp, vocab, rank, rows, length, answers = size
    config = load_config("tiny:released")
    config.model.llama.update(
        {"vocab": vocab, "width": width, "depth": depth, "heads": heads, "mlp": mlp}
    )
    config.model.lora.update({"rank": rank, "dropout": 0.05})
    config.model.unroll = depth
    settings = resolve(config)
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    rng = np.random.default_rng(0)

    def fill(x: jax.ShapeDtypeStruct) -> np.ndarray:
        return (
            rng.standard_normal(x.shape).astype(x.dtype)
            if x.dtype.kind == "f"
            else np.ones(x.shape, x.dtype)
        )

    with jax.set_mesh(mesh):
        batch = {
            k: fill(v)
            for k, v in abstract_batch(
                settings, mesh, batch_size=rows, bucket=(length, answers), cached=True
            ).items()
        }
        soft = settings.model.soft_tokens
        index = np.full((rows, length), -1, np.int32)
        index[:, 4 : 4 + soft] = np.arange(soft)
        batch |= {
            "soft_index": index,
            "positions": np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        }
        batch |= {"ids": rng.integers(3, vocab, (rows, length)).astype(np.int32)}
        batch |= {
            "answer_at": np.tile(np.arange(length - answers, length, dtype=np.int32), (rows, 1))
        }
        batch |= {"labels": rng.integers(3, vocab, (rows, answers)).astype(np.int32)}
        flat = init_flat(settings.model, 0, mesh)
        trainable, frozen = split_trainable(
            {p: x for p, x in flat.items() if not is_encoder_path(p)}, settings.trainable
        )
        optim = settings.stages[0].optim
        tx = make_optimizer(optim)
        held = [start_state(tx, trainable, mesh, ema=False)]
        step = make_step(settings.model, tx, 0.0)
        key = jax.random.key(0, impl="rbg")

    def run() -> None:
        with jax.set_mesh(mesh):
            held[0], metrics = step(held[0], frozen, batch, np.float32(1e-4), key)
            jax.block_until_ready((held[0], metrics))

    return run


def theirs(size: tuple[int, ...]) -> Callable[[], None]:
    """A function that runs one step of transformers + peft."""
    import peft
    import torch
    import transformers

    width, depth, heads, mlp, vocab, rank, rows, length, answers = size
    config = transformers.LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=mlp,
    )
    base = transformers.LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    adapter = peft.LoraConfig(
        r=rank, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"]
    )
    model = peft.get_peft_model(base, adapter).train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.05
    )
    x = torch.randn(rows, length, width)
    labels = torch.randint(3, vocab, (rows, answers))

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = model(inputs_embeds=x, logits_to_keep=answers).logits
        torch.nn.functional.cross_entropy(logits.reshape(-1, vocab), labels.reshape(-1)).backward()
        optimizer.step()

    return run


def serve(make: str, size: tuple[int, ...], line: Connection) -> None:
    """Runs one step per message, in another process."""
    warnings.filterwarnings("ignore")
    if make == "ours":
        tune_malloc()
    run = {"ours": ours, "theirs": theirs}[make](size)
    while line.recv():
        run()
        line.send(True)


@contextlib.contextmanager
def in_process(make: str, size: tuple[int, ...]) -> Iterator[Callable[[], None]]:
    """A function that runs one step in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(make, size, there), daemon=True
    )
    process.start()

    def run() -> None:
        here.send(True)
        here.recv()

    yield run
    here.send(False)
    process.join()


def main() -> None:
    print(
        "| LoRA step, float32 | emojax ms | torch + peft ms | emojax / peer (limit 1.05) "
        "| emojax tokens/s | peer tokens/s |"
    )
    print("|---|---|---|---|---|---|")
    for name, size in SIZES.items():
        with in_process("ours", size) as step, in_process("theirs", size) as other:
            mine, peer = alternate(step, other)
        tokens = size[6] * size[7]
        print(
            f"| {name}: width {size[0]}, {size[1]} layers, {size[6]} x {size[7]} tokens "
            f"| {1e3 * mine:.0f} | {1e3 * peer:.0f} | "
            f"{mine / peer:.2f} | {tokens / mine:.0f} | {tokens / peer:.0f} |"
        )
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, {ROUNDS} alternating rounds, medians")


if __name__ == "__main__":
    main()
