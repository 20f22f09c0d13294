"""Whole encoders through the importers: torch writes a file, we read it, outputs agree (1e-4)."""

import argparse
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file

from emojax.model.dense import LoraConfig
from emojax.model.encoders.eva import eva_tables
from emojax.model.encoders.hubert import hubert_tables
from emojax.model.encoders.mae import MAE_TABLES
from emojax.model.encoders.videomae import VIDEOMAE_TABLES, VideoMae, VideoMaeConfig
from emojax.model.encoders.vision_transformer import PictureConfig, VisionTransformer
from emojax.model.encoders.waveform import WaveformConfig, WaveformEncoder
from emojax.model.encoders.whisper import Whisper, WhisperConfig, whisper_tables
from emojax.model.layers import EncoderConfig
from emojax.model.lm.families import decoder_table
from emojax.model.lm.llama import Llama, LlamaConfig
from emojax.model.variables import unbox
from emojax.weights.load_tensors import choose_table, load_tensors, save_tensors
from emojax.weights.tensor_files import open_tensors

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
BLOCKS = EncoderConfig(width=16, depth=2, heads=2, mlp=24, eps=1e-6)


def random_weights(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.2 + (1.0 if parameter.ndim == 1 else 0.0))
        for name, parameter in module.named_parameters():
            if name.endswith("original0"):
                parameter.abs_()  # a length, in torch's weight norm
    return module.eval()


def through_file(folder, state, module, table, *inputs):
    """Writes `state`, imports it into `module`, applies it; exporting gives the same tensors."""
    path = folder / "weights.pth"
    torch.save({"model": state}, path)
    shapes = jax.eval_shape(lambda: unbox(module.init(jax.random.key(0), *inputs)))["params"]
    leaves = traverse_util.flatten_dict(shapes, sep="/")
    tensors = open_tensors(path)
    table = choose_table(table, tensors) if isinstance(table, tuple) else table
    flat = load_tensors(table, tensors, leaves)
    assert set(flat) == set(leaves), "a leaf without a rule would keep its random start"
    for name, value in save_tensors(table, flat).items():
        if name in state and not name.endswith(
            ("original1", "weight_v")
        ):  # whose length is lost: weight norm divides it away
            np.testing.assert_allclose(
                value, state[name].numpy(), rtol=1e-5, atol=1e-6, err_msg=name
            )
    return np.asarray(
        module.apply({"params": traverse_util.unflatten_dict(flat, sep="/")}, *inputs)
    )


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_whisper_encoder(tmp_path):
    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        num_mel_bins=8,
        max_source_positions=20,
        vocab_size=60,
        pad_token_id=0,
        decoder_start_token_id=1,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = random_weights(transformers.WhisperForConditionalGeneration(config), 1)
    logmel = np.random.default_rng(0).standard_normal((2, 40, 8)).astype(np.float32)
    module = Whisper(
        WhisperConfig(8, 20, EncoderConfig(width=16, depth=2, heads=2, mlp=24, eps=1e-5))
    )
    ours = through_file(tmp_path, model.state_dict(), module, whisper_tables(), jnp.asarray(logmel))
    close(ours, model.model.encoder(torch.from_numpy(logmel.transpose(0, 2, 1))).last_hidden_state)


def test_llama(tmp_path):
    config = transformers.LlamaConfig(
        vocab_size=48, tie_word_embeddings=False, rms_norm_eps=1e-5, **SMALL
    )
    model = random_weights(transformers.LlamaForCausalLM(config), 2)
    ids = np.random.default_rng(0).integers(0, 48, (2, 7))
    module = Llama(
        LlamaConfig(vocab=48, width=16, depth=2, heads=2, mlp=24, lora=LoraConfig(rank=0))
    )
    path = tmp_path / "llama.pth"
    torch.save(model.state_dict(), path)
    at, valid = jnp.broadcast_to(jnp.arange(7), (2, 7)), jnp.ones((2, 7), bool)
    x = jnp.zeros((2, 7, 16))

    def everything(model):
        model.embed(jnp.zeros((2, 7), jnp.int32))
        return model.logits(model(x, at, valid)[0])

    shapes = jax.eval_shape(lambda: unbox(module.init(jax.random.key(0), method=everything)))[
        "params"
    ]
    leaves = traverse_util.flatten_dict(shapes, sep="/")
    flat = load_tensors(decoder_table(module.config), open_tensors(path), leaves)
    tree = {"params": traverse_util.unflatten_dict(flat, sep="/")}
    hidden, _ = module.apply(tree, module.apply(tree, jnp.asarray(ids), method="embed"), at, valid)
    close(
        module.apply(tree, hidden, method="logits"), model(input_ids=torch.from_numpy(ids)).logits
    )


