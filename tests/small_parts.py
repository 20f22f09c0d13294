"""Small pretrained parts in the layout of transformers, made without torch."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3_SWITCH = (
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}"
)
SIZES = {"vocab": 320, "width": 24, "depth": 2, "heads": 6, "kv_heads": 2, "mlp": 40}


def write_tokenizer(
    folder: Path,
    *,
    specials: tuple[str, ...] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    template: str = CHATML,
    metaspace: bool = False,
) -> None:
    """A tokenizer of bytes: byte-level as of Qwen, Llama 3 and SmolLM2, or as of Mistral."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    if metaspace:
        pieces = [f"<0x{i:02X}>" for i in range(256)]
        vocab = {piece: i for i, piece in enumerate(["<unk>", "\u2581", *pieces])}
        model = tokenizers.Tokenizer(models.BPE(vocab, [], byte_fallback=True, unk_token="<unk>"))
        model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        model.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    else:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        model = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
    model.add_special_tokens(list(specials))
    model.save(str(folder / "tokenizer.json"))
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": specials[-1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts | {"chat_template": template}))


def write_language_model(folder: Path, *, model_type: str = "qwen2", seed: int = 0) -> dict:
    """A language model with random weights; returns its tensors by transformers' names."""
    folder.mkdir(parents=True, exist_ok=True)
    s, rng = SIZES, np.random.default_rng(seed)
    head = s["width"] // s["heads"]
    config = {
        "model_type": model_type,
        "vocab_size": s["vocab"],
        "hidden_size": s["width"],
        "num_hidden_layers": s["depth"],
        "num_attention_heads": s["heads"],
        "num_key_value_heads": s["kv_heads"],
        "intermediate_size": s["mlp"],
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {
        "model.embed_tokens.weight": (s["vocab"], s["width"]),
        "model.norm.weight": (s["width"],),
    }
    for i in range(s["depth"]):
        layer = f"model.layers.{i}"
        for p in "qkv":
            rows = head * (s["heads"] if p == "q" else s["kv_heads"])
            shapes[f"{layer}.self_attn.{p}_proj.weight"] = (rows, s["width"])
            shapes[f"{layer}.self_attn.{p}_proj.bias"] = (rows,)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (s["width"], s["width"])
        shapes[f"{layer}.mlp.gate_proj.weight"] = (s["mlp"], s["width"])
        shapes[f"{layer}.mlp.up_proj.weight"] = (s["mlp"], s["width"])
        shapes[f"{layer}.mlp.down_proj.weight"] = (s["width"], s["mlp"])
        shapes[f"{layer}.input_layernorm.weight"] = (s["width"],)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (s["width"],)
    tensors = {n: rng.standard_normal(x).astype(np.float32) * 0.1 for n, x in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder)
    return tensors
