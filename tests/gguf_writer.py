"""Writes small GGUF files of random tensors, as llama.cpp's converter does, for tests."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WIDTH, HEADS, KV_HEADS, HEAD, MLP, VOCAB, LAYERS = 32, 4, 2, 8, 64, 300, 2
ROWS = {"q": HEADS * HEAD, "k": KV_HEADS * HEAD, "v": KV_HEADS * HEAD}
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


def tensors(architecture: str, *, tied: bool = True, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors under the names of transformers."""
    draw = np.random.default_rng(seed)

    def make(*shape: int) -> np.ndarray:
        return (draw.standard_normal(shape) / 4).astype(np.float32)

    out = {"model.embed_tokens.weight": make(VOCAB, WIDTH), "model.norm.weight": make(WIDTH)}
    if not tied:
        out["lm_head.weight"] = make(VOCAB, WIDTH)
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            out[f"{layer}.{norm}.weight"] = make(WIDTH)
        for p, rows in ROWS.items():
            out[f"{layer}.self_attn.{p}_proj.weight"] = make(rows, WIDTH)
            if architecture == "qwen2":
                out[f"{layer}.self_attn.{p}_proj.bias"] = make(rows)
            if architecture == "qwen3" and p != "v":
                out[f"{layer}.self_attn.{p}_norm.weight"] = make(HEAD)
        out[f"{layer}.self_attn.o_proj.weight"] = make(WIDTH, HEADS * HEAD)
        for p, shape in (("gate", (MLP, WIDTH)), ("up", (MLP, WIDTH)), ("down", (WIDTH, MLP))):
            out[f"{layer}.mlp.{p}_proj.weight"] = make(*shape)
    return out


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    **{f"self_attn.{p}_proj": f"attn_{p}" for p in "qkv"},
    **{f"mlp.{p}_proj": f"ffn_{p}" for p in ("gate", "up", "down")},
}


def gguf_name(name: str) -> str:
    stem, end = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        _, _, i, rest = stem.split(".", 3)
        return f"blk.{i}.{NAMES[rest]}.{end}"
    return f"{NAMES[stem]}.{end}"


def interleaved(x: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head 0, 1, 2, ... -> 0, h/2, 1, h/2 + 1, ...: pairs of RoPE side by side."""
    half = len(x) // heads // 2
    order = [h * 2 * half + at for h in range(heads) for i in range(half) for at in (i, half + i)]
    return x[order]


def small_tokenizer() -> Tokenizer:
    """Byte-level BPE of VOCAB tokens; the first three are those of SmolLM2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = "the small cat sat on the small mat and the other one sat in 1989 or 1990 at 1998"
    tokenizer.train_from_iterator([words] * 4, trainer)
    return tokenizer


def write_gguf(
    path: Path,
    architecture: str,
    values: dict[str, np.ndarray],
    *,
    stored: str = "F32",
    extra: dict | None = None,
    rope: np.ndarray | None = None,
    head: int | None = None,
) -> Path:
    """Writes a file; `stored`: type of the matrices; `extra`: more numbers of the metadata."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("small thing")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100_000.0)
    if head:
        writer.add_key_length(head)
    for key, value in (extra or {}).items():
        add = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}
        add[type(value)](key, value)
    tokenizer = small_tokenizer()
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    tokens += [f"unused{i}" for i in range(len(tokens), VOCAB)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if t.startswith("<|") else 1 for t in tokens])
    import json

    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(m) for m in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, value in values.items():
        heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2], 0)
        x = interleaved(value, heads) if heads and architecture == "llama" else value
        kind = gguf.GGMLQuantizationType[stored if x.ndim == 2 else "F32"]
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(x, kind), raw_dtype=kind)
    if rope is not None:
        writer.add_tensor("rope_freqs.weight", rope.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
