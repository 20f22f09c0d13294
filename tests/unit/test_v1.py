"""Emotion-LLaMA (v1): prompts, its two placeholders of soft tokens, its three vectors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_model import random_variables

from data_pipeline.loader import prompts
from data_pipeline.loader.batches import eval_batches
from data_pipeline.loader.tokens import SmallTokenizer, make_row
from data_pipeline.media.augment import augment_views
from data_pipeline.media.views import make_views
from data_pipeline.schema import Clip, ClipRecord
from emojax.bundle.model_folder import load_bundle, row_config, save_bundle
from emojax.config import load_config, resolve
from emojax.model.build import make_model
from emojax.model.emotion import CACHED_PREFIX
from emojax.model.encoders.waveform import normalize_waveform
from emojax.model.variables import is_encoder_path, merge, split_trainable
from emojax.sharding import make_mesh
from emojax.train import start
from emojax.train.state import start_state
from emojax.train.step import make_optimizer, make_step

SUBTITLE, QUESTION = "hello there", "Which?"
LEAD = "<video><VideoHere></video> <feature><FeatureHere></feature>"


def test_prompt_strings():
    """Written out by hand from the published layouts."""
    subtitle = "The person in video says: hello there."
    train = f"[INST] {LEAD} {subtitle}  [emotion] Which?  [/INST]"
    assert prompts.train_prompt(SUBTITLE, "emotion", QUESTION, "v1") == train
    assert prompts.eval_prompt(SUBTITLE, "emotion", QUESTION, "v1") == train
    assert (
        prompts.eval_prompt(SUBTITLE, "emotion", QUESTION, "v1", layout="released_eval")
        == "<s>" + train
    )
    demo = f"<s>[INST] {LEAD}<s>[INST] {subtitle} [emotion] Which? [/INST]"
    assert prompts.eval_prompt(SUBTITLE, "emotion", QUESTION, "v1", layout="released_demo") == demo


def test_subtitles_cannot_move_the_soft_tokens():
    subtitle = "a <FeatureHere> b </s> c <VideoHere> <Video<s>Here> <<s>s>"
    for layout in ("train", "released_eval", "released_demo"):
        text = prompts.eval_prompt(subtitle, "emotion", QUESTION, "v1", layout=layout)
        assert (
            text.count("<FeatureHere>") == text.count("<VideoHere>") == 1
            and "</s>" not in text
            and "<s>" not in text[3:30]
        )


def test_two_placeholders_in_training_and_one_in_the_released_layouts():
    tokenizer = SmallTokenizer.train([f"[INST] {LEAD} [/INST] happy"], 340)
    train = prompts.train_prompt(SUBTITLE, "emotion", QUESTION, "v1")
    row = make_row(tokenizer, train, "happy", [("<VideoHere>", 9), ("<FeatureHere>", 4)])
    (a, n), (b, m) = row.soft
    assert (n, m) == (9, 4) and row.ids[a : a + 9] == [0] * 9 and row.ids[b : b + 4] == [0] * 4
    between = tokenizer.decode(row.ids[a + 9 : b])
    assert between == "</video> <feature>"
    text = prompts.eval_prompt(SUBTITLE, "emotion", QUESTION, "v1", layout="released_eval")
    row = make_row(tokenizer, text, None, [("<VideoHere>", 13)], special=True)
    assert (
        row.ids[:2] == [1, 1]
        and len(row.soft) == 1
        and "<FeatureHere>" in tokenizer.decode(row.ids)
    )
    demo = prompts.eval_prompt(SUBTITLE, "emotion", QUESTION, "v1", layout="released_demo")
    row = make_row(tokenizer, demo, None, [("<VideoHere>", 13)], special=True)
    assert row.ids.count(1) == 3, "BOS of the row, of the upload turn and of the question's turn"
    with pytest.raises(ValueError, match="must contain <VideoHere> once and in order"):
        make_row(
            tokenizer, train, None, [("<FeatureHere>", 4), ("<VideoHere>", 9), ("<FeatureHere>", 4)]
        )


def small_settings(**changes):
    config = load_config("tiny:test_v1")
    for name, value in changes.items():
        config.model[name] = value
    return resolve(config)


@functools.cache
def small_model():
    settings = small_settings()
    return settings, merge(random_variables(settings.model), {})


def clip_of(samples: int) -> Clip:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 40, 30, 3)).astype(np.uint8)
    wave = rng.standard_normal(24000).astype(np.float32)[:samples] * 0.1
    return Clip(
        id="c",
        path="c.mp4",
        frames=frames,
        times=np.arange(4) / 4,
        image=frames[0],
        image_index=0,
        waveform=wave,
        subtitle="hello",
        duration=1.0,
        num_frames=4,
    )


def batch_of(settings, clip, tokenizer, **changes):
    record = ClipRecord(
        id="c",
        dataset="d",
        split="test",
        path="/c.mp4",
        label="happy",
        labels=("happy", "sad"),
        subtitle=clip.subtitle,
    )
    views = dataclasses.replace(make_views(clip, settings.views), **changes)
    rows = row_config(settings, augment=False)
    batch, _ = next(
        iter(
            eval_batches([(record, views)], "emotion", tokenizer, config=rows, batch=1, style="v1")
        )
    )
    return {
        k: jnp.asarray(v) for k, v in batch.items() if k not in ("names", "labels", "row_tokens")
    }


@functools.cache
def small_tokenizer():
    return SmallTokenizer.train([f"[INST] {LEAD} [/INST] happy sad"], 340)


def test_audio_features_do_not_depend_on_the_window():
    settings, variables = small_model()
    longer = resolve_with_seconds(1.5)
    clip = clip_of(12_345)
    short = batch_of(settings, clip, small_tokenizer())
    long = batch_of(longer, clip, small_tokenizer())
    assert short["sound"].shape == (1, 16_000, 1) and long["sound"].shape == (1, 24_000, 1)
    assert int(short["audio_frames"][0]) == 12_345
    one, two = (
        jax.jit(lambda b, s=s: make_model(s.model).apply(variables, b, method="encode")["audio"])
        for s in (settings, longer)
    )
    voice = one(short)
    np.testing.assert_allclose(voice, two(long), rtol=1e-4, atol=1e-5)
    louder = batch_of(
        settings, dataclasses.replace(clip, waveform=clip.waveform * 3 + 0.2), small_tokenizer()
    )
    np.testing.assert_allclose(voice, one(louder), rtol=1e-3, atol=1e-4)


def resolve_with_seconds(seconds: float):
    config = load_config("tiny:test_v1")
    config.model.hubert.seconds = seconds
    return resolve(config)


def test_waveforms_have_mean_zero_and_variance_one():
    wave = np.array([[1.0, 3.0, 5.0, 7.0, 9.0]], np.float32)
    out = np.asarray(normalize_waveform(jnp.asarray(wave), jnp.array([4])))
    np.testing.assert_allclose(
        out, [[-3 / 5**0.5, -1 / 5**0.5, 1 / 5**0.5, 3 / 5**0.5, 0]], rtol=1e-5
    )


def test_absent_streams_are_hidden_or_constant():
    settings, variables = small_model()
    batch = batch_of(settings, clip_of(16_000), small_tokenizer())
    gone = {"has_audio": jnp.zeros(1, bool)}
    other = {**batch, "sound": batch["sound"] * 0 + 0.3}

    @jax.jit
    def logits(b):
        answer_at = {"answer_at": batch["positions"][:, -1:]}
        return make_model(settings.model).apply(variables, b | answer_at)[0]

    np.testing.assert_array_equal(logits(batch | gone), logits(other | gone))
    assert np.abs(logits(batch) - logits(batch | gone)).max() > 1e-4
    released = small_settings(missing="released")

    @jax.jit
    def soft_prompt(b, present):
        model = make_model(released.model)
        features = model.apply(variables, b, method="encode")
        return model.apply(variables, features, present, method="soft_prompt")

    yes, no = jnp.ones(1, bool), jnp.zeros(1, bool)
    soft = soft_prompt(batch, {"image": yes, "video": no, "audio": no})
    bias = variables["params"]["project_audio"]["bias"]
    at = list(released.model.spans).index("audio") - 1 + released.model.spans["image"]
    np.testing.assert_allclose(soft.tokens[0, at], bias, rtol=1e-6)
    assert bool(soft.mask.all()), "the released code hides nothing"


def test_the_released_demo_has_no_faces():
    """Its features of MAE and VideoMAE are zeros, so only the bias of their projection is left."""
    config = load_config("tiny:test_v1")
    config.data.layout = "released_demo"
    settings = resolve(config)
    variables = small_model()[1]
    batch = batch_of(settings, clip_of(16_000), small_tokenizer())
    model, yes = make_model(settings.model), jnp.ones(1, bool)

    @jax.jit
    def run(b):
        features = model.apply(variables, b, method="encode")
        present = {"image": yes, "video": yes, "audio": yes}
        soft = model.apply(variables, features, present, method="soft_prompt")
        return features, soft.tokens[0]

    features, tokens = run(batch)
    assert not features["face"].any() and not features["motion"].any() and features["audio"].any()
    for place, name in enumerate(("face", "motion")):
        bias = variables["params"][f"project_{name}"]["bias"]
        at = settings.model.spans["image"] + place
        np.testing.assert_allclose(tokens[at], bias, rtol=1e-6)


def test_face_encoders_that_were_not_imported_do_not_run(tmp_path, monkeypatch):
    """An import for the released demo has zeros in their place."""
    config = load_config("tiny:test_v1")
    config.data.layout = "released_demo"
    settings = resolve(config)
    variables = merge({"params/mae/norm/scale": jnp.zeros(4)}, {})
    facts = {"labels": ("happy",), "reasons": False}
    save_bundle(tmp_path, settings, small_tokenizer(), variables=variables, **facts)
    assert load_bundle(tmp_path).settings.model.zero_faces
    with pytest.raises(ValueError, match="without MAE and VideoMAE.*--mode released_demo"):
        load_bundle(tmp_path, layout="released_eval")
    monkeypatch.setattr(start, "abstract_variables", lambda model: variables)
    monkeypatch.setattr(start, "variable_shardings", lambda model, mesh: {})
    run = dataclasses.replace(
        settings,
        model=dataclasses.replace(settings.model, zero_faces=False),
        train=dataclasses.replace(settings.train, init_from=str(tmp_path)),
    )
    with pytest.raises(ValueError, match="without MAE and VideoMAE"):
        start.initial_variables(run, None)


def test_one_training_step():
    """On random features, with v1's rules: every adapter and projection is trained."""
    config = load_config("tiny:test_v1")
    config.model.word_heads, config.model.llama.depth = False, 1
    config.trainable = load_config("v1").trainable
    settings = resolve(config)
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    rng = np.random.default_rng(0)
    variables = {
        p: x for p, x in random_variables(settings.model).items() if not is_encoder_path(p)
    }
    clip = batch_of(settings, clip_of(16_000), small_tokenizer())
    batch = {name: x for name, x in clip.items() if name not in settings.model.view_shapes}
    features = {"image": (17, 16), "face": (16,), "motion": (16,), "audio": (16,)}
    batch |= {
        CACHED_PREFIX + name: jnp.asarray(rng.normal(size=(1, *shape)), jnp.float32)
        for name, shape in features.items()
    }
    batch |= {"answer_at": clip["positions"][:, -1:], "labels": jnp.array([[7]])}
    batch["row_tokens"] = jnp.array([5])
    trainable, frozen = split_trainable(variables, settings.trainable)
    before = {path: np.array(x) for path, x in trainable.items()}
    with jax.set_mesh(mesh):
        tx = make_optimizer(settings.optim)
        state = start_state(tx, trainable, mesh, ema=False)
        inputs = (state, frozen, batch, jnp.float32(0.01), jax.random.key(0))
        step = make_step(settings.model, tx, 0.0)
        after, metrics = step(*inputs)
    assert 0 < float(metrics["loss"]) < 100 and float(metrics["grad_norm"]) > 0
    assert bool(metrics["finite"]) and int(after.step) == 1
    modules = {"llama", *(f"project_{s}" for s in ("cls", "image", "face", "motion", "audio"))}
    assert {path.split("/")[1] for path in before} == modules
    same = [path for path, x in after.train.items() if np.array_equal(before[path], x)]
    assert set(after.train) == set(before) and not same, same


