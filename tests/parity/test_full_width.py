"""Full widths against torch through the importers: a block of each encoder, the image encoder."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from emojax.config import load_config, resolve
from emojax.config.fields import LlamaFields
from emojax.model.build import make_model
from emojax.model.dense import LoraConfig
from emojax.model.encoders.eva import eva_tables
from emojax.model.encoders.vision_transformer import PictureConfig, VisionTransformer
from emojax.model.encoders.whisper import Whisper, WhisperConfig, whisper_tables
from emojax.model.layers import EncoderConfig
from emojax.model.lm.families import decoder_table, write_config
from emojax.model.lm.llama import Llama
from emojax.model.parts import release_named
from emojax.model.variables import unbox
from emojax.weights import tables
from emojax.weights.importer import leaf_types
from emojax.weights.load_tensors import load_tensors
from emojax.weights.tensor_files import open_tensors
from parity import encoder_folders as folders
from parity import torch_names as names

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore")]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def torch_side():
    pytest.importorskip("torch")
    from parity import torch_reference

    return torch_reference


def noise(shapes: dict, seed: int) -> dict:
    """Weights with the magnitude of trained ones: 1 / sqrt(fan in), norms near 1."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, shape in shapes.items():
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 400
        value = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(fan_in))
        out[name] = value + np.float32("norm" in name and name.endswith("weight"))
    return out


def imported(folder, state: dict, table, module, *inputs, method=None):
    """{params} of a module from a file with `state`."""
    save_file(state, folder / "w.safetensors")
    shapes = jax.eval_shape(lambda: unbox(module.init(jax.random.key(0), *inputs, method=method)))[
        "params"
    ]
    flat = load_tensors(
        table, open_tensors(folder / "w.safetensors"), traverse_util.flatten_dict(shapes, sep="/")
    )
    return {
        "params": traverse_util.unflatten_dict(
            {p: jnp.asarray(x) for p, x in flat.items()}, sep="/"
        )
    }


