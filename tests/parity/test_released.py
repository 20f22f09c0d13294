"""Both models from files in the released layouts, compared with torch to the token."""

import dataclasses

import jax
import numpy as np
import pytest

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.loader.batches import eval_batches
from data_pipeline.loader.tokens import encode_piece
from data_pipeline.media.clip import Sampling, read_clip
from data_pipeline.media.views import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, make_views
from emojax.bundle.model_folder import load_bundle
from emojax.infer.device_transfer import to_device
from emojax.infer.sample import Sampler, generate, soft_prompt_of
from emojax.model.build import make_model
from emojax.weights.catalogue import catalogue_model
from emojax.weights.importer import import_model, model_settings

pytest.importorskip("torch")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
STEPS = 64


@pytest.fixture(scope="module")
def clip_record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return next(
        r
        for r in load_corpus(
            make_corpus(config=CorpusConfig(train=9, val=1, test=1), folder=folder / "corpus")
        )
        if r.truth["shown"]["audio"] and r.truth["shown"]["video"] and r.subtitle
    )


def views_of(record, settings):
    clip = read_clip(
        record.path,
        sampling=Sampling(
            image="first", index=None, temporal="uniform", num_frames=settings.views.num_frames
        ),
        subtitle="",
    )
    return make_views(clip, settings.views)


def ours(bundle, record, views):
    """(soft prompt, greedy tokens, ids before and after it)."""
    config = bundle.settings.model
    items = [(record, views)]
    data, _ = next(
        iter(
            eval_batches(
                items,
                "emotion",
                bundle.tokenizer,
                config=bundle.rows(),
                batch=1,
                style=bundle.style,
            )
        )
    )
    batch = to_device(data)
    soft = np.asarray(soft_prompt_of(make_model(config), bundle.variables, batch).tokens)
    run = jax.jit(generate, static_argnames=("config", "sampler", "eos"))
    ids = np.asarray(
        run(
            config,
            bundle.variables,
            batch,
            jax.random.key(0),
            sampler=Sampler(max_tokens=STEPS),
            eos=2,
        )
    )[0].tolist()
    index = data["soft_index"][0]
    first, last = np.flatnonzero(index >= 0)[[0, -1]]
    row = data["ids"][0][: data["row_tokens"][0]]
    return (
        soft,
        ids[: ids.index(2) + 1] if 2 in ids else ids,
        row[:first].tolist(),
        row[last + 1 :].tolist(),
    )


def compare(bundle, record, views, *, soft_torch, model):
    from parity import released

    soft, ids, before, after = ours(bundle, record, views)
    np.testing.assert_allclose(soft, soft_torch.numpy(), rtol=1e-4, atol=1e-4)
    assert before[:2] == [1, 1], "the released evaluation has two BOS"
    assert ids == released.greedy(model, before, soft_torch, after, STEPS)
    assert len(ids) == STEPS and len(set(ids)) > 3, "a varied text"


@pytest.mark.parametrize("newer_peft", [False, True])
def test_v2(tmp_path, clip_record, newer_peft):
    from parity import released

    settings = model_settings(catalogue_model("emotion-llama-v2"), preset="tiny:released")
    model = released.llama(tmp_path / "llama")
    eva = released.eva_file(tmp_path / "eva_vit_g.pth", 3)
    encoder = released.whisper(
        tmp_path / "whisper", settings.views.mels, settings.model.audio.steps
    )
    state = released.stage_checkpoint(tmp_path / "checkpoint_9.pth", newer_peft=newer_peft)
    released.merge_lora(
        model, state, settings.model.llama.lora.alpha / settings.model.llama.lora.rank
    )
    files = {"llama-2-7b-chat": tmp_path / "llama", "eva-vit-g": tmp_path / "eva_vit_g.pth"}
    files |= {
        "whisper-large-v3": tmp_path / "whisper",
        "emotion-llama-v2": tmp_path / "checkpoint_9.pth",
    }
    bundle = load_bundle(import_model("emotion-llama-v2", files, tmp_path / "m", settings=settings))
    views = views_of(clip_record, settings)
    image = released.normalised(views.image, CLIP_MEAN, CLIP_STD)
    frames = released.normalised(views.frames, IMAGENET_MEAN, IMAGENET_STD)
    tokens = settings.model.stream_tokens
    soft = released.v2_soft_prompt(
        state, eva, encoder, image=image, frames=frames, logmel=views.sound, tokens=tokens
    )
    compare(bundle, clip_record, views, soft_torch=soft, model=model)
    text = f"[INST] <Vid>|</Vid>  The person in video says: {clip_record.subtitle}.  [emotion] "
    before, after = (encode_piece(bundle.tokenizer, t) for t in text.split("|"))
    assert ours(bundle, clip_record, views)[2] == [1, 1, *before]
    assert ours(bundle, clip_record, views)[3][: len(after) - 2] == after[:-2]


