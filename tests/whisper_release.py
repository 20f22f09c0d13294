"""A folder like a release of Whisper, at tiny random size, with a tokenizer of a few words."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ["i", "am", "so", "glad", "we", "talked", "about", "your", "hat", "no"]
# Token ids: words, then end, start, languages, tasks, no times, times up to 30 s.
END, START, EN, DE, TRANSCRIBE, TRANSLATE, NO_TIMES, FIRST_TIME = range(len(WORDS), len(WORDS) + 8)
VOCAB = FIRST_TIME + 1501
WIDTH, HEADS, DEPTH, MLP, POSITIONS = 16, 2, 2, 32, 48


def config() -> dict:
    return {
        "vocab_size": VOCAB,
        "d_model": WIDTH,
        "decoder_layers": DEPTH,
        "decoder_attention_heads": HEADS,
        "decoder_ffn_dim": MLP,
        "max_target_positions": POSITIONS,
    }


def generation() -> dict:
    return {
        "decoder_start_token_id": START,
        "eos_token_id": END,
        "no_timestamps_token_id": NO_TIMES,
        "lang_to_id": {"<|en|>": EN, "<|de|>": DE},
        "task_to_id": {"transcribe": TRANSCRIBE, "translate": TRANSLATE},
        "suppress_tokens": [9, START, EN, DE, TRANSCRIBE, TRANSLATE],
        "begin_suppress_tokens": [3, END],
        "max_initial_timestamp_index": 50,
    }


def random_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    draw = lambda *shape, scale=0.4: (scale * rng.standard_normal(shape)).astype(np.float32)
    out = {
        "embed_tokens.weight": draw(VOCAB, WIDTH, scale=1.0),
        "embed_positions.weight": draw(POSITIONS, WIDTH),
    }
    norms = [
        "layer_norm",
        *(
            f"layers.{i}.{n}_layer_norm"
            for i in range(DEPTH)
            for n in ("self_attn", "encoder_attn", "final")
        ),
    ]
    for norm in norms:
        out |= {f"{norm}.weight": 1 + draw(WIDTH), f"{norm}.bias": draw(WIDTH)}
    for i in range(DEPTH):
        for kind in ("self_attn", "encoder_attn"):
            for letter in ("q", "k", "v", "out"):
                out[f"layers.{i}.{kind}.{letter}_proj.weight"] = draw(WIDTH, WIDTH)
                if letter != "k":
                    out[f"layers.{i}.{kind}.{letter}_proj.bias"] = draw(WIDTH)
        for name, a, b in (("fc1", MLP, WIDTH), ("fc2", WIDTH, MLP)):
            out |= {f"layers.{i}.{name}.weight": draw(a, b), f"layers.{i}.{name}.bias": draw(a)}
    return {f"model.decoder.{k}": v for k, v in out.items()}


def write_release(folder: Path, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config()))
    (folder / "generation_config.json").write_text(json.dumps(generation()))
    names = [*WORDS, *(f"<|{i}|>" for i in range(len(WORDS), VOCAB))]
    tokenizer = Tokenizer(
        models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="no")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(names[len(WORDS) :])
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(random_tensors(seed), folder / "model.safetensors")
    return folder
