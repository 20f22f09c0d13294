"""Compares speed with other libraries (`make bench`); needs the parity extra (torch).

Both sides run in turn in one process; medians are reported.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
warnings.filterwarnings("ignore")

import av
import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from data_pipeline.embedded.generate import make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.media.clip import Sampling, read_clip
from data_pipeline.media.views import log_mel
from emojax.model.dense import LoraConfig
from emojax.model.encoders.whisper import Whisper, WhisperConfig
from emojax.model.layers import EncoderConfig
from emojax.model.lm.llama import Llama, LlamaConfig
from emojax.model.variables import unbox

ROUNDS = 7


def alternate(ours: Callable[[], object], peer: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of both, run in turn after one warm-up."""
    times: tuple[list[float], list[float]] = ([], [])
    ours(), peer()
    for _ in range(ROUNDS):
        for job, measured in zip((ours, peer), times, strict=True):
            begin = time.perf_counter()
            job()
            measured.append(time.perf_counter() - begin)
    return statistics.median(times[0]), statistics.median(times[1])


def llama_prefill() -> tuple[Callable[[], object], Callable[[], object]]:
    config = LlamaConfig(
        vocab=4000, width=512, depth=8, heads=8, mlp=1376, lora=LoraConfig(rank=0), unroll=8
    )
    model = Llama(config)
    ids = np.random.default_rng(0).integers(0, 4000, (1, 512))
    at, valid = jnp.arange(512)[None], jnp.ones((1, 512), bool)
    variables = unbox(model.init(jax.random.key(0), jnp.zeros((1, 512, 512)), at, valid))
    variables["params"]["embed"] = jnp.ones((4000, 512))
    run = jax.jit(lambda v, i: model.apply(v, model.apply(v, i, method="embed"), at, valid)[0])
    theirs = transformers.LlamaModel(
        transformers.LlamaConfig(
            vocab_size=4000,
            hidden_size=512,
            num_hidden_layers=8,
            num_attention_heads=8,
            intermediate_size=1376,
        )
    ).eval()
    tensor = torch.from_numpy(ids)

    def peer() -> object:
        with torch.no_grad():
            return theirs(input_ids=tensor, use_cache=False)

    return (lambda: jax.block_until_ready(run(variables, ids))), peer


def whisper_forward() -> tuple[Callable[[], object], Callable[[], object]]:
    module = Whisper(
        WhisperConfig(
            80,
            1500,
            EncoderConfig(width=384, depth=4, heads=6, mlp=1536, eps=1e-5, unstacked_layers=True),
        )
    )
    mel = np.random.default_rng(0).standard_normal((1, 3000, 80)).astype(np.float32)
    variables = unbox(module.init(jax.random.key(0), mel))
    run = jax.jit(module.apply)
    config = transformers.WhisperConfig(
        d_model=384,
        encoder_layers=4,
        encoder_attention_heads=6,
        encoder_ffn_dim=1536,
        num_mel_bins=80,
    )
    theirs = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
    tensor = torch.from_numpy(mel.transpose(0, 2, 1).copy())

    def peer() -> object:
        with torch.no_grad():
            return theirs(tensor)

    return (lambda: jax.block_until_ready(run(variables, mel))), peer


def decode(folder: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    files = sorted(
        (
            make_corpus(config=CorpusConfig(train=12, val=0, test=0), folder=folder / "c") / "clips"
        ).glob("*.mp4")
    )

    def ours() -> object:
        return [read_clip(f, sampling=Sampling(num_frames=8)) for f in files]

    def peer() -> object:  # the plain PyAV loop: every frame to RGB, and the whole audio track
        out = []
        for f in files:
            with av.open(str(f)) as container:
                for frame in container.decode():
                    out.append(
                        frame.to_ndarray(format="rgb24")
                        if isinstance(frame, av.VideoFrame)
                        else frame.to_ndarray()
                    )
        return out

    return ours, peer


def mel() -> tuple[Callable[[], object], Callable[[], object]]:
    wave = np.random.default_rng(0).standard_normal(10 * 16000).astype(np.float32) * 0.1
    extractor = transformers.WhisperFeatureExtractor(feature_size=128)
    return (lambda: log_mel(wave, mels=128)), (
        lambda: extractor(wave, sampling_rate=16000, return_tensors="np")
    )


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {cores} cores, {ROUNDS} alternating rounds, medians\n")
    print("| work | peer | emojax ms | peer ms | peer / emojax |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            (
                "LLaMA forward, 512 tokens, width 512, 8 layers, float32",
                "transformers",
            ): llama_prefill(),
            (
                "Whisper encoder forward, 30 s, tiny sizes, float32",
                "transformers",
            ): whisper_forward(),
            ("log-mel, 30 s window, 128 bins", "WhisperFeatureExtractor"): mel(),
            ("decode 12 embedded clips: 8 frames, image, 16 kHz", "PyAV, every frame"): decode(
                Path(folder)
            ),
        }
        for (work, name), (ours, peer) in jobs.items():
            a, b = alternate(ours, peer)
            print(f"| {work} | {name} | {a * 1e3:.1f} | {b * 1e3:.1f} | {b / a:.2f} |", flush=True)


if __name__ == "__main__":
    main()
