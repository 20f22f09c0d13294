"""Compares our modules with arrays made by torch; shared by the golden and the live tests."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.dense import LoraConfig
from emojax.model.encoders.whisper import Whisper, WhisperConfig
from emojax.model.layers import EncoderConfig
from emojax.model.lm.llama import Llama, LlamaConfig, make_cache
from parity import torch_names as names

TOLERANCE = 1e-4


def part(arrays: dict, prefix: str) -> dict:
    return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}


def whisper(arrays: dict, sizes: dict) -> None:
    c = sizes
    encoder = EncoderConfig(
        width=c["width"], depth=c["depth"], heads=c["heads"], mlp=c["mlp"], eps=1e-5
    )
    module = Whisper(WhisperConfig(c["mels"], c["steps"], encoder))
    tree = {"params": names.whisper_tree(part(arrays, "state/"), c["depth"])}
    out = module.apply(tree, jnp.asarray(arrays["logmel"]))
    np.testing.assert_allclose(out, arrays["out"], rtol=TOLERANCE, atol=TOLERANCE)
    # The positions that our module makes are the ones that torch computed.
    made = module.init(jax.random.key(0), jnp.asarray(arrays["logmel"]))["params"][
        "positions"
    ].value
    np.testing.assert_allclose(made, tree["params"]["positions"], rtol=1e-5, atol=1e-6)


def llama(arrays: dict, sizes: dict, lora_sizes: dict, unroll: int = 1) -> None:
    c = sizes
    lora = LoraConfig(
        rank=lora_sizes["rank"], alpha=lora_sizes["alpha"], dropout=0.0, targets=("q", "v")
    )
    config = LlamaConfig(
        vocab=c["vocab"],
        width=c["width"],
        depth=c["depth"],
        heads=c["heads"],
        mlp=c["mlp"],
        lora=lora,
        unroll=unroll,
    )
    adapters = {
        f"blocks/{name}/{side}": np.stack(
            [arrays[f"lora/{i}/{name}/{side}"].T for i in range(c["depth"])]
        )
        for name in ("q", "v")
        for side in ("a", "b")
    }
    tree = {
        "params": names.llama_tree(part(arrays, "state/"), c["depth"]),
        "lora": names.nested(adapters),
    }
    model = Llama(config)

    def run(method, *args, **options):
        return model.apply(tree, *args, method=method, **options)

    ids, further = jnp.asarray(arrays["ids"]), jnp.asarray(arrays["further"])
    x = run("embed", ids)
    for side in ("left", "right"):
        valid = jnp.asarray(arrays[f"{side}/mask"]).astype(bool)
        positions = jnp.asarray(arrays[f"{side}/positions"])
        real = np.asarray(valid)
        hidden, none = run("__call__", x, positions, valid)
        assert none is None
        logits = np.asarray(run("logits", hidden))
        np.testing.assert_allclose(
            logits[real], arrays[f"{side}/logits"][real], rtol=TOLERANCE, atol=TOLERANCE
        )
        hidden, cache = run("__call__", x, positions, valid, cache=make_cache(config, 2, 12))
        cached = np.asarray(run("logits", hidden))
        np.testing.assert_allclose(
            cached[real], arrays[f"{side}/logits"][real], rtol=TOLERANCE, atol=TOLERANCE
        )
        for t in range(further.shape[1]):
            at = valid.sum(axis=1, keepdims=True) + t
            token = run("embed", further[:, t : t + 1])
            hidden, cache = run("__call__", token, at, jnp.ones((2, 1), bool), cache=cache)
            actual = np.asarray(run("logits", hidden))[:, 0]
            np.testing.assert_allclose(
                actual, arrays[f"{side}/step_logits"][:, t], rtol=TOLERANCE, atol=TOLERANCE
            )
    # The comparison means something only if the adapters matter.
    bare = Llama(dataclasses.replace(config, lora=LoraConfig(rank=0)))
    hidden, _ = bare.apply({"params": tree["params"]}, x, positions, valid)
    without = np.asarray(bare.apply({"params": tree["params"]}, hidden, method="logits"))
    assert np.abs(without - logits)[real].max() > 0.1