@pytest.mark.parametrize("stable", [True, False])
def test_hubert(tmp_path, stable):
    """Large: LayerNorm after every convolution, pre-norm. Base: one group norm, post-norm."""
    norm = "layer" if stable else "group"
    config = transformers.HubertConfig(
        conv_dim=(8, 8, 8),
        conv_kernel=(10, 3, 2),
        conv_stride=(5, 2, 2),
        conv_bias=stable,
        feat_extract_norm=norm,
        do_stable_layer_norm=stable,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        layer_norm_eps=1e-5,
        **SMALL,
    )
    model = random_weights(transformers.HubertModel(config), 3)
    blocks = EncoderConfig(
        width=16, depth=2, heads=2, mlp=24, eps=1e-5, key_bias=True, post_norm=not stable
    )
    module = WaveformEncoder(
        WaveformConfig(
            samples=400,
            normalize=False,
            encoder=blocks,
            conv_widths=(8, 8, 8),
            conv_kernels=(10, 3, 2),
            conv_strides=(5, 2, 2),
            conv_norm=norm,
            conv_bias=stable,
            position_kernel=8,
            position_groups=4,
        )
    )
    wave = np.random.default_rng(0).standard_normal((2, 400)).astype(np.float32)
    theirs = model(torch.from_numpy(wave)).last_hidden_state
    spellings = hubert_tables(module.config)
    for state in (model.state_dict(), fairseq_hubert(model.state_dict(), stable)):
        close(
            through_file(tmp_path, state, module, spellings, jnp.asarray(wave)[..., None]), theirs
        )


def fairseq_hubert(state, stable):
    """transformers' names -> fairseq's, plus the tensors of its pretraining."""
    place = "2.1" if stable else "2"
    changes = (
        (r"feature_extractor\.conv_layers\.(\d)\.conv\.", r"feature_extractor.conv_layers.\1.0."),
        (
            r"feature_extractor\.conv_layers\.(\d)\.layer_norm\.",
            rf"feature_extractor.conv_layers.\1.{place}.",
        ),
        (r"feature_projection\.layer_norm", "layer_norm"),
        (r"feature_projection\.projection", "post_extract_proj"),
        (r"pos_conv_embed\.conv\.parametrizations\.weight\.original0", "pos_conv.0.weight_g"),
        (r"pos_conv_embed\.conv\.parametrizations\.weight\.original1", "pos_conv.0.weight_v"),
        (r"pos_conv_embed\.conv", "pos_conv.0"),
        (r"(layers\.\d)\.layer_norm", r"\1.self_attn_layer_norm"),
        (r"\.attention\.", ".self_attn."),
        (r"feed_forward\.intermediate_dense", "fc1"),
        (r"feed_forward\.output_dense", "fc2"),
        ("masked_spec_embed", "mask_emb"),
    )
    out = {"final_proj.weight": torch.zeros(2, 2)}
    for name, value in state.items():
        renamed = name
        for pattern, to in changes:
            renamed = re.sub(pattern, to, renamed)
        out[renamed] = value
    return out


def test_mae(tmp_path):
    config = transformers.ViTMAEConfig(
        image_size=32, patch_size=8, mask_ratio=0.0, layer_norm_eps=1e-6, **SMALL
    )
    model = random_weights(transformers.ViTMAEModel(config), 4)
    encoder = EncoderConfig(width=16, depth=2, heads=2, mlp=24, eps=1e-6, key_bias=True)
    module = VisionTransformer(
        PictureConfig(
            image_size=32, patch=8, encoder=encoder, final_norm=True, mean=(0, 0, 0), std=(1, 1, 1)
        )
    )
    pixels = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    # Without masking MAE still shuffles; increasing noise keeps the order.
    order = torch.arange(16.0)[None].expand(2, 16)
    theirs = model(torch.from_numpy(pixels.transpose(0, 3, 1, 2)), noise=order).last_hidden_state
    for state in (
        written(model, tmp_path),
        with_prefix(written(model, tmp_path)),
        original_mae(model.state_dict()),
    ):
        close(through_file(tmp_path, state, module, MAE_TABLES, jnp.asarray(pixels)), theirs)


