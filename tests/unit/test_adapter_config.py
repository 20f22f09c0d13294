"""An adapter is applied as it was trained, or refused with the value that does not fit."""

import json

import pytest

from emojax.model.dense import LoraConfig
from emojax.weights.adapter_config import check_adapter

MODEL = LoraConfig(rank=16, alpha=16.0)
PLAIN = {
    "peft_type": "LORA",
    "base_model_name_or_path": "meta-llama/Llama-2-7b-chat-hf",
    "r": 16,
    "lora_alpha": 16,
    "bias": "none",
    "modules_to_save": None,
    "rank_pattern": {},
    "use_dora": False,
    "init_lora_weights": True,
}


def write(folder, changes):
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN | changes))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True, "lora_alpha": 4},  # 4 / sqrt(16) = 16 / 16
        {"lora_alpha": 16.0, "base_model_name_or_path": "/data/our-llama"},
        {"base_model_name_or_path": "NousResearch/Llama-2-7b-chat-hf"},
    ],
)
def test_adapters_of_the_models_scale(tmp_path, changes):
    folder = write(tmp_path, changes)
    check_adapter(folder, MODEL)
    check_adapter(folder / "adapter_model.safetensors", MODEL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"lora_alpha": 64},
            r"lora_alpha 64 and r 16, a scale of 4 .*lora_alpha / r.* applies 1 ",
        ),
        ({"use_rslora": True}, r"a scale of 4 \(lora_alpha / sqrt\(r\), use_rslora\)"),
        ({"r": 8, "lora_alpha": 8}, "rank r 8, but the model has 16"),
        ({"lora_alpha": None}, "lora_alpha None, not a number"),
        ({"use_dora": True}, "sets use_dora to True"),
        ({"rank_pattern": {"layers.0.q_proj": 4}}, "sets rank_pattern"),
        ({"alpha_pattern": {"v_proj": 32}}, "sets alpha_pattern"),
        ({"modules_to_save": ["lm_head"]}, "sets modules_to_save to .'lm_head'"),
        ({"bias": "lora_only"}, "sets bias"),
        ({"init_lora_weights": "pissa_niter_4"}, "sets init_lora_weights"),
        ({"peft_type": "IA3"}, "peft_type IA3"),
        (
            {"base_model_name_or_path": "meta-llama/Llama-2-7b-hf"},
            "trained on",
        ),
        (
            {"base_model_name_or_path": "lmsys/vicuna-7b-v1.5"},
            "the model's base is Llama-2-7b-chat",
        ),
    ],
)
def test_other_adapters_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        check_adapter(write(tmp_path, changes), MODEL)


def test_a_configuration_is_needed(tmp_path):
    tensors = tmp_path / "adapter_model.safetensors"
    with pytest.raises(ValueError, match="adapter_config.json is missing.*lora_alpha"):
        check_adapter(tensors, MODEL)
    write(tmp_path, {})
    (tmp_path / "adapter_config.json").write_text('{"r": 16}')
    with pytest.raises(ValueError, match="lacks lora_alpha"):
        check_adapter(tensors, MODEL)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        check_adapter(tensors, MODEL)
