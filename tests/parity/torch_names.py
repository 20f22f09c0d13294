"""State dicts with torch's names and layouts -> trees of emojax.model, for tests only."""

import re

import numpy as np


def nested(flat: dict) -> dict:
    out: dict = {}
    for path, value in flat.items():
        *parents, leaf = path.split("/")
        node = out
        for p in parents:
            node = node.setdefault(p, {})
        node[leaf] = value
    return out


def stack(state: dict, prefix: str, rename: dict, depth: int) -> dict:
    """{our path under blocks: stacked array}; rename: torch suffix -> (path, transpose)."""
    out = {}
    for suffix, (path, transpose) in rename.items():
        layers = [np.asarray(state[f"{prefix}{i}.{suffix}"]) for i in range(depth)]
        out[path] = np.stack([x.T if transpose else x for x in layers])
    return out


def fill(name: str, shape: tuple) -> np.ndarray:
    """Weights by formula: the rule of v2_parity_examples.json."""
    c = sum(map(ord, name)) % 97
    n = int(np.prod(shape))
    a = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) >= 2 else 0.1
    value = a * np.sin(0.7 * np.arange(n) + c)
    if re.search(r"norm[12]?\.weight$", name):
        value = value + 1
    return value.reshape(shape)


def sine_input(shape: tuple, c: float) -> np.ndarray:
    return np.sin(0.3 * np.arange(int(np.prod(shape))) + c).reshape(shape)


def linear(state: dict, name: str, path: str) -> dict:
    out = {f"{path}/kernel": state[f"{name}.weight"].T}
    if f"{name}.bias" in state:
        out[f"{path}/bias"] = state[f"{name}.bias"]
    return out


def conv1d(state: dict, name: str, path: str) -> dict:
    return {
        f"{path}/kernel": state[f"{name}.weight"].transpose(2, 1, 0),
        f"{path}/bias": state[f"{name}.bias"],
    }


def fusion_tree(state: dict, blocks: int) -> dict:
    flat = {}
    for i, stream in enumerate(("audio", "image", "video")):
        flat |= linear(state, f"feats_prep.{i}.0", f"prepare_{stream}/fc1")
        flat |= linear(state, f"feats_prep.{i}.3", f"prepare_{stream}/fc2")
    flat |= linear(state, "attention_mlp.0", "attention/fc1") | linear(
        state, "attention_mlp.3", "attention/fc2"
    )
    flat |= linear(state, "fc_att", "score") | linear(state, "fc_final", "out")
    flat |= conv1d(state, "conv_entry", "conv_entry")
    for i in range(blocks):
        flat |= conv1d(state, f"conv_module.conv_blocks.{i}.conv_block.0", f"conv{i}")
    return nested(flat)


def fusion_shapes(dims: list, hidden: int, width: int, out: int, blocks: int = 4) -> dict:
    shapes = {}
    for i, d in enumerate(dims):
        shapes |= {f"feats_prep.{i}.0.weight": (hidden, d), f"feats_prep.{i}.0.bias": (hidden,)}
        shapes |= {f"feats_prep.{i}.3.weight": (width, hidden), f"feats_prep.{i}.3.bias": (width,)}
    shapes |= {"attention_mlp.0.weight": (hidden, 3 * width), "attention_mlp.0.bias": (hidden,)}
    shapes |= {"attention_mlp.3.weight": (width, hidden), "attention_mlp.3.bias": (width,)}
    shapes |= {"fc_att.weight": (3, width), "fc_att.bias": (3,)}
    shapes |= {"conv_entry.weight": (width, 3 * width, 1), "conv_entry.bias": (width,)}
    for i in range(blocks):
        name = f"conv_module.conv_blocks.{i}.conv_block.0"
        shapes |= {f"{name}.weight": (width, width, 3), f"{name}.bias": (width,)}
    return shapes | {"fc_final.weight": (out, width), "fc_final.bias": (out,)}


def stage_shapes() -> dict:
    """The 166 tensors of an Emotion-LLaMAv2 stage checkpoint at their true size."""
    shapes = {}
    for i in range(32):
        for p in "qv":
            name = f"llama_model.base_model.model.model.layers.{i}.self_attn.{p}_proj"
            shapes |= {f"{name}.lora_A.weight": (64, 4096), f"{name}.lora_B.weight": (4096, 64)}
    for name, width in (("", 5632), ("_video", 1408), ("_audio", 1280), ("_fusion", 256)):
        shapes |= {f"llama_proj{name}.weight": (4096, width), f"llama_proj{name}.bias": (4096,)}
    fusion = fusion_shapes([1280, 1408, 1408], 512, 128, 256)
    return shapes | {f"conv_pro_module.{n}": s for n, s in fusion.items()}


