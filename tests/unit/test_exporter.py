"""A LoRA adapter in PEFT's layout, without torch: names, orientation, rank and alpha."""

import json

import numpy as np
from random_model import LABELS, random_bundle
from safetensors.numpy import load_file

from emojax.bundle.model_folder import save_bundle
from emojax.config import load_config, resolve
from emojax.weights.exporter import export_model


def test_adapter_in_the_layout_of_peft(tmp_path):
    """PEFT stores lora_A as [rank, in] and lora_B as [out, rank]; a kernel changes by alpha / r."""
    bundle, config = random_bundle(), load_config("tiny:test")
    config.model.lora.alpha = 6.0
    save_bundle(
        tmp_path / "model",
        resolve(config),
        bundle.tokenizer,
        variables=bundle.variables,
        labels=LABELS,
        reasons=True,
    )
    export_model(tmp_path / "model", "peft", tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (written["r"], written["lora_alpha"], written["peft_type"]) == (4, 6.0, "LORA")
    assert written["target_modules"] == ["q_proj", "v_proj"]
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    ours = bundle.variables["lora"]["llama"]["blocks"]
    assert len(tensors) == 2 * 2 * len(ours["q"]["a"])
    for name, letter in (("q", "A"), ("v", "B")):
        for layer in range(len(ours[name]["a"])):
            key = (
                f"base_model.model.model.layers.{layer}.self_attn.{name}_proj.lora_{letter}.weight"
            )
            np.testing.assert_array_equal(tensors[key], ours[name][letter.lower()][layer].T)
