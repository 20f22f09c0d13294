"""A run on cached features refuses what contradicts its cache, before the first step."""

import dataclasses
import types
from pathlib import Path

import numpy as np
import pytest

from emojax.bundle.model_folder import row_config
from emojax.cli.main import main
from emojax.config import Settings, load_config, resolve
from emojax.train.start import check_cached
from emojax.workflows import train

SETTINGS = resolve(load_config("tiny:released_v1"))


def run_with(settings: Settings) -> train._Run:
    """A run without devices, tokenizer and folder, which no refusal needs."""
    return train._Run(
        settings=settings,
        out=None,
        tokenizer=None,
        mesh=None,
        rows=row_config(settings, augment=False),
        average_speaker=None,
        stop=None,
    )


def variables() -> dict[str, np.ndarray]:
    """One array that is trained and one of an encoder."""
    return {"lora/llama/x": np.ones(1, np.float32), "params/mae/x": np.ones(1, np.float32)}


def test_settings_that_change_the_input_of_encoders():
    check_cached(SETTINGS.data, {"lora/llama/blocks/q/a": 0, "params/project_image/kernel": 0})
    for field in ("augment", "speaker_norm"):
        data = dataclasses.replace(SETTINGS.data, **{field: 0.3})
        with pytest.raises(ValueError, match=f"config.data.{field} cannot change pictures or"):
            check_cached(data, {})


@pytest.mark.parametrize("tower", ["eva_image", "mae", "videomae", "hubert", "whisper"])
def test_trainable_encoders(tower):
    path = f"params/{tower}/blocks/q/kernel"
    with pytest.raises(ValueError, match=f"but {path} is trainable: freeze the encoders"):
        check_cached(SETTINGS.data, {"params/project_image/kernel": 0, path: 0})


def test_every_stage_is_checked():
    """The first stage freezes the encoders, the second trains all."""
    first, *others = SETTINGS.stages
    open_stage = dataclasses.replace(others[0], trainable=((".*", "train"),))
    run = run_with(dataclasses.replace(SETTINGS, stages=(first, open_stage)))
    with pytest.raises(ValueError, match="but params/mae/x is trainable"):
        train._offload_encoders(run, Path("cache"), {}, variables())


@pytest.mark.parametrize(
    ("build", "records", "same"),
    [("b", ["r"], True), ("other", ["r"], False), ("b", ["other"], False)],
)
def test_clips_and_labels_are_those_that_were_encoded(build, records, same, monkeypatch):
    features = types.SimpleNamespace(build="b", records=["r"])
    media = types.SimpleNamespace(built=types.SimpleNamespace(key=build), records=records)
    opened = types.SimpleNamespace(sources={"java_sed": {"train": features}}, blank=None)
    monkeypatch.setattr(train, "open_cache", lambda *_, **__: opened)
    monkeypatch.setattr(train, "cache_config", lambda *_: None)
    sources = {"java_sed": (media, 2.0)}
    run, arrays = run_with(SETTINGS), variables()
    if same:
        run, mixture = train._offload_encoders(run, Path("cache"), sources, arrays)
        assert mixture == {"java_sed": (features, 2.0)}
        assert set(run.offloaded) == {"params/mae/x"} and set(arrays) == {"lora/llama/x"}
        return
    with pytest.raises(ValueError, match="clips or labels of java_sed have changed since cache"):
        train._offload_encoders(run, Path("cache"), sources, arrays)


def test_a_cache_needs_the_data_that_were_encoded(capsys, tmp_path):
    words = ("--config=tiny:test", f"--out={tmp_path / 'out'}", f"--cache={tmp_path}")
    assert main(["train", *words]) == 2 and not (tmp_path / "out").exists()
    message = "--cache needs --data, the built data that were encoded"
    assert message in " ".join(capsys.readouterr().err.split())
