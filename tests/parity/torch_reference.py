"""Reference outputs of torch.

transformers' Whisper encoder and LLaMA (LoRA by hand); torch ops for fusion, EVA, resizing and
pooling. Only `make golden` and the live parity tests import this; it needs torch.
"""

import numpy as np
import torch
import transformers
from torch.nn import functional

from parity import torch_names as names


def numpy(state: dict) -> dict:
    return {k: v.detach().numpy().astype(np.float32) for k, v in state.items()}


def randomise(module: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.25 + (1.0 if parameter.ndim == 1 else 0.0))


WHISPER = {"width": 16, "depth": 2, "heads": 2, "mlp": 24, "mels": 8, "steps": 20}


def whisper(seed: int) -> dict:
    c = WHISPER
    config = transformers.WhisperConfig(
        d_model=c["width"],
        encoder_layers=c["depth"],
        encoder_attention_heads=c["heads"],
        encoder_ffn_dim=c["mlp"],
        num_mel_bins=c["mels"],
        max_source_positions=c["steps"],
        dropout=0.0,
        attn_implementation="eager",
    )
    model = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
    positions = model.embed_positions.weight.detach().clone()
    randomise(model, seed)
    with torch.no_grad():
        model.embed_positions.weight.copy_(positions)  # sinusoids are part of what is compared
    logmel = (
        np.random.default_rng(seed)
        .standard_normal((2, 2 * c["steps"], c["mels"]))
        .astype(np.float32)
    )
    with torch.no_grad():
        out = model(torch.from_numpy(logmel.transpose(0, 2, 1))).last_hidden_state.numpy()
    return {"logmel": logmel, "out": out} | {
        f"state/{k}": v for k, v in numpy(model.state_dict()).items()
    }


LLAMA = {"vocab": 48, "width": 32, "depth": 2, "heads": 4, "mlp": 40}
LORA = {"rank": 4, "alpha": 6.0}


