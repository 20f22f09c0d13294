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
from emojax.model.variables import unbox

PROMPT, TOKENS = 128, 64
SMALL = (32000, 512, 8, 8, 1376)  # vocabulary, width, layers, heads, mlp width
DEMO = (1200, 96, 2, 4, 192)  # the demo's language model (configs/tiny.py)
Job = tuple[Callable[[], float], Callable[[], float]]  # each returns the seconds it took


def decode(rows: int, cache: str = "float", sizes: tuple[int, int, int, int, int] = SMALL) -> Job:
    """Decodes TOKENS greedy tokens after PROMPT tokens, against a cached loop of transformers."""
    vocab, width, depth, heads, mlp = sizes
    small = resolve(load_config("tiny:test")).model
    llama = LlamaConfig(
        vocab=vocab,
        width=width,
        depth=depth,
        heads=heads,
        mlp=mlp,
        lora=LoraConfig(rank=0),
        cache=cache,  # type: ignore[arg-type]
        unstacked_layers=True,
    )
    config = dataclasses.replace(small, llama=llama)
    # Layers are not stacked, as after `infer/prepare.py`.
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

    return ours, cached_llama(rows, sizes)


def cached_llama(rows: int, sizes: tuple[int, int, int, int, int]) -> Callable[[], float]:
    """The same decoding by transformers with its cache."""
    vocab, width, depth, heads, mlp = sizes
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=vocab,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            intermediate_size=mlp,
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
    sizes = "width {1}, {2} layers, vocabulary {0}".format(*SMALL)
    jobs = {
        (f"decode {TOKENS} tokens, 1 row, {sizes}", "transformers, cached loop"): decode(1),
        (f"decode {TOKENS} tokens, 8 rows, {sizes}", "transformers, cached loop"): decode(8),
        ("the same, 8 rows, int8 cache", "transformers, float cache"): decode(8, "int8"),
        (
            f"decode {TOKENS} tokens, 1 row, the demo's language model",
            "transformers, cached loop",
        ): decode(1, sizes=DEMO),
        ("EVA forward, 448 px, width 384, 4 layers", "transformers ViT, SDPA"): eva(),
    }
    for (work, name), job in jobs.items():
        a, b = timed(job, args.rounds)
        print(f"| {work} | {name} | {a * 1e3:.1f} | {b * 1e3:.1f} | {b / a:.2f} |", flush=True)
    from emojax.weights.locations import default_model

    folder = args.model or default_model()
    if folder and args.clip:
        print(
            "\none clip, batch 1, ms of each part after warm-up:",
            json.dumps(label_only(folder, args.clip, args.rounds)),
        )


if __name__ == "__main__":
    main()
