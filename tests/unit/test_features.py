"""Cached features: equal the encoders' outputs; caches with other settings are rejected."""

import dataclasses
import functools
import json

import av
import jax
import numpy as np
import pytest
from data_jobs import settings
from random_model import random_variables

from data_pipeline.builders.shards import build_set, open_built
from data_pipeline.datasets.file_index import FileIndex
from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.loader.batches import BuiltSource
from data_pipeline.loader.features import Features, open_cache, pack_features, stream_of
from data_pipeline.loader.samples import feature_arrays, view_arrays
from data_pipeline.media.storage import StoreConfig
from emojax.infer.sample import soft_prompt_of
from emojax.model.build import make_model
from emojax.model.variables import is_encoder_path, merge
from emojax.sharding import make_mesh
from emojax.workflows.encode_features import cache_config, encode_built

STORE = StoreConfig(kind="bytes", image_choice="middle", temporal="uniform", num_frames=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(settings, variables, built data, cache folder)."""
    folder = tmp_path_factory.mktemp("f")
    records = load_corpus(
        make_corpus(config=CorpusConfig(train=40, val=3, test=3), folder=folder / "corpus")
    )
    for number, kind in ((0, "video"), (4, "audio")):  # one clip without sound, one without picture
        path = str(folder / f"{kind}.mkv")
        with av.open(records[number].path) as old, av.open(path, "w") as new:
            stream = getattr(old.streams, kind)[0]
            copy = new.add_stream_from_template(stream)
            for packet in old.demux(stream):
                if packet.dts is not None:
                    packet.stream = copy
                    new.mux(packet)
        records[number] = dataclasses.replace(records[number], path=path)
    build_set(folder / "built" / "embedded", records, STORE)
    s, mesh = settings(), make_mesh(shape=(-1, 1, 1))
    with jax.set_mesh(mesh):
        variables = random_variables(s.model)
        encode_built(
            s, variables, open_built(folder / "built"), out=folder / "cache", mesh=mesh, batch=8
        )
    return s, variables, open_built(folder / "built"), folder / "cache"


def test_the_cache_contains_the_outputs_of_the_encoders(made):
    s, variables, built, cache = made
    opened = open_cache(cache, cache_config(s, variables))
    source, views = (
        opened.sources["embedded"]["train"],
        BuiltSource(built["embedded"], "train", s.views, s.sampling(None)),
    )
    assert len(source) == len(views) == 40 and set(opened.sources["embedded"]) == {
        "train",
        "val",
        "test",
    }
    encode = jax.jit(functools.partial(make_model(s.model).apply, method="encode"))
    for i in range(0, 40, 4):
        record, features = source[i]
        same, seen = views[i]
        assert record == same and (features.has_video, features.has_audio) == (
            seen.has_video,
            seen.has_audio,
        )
        batch = {k: np.asarray(v)[None] for k, v in view_arrays(seen).items()}
        want = encode(merge(variables, {}), batch)
        for name, array in features.arrays.items():
            np.testing.assert_allclose(array, want[name][0], atol=1e-5)
    absent = [{"audio", "image", "video"} - set(source[i][1].arrays) for i in range(40)]
    assert (
        absent[0] == {"audio"} and absent[4] == {"image", "video"} and absent[1] == set()
    )  # absent modalities are not stored


@functools.partial(jax.jit, static_argnums=0)
def soft_prompt(config, variables, batch):
    return soft_prompt_of(make_model(config), variables, batch).tokens


@pytest.mark.parametrize(
    "streams", [("image", "video", "audio"), ("audio",), ("image",), ("video", "audio")]
)
def test_hidden_streams_equal_those_of_the_views(made, streams):
    """Cached features give the soft prompt of the views, whatever streams are hidden."""
    s, variables, built, cache = made
    opened = open_cache(cache, cache_config(s, variables))
    _, features = opened.sources["embedded"]["train"][1]
    _, seen = BuiltSource(built["embedded"], "train", s.views, s.sampling(None))[1]
    prompts = []
    for arrays in (
        view_arrays(seen, streams=streams),
        feature_arrays(features, opened.blank, streams=streams),
    ):
        batch = {k: np.asarray(v)[None] for k, v in arrays.items()}
        prompts.append(soft_prompt(s.model, merge(variables, {}), batch))
    np.testing.assert_allclose(prompts[0], prompts[1], atol=1e-5)


def test_another_encoder_view_or_format_is_rejected(made, tmp_path):
    s, variables, built, cache = made
    config = cache_config(s, variables)
    other = {
        p: x + 1 if is_encoder_path(p) and p.endswith("bias") else x for p, x in variables.items()
    }
    with pytest.raises(ValueError, match="another encoder than this model's"):
        open_cache(cache, cache_config(s, other))
    changed = settings(**{"data.image_choice": "first"})
    with pytest.raises(ValueError, match="another views than"):
        open_cache(cache, cache_config(changed, variables))
    with pytest.raises(ValueError, match="another dtype"):
        open_cache(cache, dataclasses.replace(config, dtype="bfloat16"))
    with pytest.raises(ValueError, match="made with another encoder: choose another folder"):
        encode_built(s, other, built, out=cache, mesh=make_mesh(shape=(-1, 1, 1)), batch=8)
    with pytest.raises(ValueError, match="contains no feature cache"):
        open_cache(tmp_path, config)
    with pytest.raises(ValueError, match="requested: embedded, more"):
        open_cache(cache, config, names=["embedded", "more"])
    # Trainable parameters do not belong to the frozen encoders and may change.
    trained = {p: x if is_encoder_path(p) else x + 1 for p, x in variables.items()}
    assert cache_config(s, trained) == config


def test_items_are_checked_one_by_one(made):
    """A chunk of another cache in the folder is not read."""
    s, variables, _, cache = made
    config = cache_config(s, variables)
    source = open_cache(cache, config).sources["embedded"]["val"]
    source.config = dataclasses.replace(config, encoder="0" * 16)
    with pytest.raises(ValueError, match="made with other settings"):
        source[0]


def test_an_encoding_resumes_and_notices_changed_clips(made, tmp_path, monkeypatch):
    s, variables, built, cache = made
    import shutil

    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    (copy / "embedded" / "train" / "000001.array_record").unlink()
    (copy / "embedded" / "train" / "done.json").unlink()
    with pytest.raises(ValueError, match="is not complete"):
        open_cache(copy, cache_config(s, variables))
    mesh, counted = make_mesh(shape=(-1, 1, 1)), []
    import emojax.workflows.encode_features as encode

    real = encode._encode_chunk
    monkeypatch.setattr(
        encode,
        "_encode_chunk",
        lambda path, *a, **k: (counted.append(path.name), real(path, *a, **k)),
    )
    with jax.set_mesh(mesh):
        encode_built(s, variables, built, out=copy, mesh=mesh, batch=8)
    assert counted == ["000001.array_record"]
    source = built["embedded"].sources["val"]

    class Changed:
        def __len__(self):
            return len(source)

        def __getitem__(self, i):
            return {**source[i], "media": source[0]["media"]}

    changed = dataclasses.replace(built["embedded"], sources={"val": Changed()})
    counted.clear()
    with jax.set_mesh(mesh):
        encode_built(s, variables, {"embedded": changed}, out=copy, mesh=mesh, batch=8)
    assert counted == ["000000.array_record"]


def test_shapes_are_checked_when_written(made):
    s, variables, built, _ = made
    config = cache_config(s, variables)
    record = built["embedded"].records()[0]
    wrong = Features({"image": np.zeros((1, 2))}, True, False)
    with pytest.raises(ValueError, match="has shape"):
        pack_features(record, "hash", config, wrong)
    assert json.loads(config.to_json())["format"] == 1 and FileIndex(built["embedded"].folder).has(
        built["embedded"].folder / "built.json"
    )


def test_a_feature_of_no_known_stream_is_an_error():
    assert [stream_of(x) for x in ("image", "face", "audio")] == ["image", "video", "audio"]
    unknown = {"depth": np.zeros(2)}
    with pytest.raises(ValueError, match="the feature 'depth' has no stream"):
        feature_arrays(Features(unknown, True, True), unknown)