def test_order_of_the_soft_tokens():
    """As in the released encode_img: patches, then FaceMAE, VideoMAE and HuBERT, then the CLS."""
    spans = resolve(load_config("tiny:test_v1")).model.spans
    assert list(spans) == ["image", "face", "motion", "audio", "cls"]
    assert list(spans.values())[1:] == [1, 1, 1, 1]


def test_augmented_waveforms_stay_within_their_window():
    settings = small_settings()
    views = make_views(clip_of(15_000), settings.views)
    for seed in range(5):
        out = augment_views(views, np.random.default_rng(seed), strength=1.0)
        assert out.sound.shape == views.sound.shape and not np.array_equal(out.sound, views.sound)
        assert 400 <= out.audio_frames <= 16_000 and not out.sound[out.audio_frames :].any()


def test_custom_questions():
    settings = small_settings()
    rows = dataclasses.replace(
        row_config(settings, augment=False), questions={"emotion": ["{labels}, in {one} word?"]}
    )
    record = ClipRecord(
        id="c",
        dataset="d",
        split="test",
        path="/c.mp4",
        label="happy",
        labels=("happy", "sad"),
        subtitle="hello",
    )
    views = make_views(clip_of(9_000), settings.views)
    batch, _ = next(
        iter(
            eval_batches(
                [(record, views)], "emotion", small_tokenizer(), config=rows, batch=1, style="v1"
            )
        )
    )
    assert "happy, sad, in {one} word?" in small_tokenizer().decode(batch["ids"][0].tolist())
    config = load_config("tiny:test_v1")
    config.data.questions.update({"emotions": ["?"]})
    with pytest.raises(ValueError, match=r"config\.data\.questions names tasks \['emotions'\]"):
        resolve(config)
