"""A LoRA adapter in PEFT's layout, without torch: names, orientation, rank and alpha."""

import itertools
import json

import jax
import numpy as np
from random_model import LABELS, random_bundle
from safetensors.numpy import load_file

from emojax.bundle.model_folder import save_bundle
from emojax.config import load_config, resolve
from emojax.weights.exporter import export_model


def test_adapter_in_the_layout_of_peft(tmp_path):
    """PEFT stores lora_A as [rank, in] and lora_B as [out, rank]; a kernel changes by alpha / r."""
    bundle, config = random_bundle(), load_config("tiny:test")
    variables = jax.tree.map(lambda x: x, bundle.variables)  # dicts of its own
    ours = variables["lora"]["llama"]["blocks"]
    rng = np.random.default_rng(0)
    for name in ("q", "v"):  # no two of them are equal
        ours[name] = {k: rng.normal(size=x.shape).astype("f4") for k, x in ours[name].items()}
    config.model.lora.alpha = 6.0
    save_bundle(
        tmp_path / "model",
        resolve(config),
        bundle.tokenizer,
        variables=variables,
        labels=LABELS,
        reasons=True,
    )
    export_model(tmp_path / "model", "peft", tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (written["r"], written["lora_alpha"], written["peft_type"]) == (4, 6.0, "LORA")
    assert written["target_modules"] == ["q_proj", "v_proj"]
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * len(ours["q"]["a"])
    for name, letter in itertools.product("qv", "AB"):
        for layer, matrix in enumerate(ours[name][letter.lower()]):
            where = f"base_model.model.model.layers.{layer}.self_attn.{name}_proj"
            np.testing.assert_array_equal(tensors[f"{where}.lora_{letter}.weight"], matrix.T)
