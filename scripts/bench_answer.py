"""Measures the speed of answers: cached decoding and encoders against torch, and one clip's answer.

    python scripts/bench_answer.py [--model FOLDER] [--clip FILE]     (part of `make bench`)

Both sides run in turn in one process, in float32; medians are reported.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
warnings.filterwarnings("ignore")

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from data_pipeline.media.views import CLIP_MEAN, CLIP_STD
from emojax.config import load_config, resolve
from emojax.infer.sample import Sampler, State, advance
from emojax.model.build import init_variables
from emojax.model.dense import LoraConfig
from emojax.model.encoders.vision_transformer import PictureConfig, VisionTransformer
from emojax.model.layers import EncoderConfig
from emojax.model.lm.llama import LlamaConfig, make_cache
from emojax.model.parts import release_named
from emojax.model.variables import unbox

PROMPT, TOKENS = 128, 64
PLAIN = {"lora": LoraConfig(rank=0), "unstacked_layers": True}  # as after `infer/prepare.py`
SMALL = LlamaConfig(vocab=32000, width=512, depth=8, heads=8, mlp=1376, **PLAIN)
# The demo's language model (configs/tiny.py).
DEMO = LlamaConfig(vocab=1200, width=96, depth=2, heads=4, mlp=192, **PLAIN)
SMOL = LlamaConfig(**release_named("SmolLM2-135M-Instruct")[1].fields, **PLAIN)
SMOL_WORK = f"decode {TOKENS} tokens, 1 row, shapes of SmolLM2-135M"
Job = tuple[Callable[[], float], Callable[[], float]]  # each returns the seconds it took


def decode(rows: int, llama: LlamaConfig = SMALL) -> Job:
    """Decodes TOKENS greedy tokens after PROMPT tokens, against a cached loop of transformers."""
    small = resolve(load_config("tiny:test")).model
    config = dataclasses.replace(small, llama=llama)
    variables = unbox(init_variables(config, jax.random.key(0)))
    sampler = Sampler(max_tokens=TOKENS)
    run = jax.jit(
        lambda v, s: (
            advance(
                config, v, s, sampler=sampler, eos=-1, steps=TOKENS, refill=jnp.zeros((), bool)
            ).ids
        ),
        donate_argnums=1,
    )

    def state() -> State:
        kv = make_cache(llama, rows, PROMPT + TOKENS)
        kv = kv._replace(
            valid=kv.valid.at[:, :PROMPT].set(True), used=jnp.full((rows,), PROMPT, jnp.int32)
        )
        zeros = jnp.zeros((rows,), jnp.int32)
        ids = jnp.zeros((rows, TOKENS), jnp.int32)
        keys = jax.random.split(jax.random.key(0), rows)
        return jax.block_until_ready(
            State(zeros + 5, zeros, jnp.zeros((rows,), bool), ids, keys, kv)
        )

    def ours() -> float:
        begin_state = state()
        begin = time.perf_counter()
        jax.block_until_ready(run(variables, begin_state))
        return time.perf_counter() - begin

    return ours, cached_llama(rows, llama)


def cached_llama(rows: int, llama: LlamaConfig) -> Callable[[], float]:
    """The same decoding by transformers with its cache."""
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=llama.vocab,
            hidden_size=llama.width,
            num_hidden_layers=llama.depth,
            num_attention_heads=llama.heads,
            num_key_value_heads=llama.kv_heads,
            intermediate_size=llama.mlp,
            tie_word_embeddings=llama.tied,
            max_position_embeddings=4096,
        )
    ).eval()
    prompt = torch.zeros((rows, PROMPT), dtype=torch.long)

    def peer() -> float:
        with torch.inference_mode():
            past = transformers.DynamicCache()
            theirs(input_ids=prompt, past_key_values=past, use_cache=True, logits_to_keep=1)
            begin = time.perf_counter()
            token = prompt[:, :1]
            for _ in range(TOKENS):
                logits = theirs(input_ids=token, past_key_values=past, use_cache=True).logits
                token = logits[:, -1].argmax(dim=-1, keepdim=True)
            return time.perf_counter() - begin

    return peer


def eva() -> Job:
    """A small EVA encoder at 448 px: 1,025 tokens."""
    module = VisionTransformer(
        PictureConfig(
            image_size=448,
            patch=14,
            encoder=EncoderConfig(
                width=384, depth=4, heads=6, mlp=1536, eps=1e-6, unstacked_layers=True
            ),
            final_norm=False,
            mean=CLIP_MEAN,
            std=CLIP_STD,
        )
    )
    picture = np.random.default_rng(0).standard_normal((1, 448, 448, 3)).astype(np.float32)
    variables = unbox(module.init(jax.random.key(0), picture))
    run = jax.jit(module.apply)
    config = transformers.ViTConfig(
        hidden_size=384,
        num_hidden_layers=4,
        num_attention_heads=6,
        intermediate_size=1536,
        image_size=448,
        patch_size=14,
        qkv_bias=True,
    )
    theirs = transformers.ViTModel(config, add_pooling_layer=False).eval()
    tensor = torch.from_numpy(picture.transpose(0, 3, 1, 2).copy())

    def peer() -> float:
        begin = time.perf_counter()
        with torch.inference_mode():
            theirs(tensor)
        return time.perf_counter() - begin

    def ours() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(run(variables, picture))
        return time.perf_counter() - begin

    return ours, peer


def timed(job: Job, rounds: int) -> tuple[float, float]:
    """Median seconds that both functions return, run in turn after two warm-ups."""
    ours, peer = job
    ours(), peer(), ours(), peer()
    pairs = [(ours(), peer()) for _ in range(rounds)]
    mine, other = zip(*pairs, strict=True)
    return statistics.median(mine), statistics.median(other)


def label_only(model: Path, clip: str, rounds: int) -> dict[str, float]:
    """Seconds of each part of one clip's answer, after warm-up."""
    from data_pipeline.media.clip import read_clip
    from data_pipeline.media.views import make_views
    from data_pipeline.schema import ClipRecord
    from emojax.bundle.model_folder import load_bundle
    from emojax.infer.answer import label_probabilities, reasons
    from emojax.infer.encode_clips import encode
    from emojax.infer.prepare import prepare_for_inference

    bundle = prepare_for_inference(load_bundle(model))
    parts: dict[str, list[float]] = {}

    def part(name: str, run: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        out = run()
        parts.setdefault(name, []).append(time.perf_counter() - begin)
        return out

    for _ in range(rounds + 2):
        read = part(
            "decode",
            lambda: read_clip(
                clip, sampling=bundle.settings.sampling(None), subtitle="i am so glad"
            ),
        )
        views = part("views", lambda: make_views(read, bundle.settings.views))  # noqa: B023
        record = ClipRecord(
            id="one",
            dataset="bench",
            split="test",
            path=clip,
            label=bundle.labels[0],
            labels=bundle.labels,
            subtitle="i am so glad",
        )
        items = [(record, views)]
        encoded = part("encoders", functools.partial(encode, bundle, items, batch_size=1))
        choose = functools.partial(label_probabilities, bundle, encoded, bundle.labels)
        part("labels", functools.partial(choose, batch_size=1))
        if bundle.can_reason:
            part("reason", functools.partial(reasons, bundle, encoded, batch_size=1))
    return {k: round(1e3 * statistics.median(times[2:]), 1) for k, times in parts.items()}


def weight_bytes(llama: LlamaConfig) -> int:
    """Bytes of float32 weights that decoding one token reads; of embeddings only a tied table."""
    heads = (2 * llama.heads + 2 * llama.kv_heads) * llama.head_width * llama.width
    layer = heads + 3 * llama.mlp * llama.width
    return 4 * (llama.depth * layer + llama.vocab * llama.width)


def read_bandwidth() -> float:
    """Bytes/s at which this process can read memory, with all its cores."""
    block = jnp.ones((1 << 28,), jnp.float32)
    total = jax.jit(jnp.sum)

    def once() -> float:
        begin = time.perf_counter()
        total(block).block_until_ready()
        return block.nbytes / (time.perf_counter() - begin)

    return max(once() for _ in range(4))


def processor() -> str:
    """The name of the processor, by which other libraries choose their kernels."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (x.partition(":")[2].strip() for x in lines if x.startswith("model name")),
        platform.machine(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="model folder (default: the demo's)")
    parser.add_argument("--clip", help="media file of which one answer is timed")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{processor()}, {cores} cores, {args.rounds} alternating rounds, medians\n")
    print("| work | peer | emojax ms | peer ms | peer / emojax |\n|---|---|---|---|---|")
    sizes = f"width {SMALL.width}, {SMALL.depth} layers, vocabulary {SMALL.vocab}"
    jobs = {
        (f"decode {TOKENS} tokens, 1 row, {sizes}", "transformers, cached loop"): decode(1),
        (f"decode {TOKENS} tokens, 8 rows, {sizes}", "transformers, cached loop"): decode(8),
        ("the same, 8 rows, int8 cache", "transformers, float cache"): decode(
            8, dataclasses.replace(SMALL, cache="int8")
        ),
        (
            f"decode {TOKENS} tokens, 1 row, the demo's language model",
            "transformers, cached loop",
        ): decode(1, DEMO),
        (SMOL_WORK, "transformers, cached loop"): decode(1, SMOL),
        ("EVA forward, 448 px, width 384, 4 layers", "transformers ViT, SDPA"): eva(),
    }
    for (work, name), job in jobs.items():
        a, b = timed(job, args.rounds)
        print(f"| {work} | {name} | {a * 1e3:.1f} | {b * 1e3:.1f} | {b / a:.2f} |", flush=True)
        if work == SMOL_WORK:
            share = weight_bytes(SMOL) * TOKENS / a / read_bandwidth()
    print(f"\nSmolLM2-135M reads its weights at {share:.0%} of the memory's bandwidth")
    from emojax.weights.locations import default_model

    folder = args.model or default_model()
    if folder and args.clip:
        print(
            "\none clip, batch 1, ms of each part after warm-up:",
            json.dumps(label_only(folder, args.clip, args.rounds)),
        )


if __name__ == "__main__":
    main()
