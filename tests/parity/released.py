"""Tiny files in the layouts of the released projects and encoders, and their outputs in torch.

Everything here is torch and transformers: what they compute is the reference.
"""

import numpy as np
import small_files
import torch
import transformers
from torch.nn import functional

from parity import torch_names, torch_reference

WIDTH, MLP, HEADS, VOCAB, LLAMA_WIDTH, RANK = 16, 32, 2, 512, 32, 4
PROJECTIONS = ("q", "v")


def randomise(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    torch_reference.randomise(module, seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("original0"):
                parameter.abs_()  # a length, in torch's weight norm
    return module.eval()


def llama(folder, seed: int = 1):
    """transformers' own files: two shards of safetensors with an index, and the tokenizer."""
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=LLAMA_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        attn_implementation="eager",
        eos_token_id=2,
    )
    model = randomise(transformers.LlamaForCausalLM(config), seed)
    model.save_pretrained(folder, max_shard_size="60KB")
    small_files.tokenizer(folder)
    return model


def eva_file(path, depth: int, seed: int = 2) -> dict:
    """`eva_vit_g.pth`: a float16 dict with all blocks, norm, head, positions of the small grid."""
    shapes = torch_names.eva_shapes(16, 8, WIDTH, depth, MLP)
    shapes |= {
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "head.weight": (4, WIDTH),
        "head.bias": (4,),
    }
    state = {k: v.astype(np.float16) for k, v in torch_reference.random_state(shapes, seed).items()}
    torch.save({k: torch.from_numpy(v) for k, v in state.items()}, path)
    return {k: v.astype(np.float32) for k, v in state.items()}


def whisper(folder, mels: int, steps: int, seed: int = 3):
    config = transformers.WhisperConfig(
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=MLP,
        decoder_ffn_dim=MLP,
        num_mel_bins=mels,
        max_source_positions=steps,
        vocab_size=60,
        pad_token_id=0,
        decoder_start_token_id=1,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = randomise(transformers.WhisperForConditionalGeneration(config), seed)
    model.save_pretrained(folder)
    return model.model.encoder


SMALL = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "intermediate_size": MLP,
}


def hubert(folder, seed: int = 4):
    config = transformers.HubertConfig(
        conv_dim=(8,) * 7,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        layer_norm_eps=1e-5,
        **SMALL,
    )
    model = randomise(transformers.HubertModel(config), seed)
    model.save_pretrained(folder)
    return model


def mae(folder, seed: int = 5):
    config = transformers.ViTMAEConfig(
        image_size=16, patch_size=8, mask_ratio=0.0, layer_norm_eps=1e-6, **SMALL
    )
    model = randomise(transformers.ViTMAEModel(config), seed)
    model.save_pretrained(folder)
    return model


def videomae(folder, frames: int, seed: int = 6):
    config = transformers.VideoMAEConfig(
        image_size=16,
        patch_size=8,
        num_frames=frames,
        layer_norm_eps=1e-6,
        use_mean_pooling=False,
        **SMALL,
    )
    model = randomise(transformers.VideoMAEModel(config), seed)
    model.save_pretrained(folder)
    return model


def lora_state(rng: np.random.Generator, newer_peft: bool = False) -> dict:
    state = {}
    end = "default.weight" if newer_peft else "weight"
    for i in range(2):
        for p in PROJECTIONS:
            name = f"llama_model.base_model.model.model.layers.{i}.self_attn.{p}_proj"
            state[f"{name}.lora_A.{end}"] = rng.standard_normal((RANK, LLAMA_WIDTH)) * 0.2
            state[f"{name}.lora_B.{end}"] = rng.standard_normal((LLAMA_WIDTH, RANK)) * 0.2
    return state


def linear_state(rng: np.random.Generator, name: str, d_in: int, d_out: int) -> dict:
    return {
        f"{name}.weight": rng.standard_normal((d_out, d_in)) * 0.2,
        f"{name}.bias": rng.standard_normal(d_out) * 0.2,
    }


def stage_checkpoint(path, seed: int = 7, newer_peft: bool = False) -> dict:
    """Emotion-LLaMAv2: the trainable parameters, with optimizer and config."""
    rng = np.random.default_rng(seed)
    state = lora_state(rng, newer_peft)
    for name, width in (("", 4 * WIDTH), ("_video", WIDTH), ("_audio", WIDTH), ("_fusion", 16)):
        state |= linear_state(rng, f"llama_proj{name}", width, LLAMA_WIDTH)
    shapes = torch_names.fusion_shapes([WIDTH] * 3, 16, 16, 16)
    state |= {f"conv_pro_module.{n}": rng.standard_normal(s) * 0.2 for n, s in shapes.items()}
    return write_checkpoint(path, state)


def v1_checkpoint(path, seed: int = 8, newer_peft: bool = False) -> dict:
    """Emotion-LLaMA: five projections, LoRA and an unused module."""
    rng = np.random.default_rng(seed)
    state = lora_state(rng, newer_peft) | linear_state(rng, "llama_proj", 4 * WIDTH, LLAMA_WIDTH)
    for number in (1, 2, 3):
        state |= linear_state(rng, f"feats_llama_proj{number}", WIDTH, LLAMA_WIDTH)
    state |= linear_state(rng, "cls_tk_llama_proj", WIDTH, LLAMA_WIDTH)
    state |= linear_state(rng, "attention.fc_att", 5, 7) | linear_state(
        rng, "attention.feats_prep.0.0", 4, 4
    )
    return write_checkpoint(path, state)


def write_checkpoint(path, state: dict) -> dict:
    tensors = {k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in state.items()}
    extra = {
        "optimizer": {"state": {}, "param_groups": []},
        "scaler": None,
        "epoch": 9,
        "config": {"a": 1},
    }
    torch.save({"model": tensors, **extra}, path)
    return tensors


def merge_lora(model, state: dict, scale: float) -> None:
    for i, layer in enumerate(model.model.layers):
        for p in PROJECTIONS:
            name = f"llama_model.base_model.model.model.layers.{i}.self_attn.{p}_proj"
            a, b = (
                next(v for k, v in state.items() if k.startswith(f"{name}.lora_{side}"))
                for side in "AB"
            )
            getattr(layer.self_attn, f"{p}_proj").weight.data += scale * (b @ a)


def project(state: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def normalised(pixels: np.ndarray, mean, std) -> np.ndarray:
    """uint8[..., H, W, 3] -> float32[..., 3, H, W]."""
    scaled = (pixels.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return np.moveaxis(scaled, -1, -3).astype(np.float32)


def image_tokens(eva: dict, pixels: np.ndarray, depth: int) -> torch.Tensor:
    """Image encoder (positions resized, last block omitted, no norm), then ln_vision."""
    grid = pixels.shape[-1] // 8
    state = {**eva, "pos_embed": torch_reference.resize(eva["pos_embed"], grid)}
    out = torch.from_numpy(
        torch_reference.eva(state, pixels, depth, HEADS, eps=1e-6, final_norm=False)
    )
    return functional.layer_norm(out, (WIDTH,), eps=1e-5)


def v2_soft_prompt(
    state, eva, whisper_encoder, *, image, frames, logmel, tokens: int
) -> torch.Tensor:
    """[1, Q, D] of one clip, as the released code computes it."""
    raw = image_tokens(eva, image[None], 2)
    video = torch.from_numpy(torch_reference.eva(eva, frames, 3, HEADS, eps=1e-6, final_norm=True))[
        :, 1:
    ]
    video = video.reshape(len(frames), 2, 2, WIDTH).mean(dim=(1, 2))[None]
    with torch.no_grad():
        audio = whisper_encoder(torch.from_numpy(logmel.T[None])).last_hidden_state
    audio = torch.from_numpy(torch_reference.adaptive_pool(audio.numpy(), tokens))
    cls = raw[:, :1].expand(1, tokens, WIDTH)
    fusion = {
        k.removeprefix("conv_pro_module."): v for k, v in state.items() if k.startswith("conv_pro")
    }
    fused = torch.from_numpy(
        torch_reference.conv_attention(fusion, [audio.numpy(), cls.numpy(), video.numpy()])
    )
    grouped = raw[:, 1:].reshape(1, -1, 4 * WIDTH)
    parts = [("_fusion", fused), ("", grouped), ("_video", video), ("_audio", audio)]
    return torch.cat([project(state, f"llama_proj{n}", x) for n, x in parts], dim=1)


def v1_soft_prompt(
    state, eva, mae_model, videomae_model, hubert_model, *, image, faces, waveform
) -> torch.Tensor:
    """[1, Q, D] of one clip: patches, MAE, VideoMAE, HuBERT, class token."""
    raw = image_tokens(eva, image[None], 2)
    tensor = torch.from_numpy(faces)
    order = torch.arange(4.0)[None].expand(len(faces), 4)
    with torch.no_grad():
        face = mae_model(tensor, noise=order).last_hidden_state[:, 0].mean(dim=0)
        motion = videomae_model(tensor[None]).last_hidden_state.mean(dim=1)[0]
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
        values = extractor(waveform, sampling_rate=16000, return_tensors="pt").input_values
        voice = hubert_model(values).last_hidden_state.mean(dim=1)[0]
    parts = [project(state, "llama_proj", raw[:, 1:].reshape(1, -1, 4 * WIDTH))]
    for number, vector in enumerate((face, motion, voice), 1):
        parts.append(project(state, f"feats_llama_proj{number}", vector[None, None]))
    parts.append(project(state, "cls_tk_llama_proj", raw[:, :1]))
    return torch.cat(parts, dim=1)


@torch.no_grad()
def greedy(model, before: list[int], soft: torch.Tensor, after: list[int], steps: int) -> list[int]:
    """Greedy tokens by whole forward passes; the end token is not the first."""
    embed = model.get_input_embeddings()
    x = torch.cat([embed(torch.tensor([before])), soft, embed(torch.tensor([after]))], dim=1)
    out: list[int] = []
    for step in range(steps):
        logits = model(inputs_embeds=x).logits[0, -1]
        if step == 0:
            logits[2] = -torch.inf
        token = int(logits.argmax())
        out.append(token)
        if token == 2:
            break
        x = torch.cat([x, embed(torch.tensor([[token]]))], dim=1)
    return out