def written(model, folder):
    """The names that transformers writes to files; its modules have other names."""
    model.save_pretrained(folder)
    return {n: torch.from_numpy(a) for n, a in load_file(folder / "model.safetensors").items()}


def with_prefix(state, prefix="vit."):
    """The encoder as part of the pretrained model."""
    return {f"{prefix}{k}": v for k, v in state.items()} | {"decoder.mask_token": torch.zeros(2)}


def original_mae(state):
    """transformers' names -> those of the original repository and timm, with one qkv matrix."""
    out = {
        "cls_token": state["embeddings.cls_token"],
        "pos_embed": state["embeddings.position_embeddings"],
    }
    for end in ("weight", "bias"):
        out[f"patch_embed.proj.{end}"] = state[f"embeddings.patch_embeddings.projection.{end}"]
        out[f"norm.{end}"] = state[f"layernorm.{end}"]
        out[f"decoder_embed.{end}"] = torch.zeros(3)  # of the pretraining; ignored by name
        for i in range(2):
            ours, theirs = f"blocks.{i}", f"layers.{i}"
            parts = [state[f"{theirs}.attention.{p}_proj.{end}"] for p in "qkv"]
            out[f"{ours}.attn.qkv.{end}"] = torch.cat(parts)
            out[f"{ours}.attn.proj.{end}"] = state[f"{theirs}.attention.o_proj.{end}"]
            for fc in ("fc1", "fc2"):
                out[f"{ours}.mlp.{fc}.{end}"] = state[f"{theirs}.mlp.{fc}.{end}"]
            out[f"{ours}.norm1.{end}"] = state[f"{theirs}.layernorm_before.{end}"]
            out[f"{ours}.norm2.{end}"] = state[f"{theirs}.layernorm_after.{end}"]
    return out


def test_videomae(tmp_path):
    config = transformers.VideoMAEConfig(
        image_size=16,
        patch_size=8,
        num_frames=4,
        layer_norm_eps=1e-6,
        use_mean_pooling=False,
        **SMALL,
    )
    model = random_weights(transformers.VideoMAEModel(config), 5)
    frames = np.random.default_rng(0).standard_normal((2, 4, 16, 16, 3)).astype(np.float32)
    module = VideoMae(VideoMaeConfig(image_size=16, patch=8, num_frames=4, encoder=BLOCKS))
    theirs = model(torch.from_numpy(frames.transpose(0, 1, 4, 2, 3))).last_hidden_state
    state = written(model, tmp_path)
    for variant in (state, with_prefix(state, "videomae."), original_videomae(model.state_dict())):
        close(
            through_file(tmp_path, variant, module, VIDEOMAE_TABLES, jnp.asarray(frames)),
            theirs,
        )


def original_videomae(state):
    """transformers' module names -> the original repository's pretraining names."""
    out = {"decoder.blocks.0.attn.qkv.weight": torch.zeros(2), "mask_token": torch.zeros(2)}
    for end in ("weight", "bias"):
        out[f"encoder.patch_embed.proj.{end}"] = state[
            f"embeddings.patch_embeddings.projection.{end}"
        ]
        out[f"encoder.norm.{end}"] = state[f"layernorm.{end}"]
    for i in range(2):
        ours, theirs = f"encoder.blocks.{i}", f"encoder.layer.{i}"
        heads = [f"{theirs}.attention.attention.{n}" for n in ("query", "key", "value")]
        out[f"{ours}.attn.qkv.weight"] = torch.cat([state[f"{h}.weight"] for h in heads])
        out[f"{ours}.attn.q_bias"], out[f"{ours}.attn.v_bias"] = (
            state[f"{h}.bias"] for h in heads[::2]
        )
        for end in ("weight", "bias"):
            out[f"{ours}.attn.proj.{end}"] = state[f"{theirs}.attention.output.dense.{end}"]
            out[f"{ours}.mlp.fc1.{end}"] = state[f"{theirs}.intermediate.dense.{end}"]
            out[f"{ours}.mlp.fc2.{end}"] = state[f"{theirs}.output.dense.{end}"]
            out[f"{ours}.norm1.{end}"] = state[f"{theirs}.layernorm_before.{end}"]
            out[f"{ours}.norm2.{end}"] = state[f"{theirs}.layernorm_after.{end}"]
    return out