def test_v1(tmp_path, clip_record):
    from parity import released

    settings = model_settings(catalogue_model("emotion-llama"), preset="tiny:released_v1")
    model = released.llama(tmp_path / "llama")
    eva = released.eva_file(tmp_path / "eva_vit_g.pth", 3)
    towers = (
        released.mae(tmp_path / "mae"),
        released.videomae(tmp_path / "videomae", settings.views.num_frames),
        released.hubert(tmp_path / "hubert"),
    )
    state = released.v1_checkpoint(tmp_path / "Emoation_LLaMA.pth")
    released.merge_lora(
        model, state, settings.model.llama.lora.alpha / settings.model.llama.lora.rank
    )
    files = {"llama-2-7b-chat": tmp_path / "llama", "eva-vit-g": tmp_path / "eva_vit_g.pth"}
    files |= {"mae-faces": tmp_path / "mae", "videomae-faces": tmp_path / "videomae"}
    files |= {
        "chinese-hubert-large": tmp_path / "hubert",
        "emotion-llama": tmp_path / "Emoation_LLaMA.pth",
    }
    bundle = load_bundle(import_model("emotion-llama", files, tmp_path / "m", settings=settings))
    views = views_of(clip_record, settings)
    sound = np.where(np.arange(16_000)[:, None] < 11_111, views.sound, 0)
    views = dataclasses.replace(
        views, sound=sound, audio_frames=11_111
    )  # shorter than the window: padding must not count
    image = released.normalised(views.image, CLIP_MEAN, CLIP_STD)
    faces = released.normalised(views.frames, IMAGENET_MEAN, IMAGENET_STD)
    soft = released.v1_soft_prompt(
        state,
        eva,
        *towers,
        image=image,
        faces=faces,
        waveform=views.sound[: views.audio_frames, 0],
    )
    compare(bundle, clip_record, views, soft_torch=soft, model=model)


def test_a_start_from_minigpt_v2_and_bin_shards(tmp_path):
    """LLaMA as indexed .bin files; LoRA and a projector from MiniGPT-v2, the others random."""
    import json

    import torch

    from parity import released

    settings = model_settings(catalogue_model("emotion-llama-v2-start"), preset="tiny:released")
    model = released.llama(tmp_path / "safe")
    folder = tmp_path / "llama"
    folder.mkdir()
    (tmp_path / "safe" / "tokenizer.model").rename(folder / "tokenizer.model")
    names, index = list(model.state_dict()), {}
    state = {k: v.half() for k, v in model.state_dict().items()}
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(
        4
    )  # as older transformers saved
    names = list(state)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-{number:05d}-of-00002.bin"
        torch.save({n: state[n] for n in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    released.eva_file(tmp_path / "eva.pth", 3)
    released.whisper(tmp_path / "whisper", settings.views.mels, settings.model.audio.steps)
    rng = np.random.default_rng(0)
    known = released.lora_state(rng) | released.linear_state(rng, "llama_proj", 64, 32)
    released.write_checkpoint(tmp_path / "minigptv2_checkpoint.pth", known)
    files = {
        "llama-2-7b-chat": folder,
        "eva-vit-g": tmp_path / "eva.pth",
        "whisper-large-v3": tmp_path / "whisper",
    }
    files["minigpt-v2"] = tmp_path / "minigptv2_checkpoint.pth"
    bundle = load_bundle(
        import_model("emotion-llama-v2-start", files, tmp_path / "m", settings=settings)
    )
    params = bundle.variables["params"]
    gate = np.asarray(params["llama"]["blocks"]["gate"]["kernel"][1])
    np.testing.assert_array_equal(
        gate, state["model.layers.1.mlp.gate_proj.weight"].float().numpy().T
    )
    np.testing.assert_array_equal(
        params["project_image"]["bias"], known["llama_proj.bias"].astype(np.float32)
    )
    fresh = np.asarray(params["project_video"]["kernel"])
    assert 0 < np.abs(fresh).max() <= 16**-0.5 and bundle.settings.data.layout == "train"
    np.testing.assert_array_equal(params["ln_vision"]["scale"], np.ones(16))