def eva_tree(state: dict, depth: int, final_norm: bool) -> dict:
    width = state["cls_token"].shape[-1]
    patch = state["patch_embed.proj.weight"]
    flat = {
        "patch/kernel": patch.transpose(2, 3, 1, 0).reshape(-1, width),
        "patch/bias": state["patch_embed.proj.bias"],
        "cls": state["cls_token"],
        "positions": state["pos_embed"],
    }
    blocks: dict = {}
    for i in range(depth):
        p = f"blocks.{i}."
        qkv = state[p + "attn.qkv.weight"].T
        one = {"q/bias": state[p + "attn.q_bias"], "v/bias": state[p + "attn.v_bias"]}
        for j, name in enumerate("qkv"):
            one[f"{name}/kernel"] = qkv[:, j * width : (j + 1) * width]
        one |= linear(state, p + "attn.proj", "proj") | linear(state, p + "mlp.fc1", "fc1")
        one |= linear(state, p + "mlp.fc2", "fc2")
        for norm in ("norm1", "norm2"):
            one |= {
                f"{norm}/scale": state[f"{p}{norm}.weight"],
                f"{norm}/bias": state[f"{p}{norm}.bias"],
            }
        for key, value in one.items():
            blocks.setdefault(key, []).append(value)
    flat |= {f"encoder/blocks/{k}": np.stack(v) for k, v in blocks.items()}
    if final_norm:
        flat |= {"norm/scale": state["norm.weight"], "norm/bias": state["norm.bias"]}
    return nested(flat)


def eva_shapes(image: int, patch: int, width: int, depth: int, mlp: int) -> dict:
    tokens = 1 + (image // patch) ** 2
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, tokens, width)}
    shapes |= {
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    for i in range(depth):
        p = f"blocks.{i}."
        for norm in ("norm1", "norm2"):
            shapes |= {f"{p}{norm}.weight": (width,), f"{p}{norm}.bias": (width,)}
        shapes |= {f"{p}attn.q_bias": (width,), f"{p}attn.v_bias": (width,)}
        shapes |= {f"{p}attn.qkv.weight": (3 * width, width)}
        shapes |= {f"{p}attn.proj.weight": (width, width), f"{p}attn.proj.bias": (width,)}
        shapes |= {f"{p}mlp.fc1.weight": (mlp, width), f"{p}mlp.fc1.bias": (mlp,)}
        shapes |= {f"{p}mlp.fc2.weight": (width, mlp), f"{p}mlp.fc2.bias": (width,)}
    return shapes


def whisper_tree(state: dict, depth: int) -> dict:
    flat = conv1d(state, "conv1", "conv1") | conv1d(state, "conv2", "conv2")
    flat |= {"positions": state["embed_positions.weight"]}
    flat |= {"norm/scale": state["layer_norm.weight"], "norm/bias": state["layer_norm.bias"]}
    rename = {}
    for ours, theirs in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("proj", "out_proj")):
        rename[f"self_attn.{theirs}.weight"] = (f"{ours}/kernel", True)
        if ours != "k":
            rename[f"self_attn.{theirs}.bias"] = (f"{ours}/bias", False)
    for name in ("fc1", "fc2"):
        rename |= {
            f"{name}.weight": (f"{name}/kernel", True),
            f"{name}.bias": (f"{name}/bias", False),
        }
    for ours, theirs in (("norm1", "self_attn_layer_norm"), ("norm2", "final_layer_norm")):
        rename |= {
            f"{theirs}.weight": (f"{ours}/scale", False),
            f"{theirs}.bias": (f"{ours}/bias", False),
        }
    flat |= {f"encoder/blocks/{k}": v for k, v in stack(state, "layers.", rename, depth).items()}
    return nested(flat)


def llama_tree(state: dict, depth: int) -> dict:
    flat = {"embed": state["model.embed_tokens.weight"], "norm/scale": state["model.norm.weight"]}
    flat |= {"head/kernel": state["lm_head.weight"].T}
    rename = {}
    for name in "qkvo":
        rename[f"self_attn.{name}_proj.weight"] = (f"{name}/kernel", True)
    for name in ("gate", "up", "down"):
        rename[f"mlp.{name}_proj.weight"] = (f"{name}/kernel", True)
    rename |= {
        "input_layernorm.weight": ("norm1/scale", False),
        "post_attention_layernorm.weight": ("norm2/scale", False),
    }
    flat |= {f"blocks/{k}": v for k, v in stack(state, "model.layers.", rename, depth).items()}
    return nested(flat)