@pytest.mark.parametrize("final_norm", [False, True])
def test_eva_is_the_vision_tower_of_blip2(tmp_path, final_norm):
    """A file of three blocks: the video encoder uses all and the norm, the image encoder two."""
    config = transformers.Blip2VisionConfig(
        image_size=28, patch_size=7, layer_norm_eps=1e-6, **{**SMALL, "num_hidden_layers": 3}
    )
    model = random_weights(transformers.Blip2VisionModel(config), 6)
    for layer in model.encoder.layers:
        layer.self_attn.qkv.bias.data[16:32] = 0  # k has no bias
    state = {
        "cls_token": model.embeddings.class_embedding,
        "pos_embed": model.embeddings.position_embedding,
    }
    state |= {"head.weight": torch.zeros(5, 16), "head.bias": torch.zeros(5)}
    for end in ("weight", "bias"):
        state[f"patch_embed.proj.{end}"] = getattr(model.embeddings.patch_embedding, end)
        state[f"norm.{end}"] = getattr(model.post_layernorm, end)
        for i, layer in enumerate(model.encoder.layers):
            state[f"blocks.{i}.attn.proj.{end}"] = getattr(layer.self_attn.projection, end)
            for ours, theirs in (("norm1", layer.layer_norm1), ("norm2", layer.layer_norm2)):
                state[f"blocks.{i}.{ours}.{end}"] = getattr(theirs, end)
            for fc in ("fc1", "fc2"):
                state[f"blocks.{i}.mlp.{fc}.{end}"] = getattr(getattr(layer.mlp, fc), end)
    for i, layer in enumerate(model.encoder.layers):
        state[f"blocks.{i}.attn.qkv.weight"] = layer.self_attn.qkv.weight
        state[f"blocks.{i}.attn.q_bias"] = layer.self_attn.qkv.bias[:16]
        state[f"blocks.{i}.attn.v_bias"] = layer.self_attn.qkv.bias[32:]
    state = {k: v.detach().clone() for k, v in state.items()}
    depth = 3 if final_norm else 2
    module = VisionTransformer(
        PictureConfig(
            image_size=28,
            patch=7,
            encoder=EncoderConfig(width=16, depth=depth, heads=2, mlp=24, eps=1e-6),
            final_norm=final_norm,
            mean=(0, 0, 0),
            std=(1, 1, 1),
        )
    )
    pixels = np.random.default_rng(0).standard_normal((2, 28, 28, 3)).astype(np.float32)
    ours = through_file(tmp_path, state, module, eva_tables(module.config), jnp.asarray(pixels))
    tensor = torch.from_numpy(pixels.transpose(0, 3, 1, 2))
    if final_norm:
        close(ours, model(tensor).last_hidden_state)
    else:
        hidden = model.embeddings(tensor)
        for layer in model.encoder.layers[:2]:
            hidden = layer(hidden)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        close(ours, hidden)


def test_damaged_torch_files_and_files_with_code_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"w": torch.ones(3)}, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"weights\.pth cannot be read"):
        open_tensors(path)
    torch.save({"w": torch.ones(3), "code": np.random.default_rng}, path)
    with pytest.raises(ValueError, match="it contains code"):
        open_tensors(path)
    torch.save({"model": {"w": torch.ones(3)}, "args": argparse.Namespace(lr=1)}, path)
    assert set(open_tensors(path)) == {"w"}, "options of a training script are harmless"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"weights\.pth cannot be read .* damaged"):
        open_tensors(path)
    torch.save([torch.ones(3)], path)
    with pytest.raises(ValueError, match="it is not a dictionary"):
        open_tensors(path)
    torch.save({"step": 3}, path)
    with pytest.raises(ValueError, match="has no named tensors"):
        open_tensors(path)