def llama(seed: int) -> dict:
    """Rows of 7 and 4 tokens, padded left and right, then 3 tokens one by one from the cache."""
    c = LLAMA
    config = transformers.LlamaConfig(
        vocab_size=c["vocab"],
        hidden_size=c["width"],
        num_hidden_layers=c["depth"],
        num_attention_heads=c["heads"],
        intermediate_size=c["mlp"],
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    model = transformers.LlamaForCausalLM(config).eval()
    randomise(model, seed)
    out = {f"state/{k}": v for k, v in numpy(model.state_dict()).items()}
    rng = np.random.default_rng(seed)
    scale = LORA["alpha"] / LORA["rank"]
    with torch.no_grad():
        for i, layer in enumerate(model.model.layers):
            for name, projection in (("q", layer.self_attn.q_proj), ("v", layer.self_attn.v_proj)):
                a = (rng.standard_normal((LORA["rank"], c["width"])) * 0.2).astype(np.float32)
                b = (rng.standard_normal((c["width"], LORA["rank"])) * 0.2).astype(np.float32)
                out[f"lora/{i}/{name}/a"], out[f"lora/{i}/{name}/b"] = a, b
                projection.weight += scale * torch.from_numpy(
                    b @ a
                )  # what the adapter adds, merged
    ids = rng.integers(3, c["vocab"], (2, 7))
    further = rng.integers(3, c["vocab"], (2, 3))
    out |= {"ids": ids, "further": further}
    for side in ("left", "right"):
        mask = np.ones((2, 7), int)
        if side == "left":
            mask[1, :3] = 0
        else:
            mask[1, 4:] = 0
        positions = np.maximum(0, np.cumsum(mask, axis=1) - 1)
        with torch.no_grad():
            first = model(
                input_ids=torch.from_numpy(ids),
                attention_mask=torch.from_numpy(mask),
                position_ids=torch.from_numpy(positions),
                use_cache=True,
            )
            out |= {
                f"{side}/mask": mask,
                f"{side}/positions": positions,
                f"{side}/logits": first.logits.numpy(),
            }
            cache, step_logits, grown = first.past_key_values, [], mask
            for t in range(3):
                grown = np.concatenate([grown, np.ones((2, 1), int)], axis=1)
                at = mask.sum(axis=1, keepdims=True) + t
                step = model(
                    input_ids=torch.from_numpy(further[:, t : t + 1]),
                    attention_mask=torch.from_numpy(grown),
                    position_ids=torch.from_numpy(at),
                    past_key_values=cache,
                    use_cache=True,
                )
                cache = step.past_key_values
                step_logits.append(step.logits.numpy()[:, 0])
        out[f"{side}/step_logits"] = np.stack(step_logits, axis=1)
    return out


def conv_attention(state: dict, inputs: list[np.ndarray], blocks: int = 4) -> np.ndarray:
    """The published equations in torch ops: no softmax, SiLU residual convolutions."""
    t = {k: torch.from_numpy(np.asarray(v)) for k, v in state.items()}

    def mlp(x: torch.Tensor, name: str) -> torch.Tensor:
        x = functional.relu(functional.linear(x, t[f"{name}.0.weight"], t[f"{name}.0.bias"]))
        return functional.relu(functional.linear(x, t[f"{name}.3.weight"], t[f"{name}.3.bias"]))

    prepared = [mlp(torch.from_numpy(x), f"feats_prep.{i}") for i, x in enumerate(inputs)]
    flat = torch.cat(prepared, dim=-1)
    score = functional.linear(mlp(flat, "attention_mlp"), t["fc_att.weight"], t["fc_att.bias"])
    attended = (torch.stack(prepared, dim=-1) @ score.unsqueeze(-1)).squeeze(-1)
    x = functional.conv1d(flat.transpose(1, 2), t["conv_entry.weight"], t["conv_entry.bias"])
    for i in range(blocks):
        name = f"conv_module.conv_blocks.{i}.conv_block.0"
        x = (
            functional.silu(functional.conv1d(x, t[f"{name}.weight"], t[f"{name}.bias"], padding=1))
            + x
        )
    out = functional.linear(attended + x.transpose(1, 2), t["fc_final.weight"], t["fc_final.bias"])
    return out.numpy()


def eva(
    state: dict, pixels: np.ndarray, depth: int, heads: int, *, eps: float, final_norm: bool
) -> np.ndarray:
    """EVA in torch ops; pixels [B, 3, H, W]."""
    t = {k: torch.from_numpy(np.asarray(v)) for k, v in state.items()}
    width = t["cls_token"].shape[-1]
    patch = t["patch_embed.proj.weight"]
    x = functional.conv2d(
        torch.from_numpy(pixels), patch, t["patch_embed.proj.bias"], stride=patch.shape[-1]
    )
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([t["cls_token"].expand(x.shape[0], -1, -1), x], dim=1) + t["pos_embed"]
    for i in range(depth):
        p = f"blocks.{i}."
        h = functional.layer_norm(x, (width,), t[p + "norm1.weight"], t[p + "norm1.bias"], eps)
        bias = torch.cat(
            [t[p + "attn.q_bias"], torch.zeros(width, dtype=x.dtype), t[p + "attn.v_bias"]]
        )
        qkv = functional.linear(h, t[p + "attn.qkv.weight"], bias)
        q, k, v = qkv.reshape(*h.shape[:2], 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        h = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(h.shape)
        x = x + functional.linear(h, t[p + "attn.proj.weight"], t[p + "attn.proj.bias"])
        h = functional.layer_norm(x, (width,), t[p + "norm2.weight"], t[p + "norm2.bias"], eps)
        h = functional.gelu(functional.linear(h, t[p + "mlp.fc1.weight"], t[p + "mlp.fc1.bias"]))
        x = x + functional.linear(h, t[p + "mlp.fc2.weight"], t[p + "mlp.fc2.bias"])
    if final_norm:
        x = functional.layer_norm(x, (width,), t["norm.weight"], t["norm.bias"], eps)
    return x.numpy()


def resize(table: np.ndarray, grid: int) -> np.ndarray:
    """Positional embedding [1, 1 + n^2, D] by torch's bicubic."""
    n = round((table.shape[1] - 1) ** 0.5)
    square = torch.from_numpy(table[:, 1:]).reshape(1, n, n, -1).permute(0, 3, 1, 2)
    out = functional.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return np.concatenate(
        [table[:, :1], out.permute(0, 2, 3, 1).reshape(1, grid * grid, -1).numpy()], axis=1
    )


def adaptive_pool(x: np.ndarray, bins: int) -> np.ndarray:
    """[B, S, D] -> [B, bins, D]."""
    return (
        functional.adaptive_avg_pool1d(torch.from_numpy(x).transpose(1, 2), bins)
        .transpose(1, 2)
        .numpy()
    )


def random_state(shapes: dict, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return {
        n: (rng.standard_normal(s) * 0.2 + ("norm" in n and "weight" in n)).astype(np.float64)
        for n, s in shapes.items()
    }


__all__ = ["names"]
