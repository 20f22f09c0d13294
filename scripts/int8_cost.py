"""Measures the errors of int8 kernels: in logits at LLaMA-2-7B's width, and in predicted labels.

    .venv/bin/python scripts/int8_cost.py [--layers 2] [--model runs/demo]

Prints relative errors of int8 and bfloat16 against float32 (random weights), and for how many of
the embedded test clips a trained model predicts the same label.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.loader.open_sources import open_views
from data_pipeline.schema import MODALITIES
from emojax.bundle.model_folder import as_int8, load_bundle
from emojax.cli.console import progress_bars, setup, shown_log
from emojax.evaluate.model_answers import predict_labels
from emojax.model.dense import LoraConfig, Precision
from emojax.model.lm.llama import Llama, LlamaConfig
from emojax.model.quantize import quantize_leaves
from emojax.model.variables import flatten, merge, unbox
from emojax.workflows.score import items_of


def logit_errors(layers: int) -> dict[str, float]:
    """{variant: RMS error relative to the float32 logits}, for 64 tokens."""
    config = LlamaConfig(
        vocab=32000, width=4096, depth=layers, heads=32, mlp=11008, lora=LoraConfig(rank=0)
    )
    ids = jnp.asarray(np.random.default_rng(0).integers(3, 32000, (1, 64)))
    at, valid = jnp.arange(64)[None], jnp.ones((1, 64), bool)

    def forward(model, ids):
        return model.logits(model(model.embed(ids), at, valid)[0])

    def logits(variables, config) -> np.ndarray:
        return np.asarray(jax.jit(lambda v: Llama(config).apply(v, ids, method=forward))(variables))

    variables = jax.jit(lambda: unbox(Llama(config).init(jax.random.key(0), ids, method=forward)))()
    exact = logits(variables, config)
    out = {}
    low = dataclasses.replace(config, precision=Precision("bfloat16", "bfloat16"))
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables)
    out["bfloat16 weights and activations"] = logits(half, low)
    renamed = {p.replace("params/", "params/llama/", 1): x for p, x in flatten(variables).items()}
    del half
    quantized = {
        p.replace("params/llama/", "params/", 1): jnp.asarray(x)
        for p, x in quantize_leaves(renamed).items()
    }
    out["int8 kernels, float32 activations"] = logits(
        merge(quantized, {}), dataclasses.replace(config, precision=Precision(kernels="int8"))
    )
    scale = np.sqrt(np.square(exact).mean())
    return {name: float(np.sqrt(np.square(x - exact).mean()) / scale) for name, x in out.items()}


def label_agreement(folder: Path, console: Console) -> dict[str, float]:
    """Accuracy on the embedded test split before and after, and the share of equal labels."""
    bundle = load_bundle(folder)
    records = [r for r in load_corpus(make_corpus(config=CorpusConfig())) if r.split == "test"]
    with shown_log(console), progress_bars(console) as progress:
        views, sampling = bundle.settings.views, bundle.settings.sampling
        source = open_views(records, views, sampling, progress=progress)["test"]
    items = items_of(source, bundle)
    before, after = (predict_labels(b, items, MODALITIES) for b in (bundle, as_int8(bundle)))
    truth = np.array([r.label for r, _ in items])
    return {
        "accuracy, float32": float((np.array(before) == truth).mean()),
        "accuracy, int8": float((np.array(after) == truth).mean()),
        "equal labels": float((np.array(before) == np.array(after)).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--model", default="runs/demo")
    args = parser.parse_args()
    setup()
    console = Console()
    table = Table("figure", "value", title="errors of int8 kernels")
    for name, value in logit_errors(args.layers).items():
        table.add_row(f"error of logits, width 4096, {args.layers} layers: {name}", f"{value:.4f}")
    if (Path(args.model) / "model.json").exists():
        for name, value in label_agreement(Path(args.model), console).items():
            table.add_row(f"{args.model}: {name}", f"{value:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