def relative(ours, theirs) -> float:
    """Largest difference over the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("depth", [1, 39])
def test_eva_g(torch_side, tmp_path, depth):
    """448 px, width 1408: one block, and the whole image encoder (986,975,872 parameters)."""
    shapes = names.eva_shapes(224, 14, 1408, depth, 6144)
    state = noise(shapes, 1)
    module = VisionTransformer(
        PictureConfig(
            image_size=448,
            patch=14,
            encoder=EncoderConfig(width=1408, depth=depth, heads=16, mlp=6144, eps=1e-6),
            final_norm=False,
            mean=(0, 0, 0),
            std=(1, 1, 1),
        )
    )
    pixels = np.random.default_rng(2).standard_normal((1, 448, 448, 3)).astype(np.float32)
    tree = imported(tmp_path, state, eva_tables(module.config)[0], module, jnp.asarray(pixels))
    if depth == 39:
        assert sum(x.size for x in jax.tree.leaves(tree)) == 986_975_872
    ours = np.asarray(jax.jit(module.apply)(tree, jnp.asarray(pixels)))
    del tree
    state["pos_embed"] = torch_side.resize(state["pos_embed"], 32)
    theirs = torch_side.eva(
        state, pixels.transpose(0, 3, 1, 2), depth, 16, eps=1e-6, final_norm=False
    )
    assert relative(ours, theirs) < 1e-4


def test_whisper_large_block(torch_side, tmp_path):
    import torch
    import transformers

    config = transformers.WhisperConfig(
        d_model=1280,
        encoder_layers=1,
        encoder_attention_heads=20,
        encoder_ffn_dim=5120,
        num_mel_bins=128,
    )
    model = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
    state = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    module = Whisper(
        WhisperConfig(128, 1500, EncoderConfig(width=1280, depth=1, heads=20, mlp=5120, eps=1e-5))
    )
    logmel = np.random.default_rng(3).standard_normal((1, 3000, 128)).astype(np.float32)
    tree = imported(tmp_path, state, whisper_tables()[1], module, jnp.asarray(logmel))
    with torch.no_grad():
        theirs = model(torch.from_numpy(logmel.transpose(0, 2, 1))).last_hidden_state
    assert relative(jax.jit(module.apply)(tree, jnp.asarray(logmel)), theirs) < 1e-4


def test_siglip_base_block(torch_side, tmp_path):
    """One block of siglip-base-patch16-224, its last norm and its pooling head."""
    import torch
    import transformers

    config = transformers.SiglipVisionConfig(num_hidden_layers=1)
    model = transformers.SiglipVisionModel(config).eval()
    module, variables = folders.from_folder(model, tmp_path, "image")
    pixels = np.random.default_rng(7).standard_normal((1, 224, 224, 3)).astype(np.float32)
    ours, states = folders.apply(module, variables, jnp.asarray(pixels))
    theirs, theirs_states = folders.torch_states(
        model.encoder.layers, lambda: model(torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
    )
    assert relative(states, theirs_states) < 1e-4
    assert relative(ours[:, 1:], theirs.last_hidden_state) < 1e-4
    assert relative(ours[:, 0], theirs.pooler_output) < 1e-4


def test_wavlm_large_block(torch_side, tmp_path):
    """All convolutions and one block of wavlm-large on 10 s of sound."""
    import torch
    import transformers

    config = transformers.WavLMConfig(
        hidden_size=1024,
        num_hidden_layers=1,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    model = transformers.WavLMModel(config).eval()
    module, variables = folders.from_folder(model, tmp_path, "audio", seconds=10.0, normalize=False)
    wave = np.random.default_rng(8).standard_normal((1, 160_000)).astype(np.float32)
    ours, states = folders.apply(module, variables, jnp.asarray(wave)[..., None])
    theirs, theirs_states = folders.torch_states(
        model.encoder.layers, lambda: model(torch.from_numpy(wave)).last_hidden_state
    )
    assert relative(states, theirs_states) < 1e-4
    assert relative(ours, theirs) < 1e-4


@pytest.mark.parametrize(
    "part", ["Llama-2-7b-chat", "Qwen2.5-7B-Instruct", "Llama-3.1-8B-Instruct", "Qwen3-8B"]
)
def test_a_block_of_a_language_model(torch_side, tmp_path, part):
    """At true width, with a small vocabulary."""
    import torch
    import transformers

    family, release = release_named(part)
    fields = dataclasses.replace(LlamaFields(), **{**release.fields, "vocab": 1000, "depth": 1})
    decoder = family.make(fields, lora=LoraConfig(rank=0))
    facts = write_config(family, decoder, dtype="float32")
    config = transformers.AutoConfig.for_model(**facts)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    state = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    ids = np.random.default_rng(4).integers(3, 1000, (1, 600))
    module = Llama(decoder)
    at, valid = jnp.arange(600)[None], jnp.ones((1, 600), bool)

    def everything(model, ids):
        return model.logits(model(model.embed(ids), at, valid)[0][:, -8:])

    tree = imported(
        tmp_path, state, decoder_table(module.config), module, jnp.asarray(ids), method=everything
    )
    with torch.no_grad():
        theirs = model(input_ids=torch.from_numpy(ids)).logits[:, -8:]
    assert (
        relative(jax.jit(lambda t, i: module.apply(t, i, method=everything))(tree, ids), theirs)
        < 1e-4
    )


def test_fusion_and_projectors(torch_side, tmp_path):
    """Full-width features -> 448 soft tokens of width 4096, from a checkpoint of 166 tensors."""
    import torch
    from torch.nn import functional

    config = load_config("v2")
    config.model.compute_dtype = config.model.param_dtype = "float32"
    config.model.llama.depth = 32
    settings = resolve(config)
    table = tables.emotion_llama_v2()
    state = noise(names.stage_shapes(), 5)
    assert len(state) == 166
    save_file(state, tmp_path / "w.safetensors")
    flat = load_tensors(table, open_tensors(tmp_path / "w.safetensors"), leaf_types(settings))
    tree = traverse_util.unflatten_dict({p: jnp.asarray(x) for p, x in flat.items()}, sep="/")
    rng = np.random.default_rng(6)
    image, video, audio = (
        rng.standard_normal(s, np.float32) for s in ((1, 1025, 1408), (1, 64, 1408), (1, 64, 1280))
    )
    yes = jnp.ones((1,), bool)
    features = {"image": image, "video": video, "audio": audio}
    soft = make_model(settings.model).apply(
        tree, features, dict.fromkeys(features, yes), method="soft_prompt"
    )
    cls = np.broadcast_to(image[:, :1], (1, 64, 1408)).copy()
    parts = {
        n.removeprefix("conv_pro_module."): v for n, v in state.items() if n.startswith("conv_pro")
    }
    streams = {
        "_fusion": torch_side.conv_attention(parts, [audio, cls, video]),
        "": image[:, 1:].reshape(1, 256, 5632),
        "_video": video,
        "_audio": audio,
    }
    start = 0
    for name, x in streams.items():
        weight, bias = (
            torch.from_numpy(state[f"llama_proj{name}.{end}"]) for end in ("weight", "bias")
        )
        expected = functional.linear(torch.from_numpy(x), weight, bias)
        actual = soft.tokens[:, start : start + x.shape[1]]
        assert relative(actual, expected) < 1e-4, name
        start += x.shape[1]
    assert start == 448 and bool(soft.mask.all())


@pytest.mark.parametrize("flags", [[], ["--int8"]])
def test_an_import_stays_within_its_memory_bound(flags):
    """Files with the layer shapes of LLaMA-2-7B; needs about 12 GB of disk and 7 GB of memory."""
    command = [sys.executable, str(ROOT / "scripts" / "import_memory.py"), "--layers", "12", *flags]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stdout + out.stderr
