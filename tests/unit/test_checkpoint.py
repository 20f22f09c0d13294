"""Checkpoints: damaged ones are reported and skipped, the best is kept, another mesh reads them."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec

from emojax.config import load_config, resolve
from emojax.sharding import make_mesh
from emojax.train.checkpoint import DIGESTS, Checkpoints, abstract_of
from emojax.train.run_folder import base_weights, register_run
from emojax.train.state import TrainState


def state(step: int, shape=(8, 1, 1), axis="data") -> TrainState:
    sharding = NamedSharding(make_mesh(shape=shape), PartitionSpec(axis))
    train = {
        "params/x/kernel": jax.device_put(
            np.arange(64, dtype=np.float32).reshape(16, 4) + step, sharding
        )
    }
    return TrainState(jnp.asarray(step, jnp.int32), train, {"mu": train["params/x/kernel"] * 2}, {})


def saved(tmp_path, steps=(1, 2), scores=None) -> epath.Path:
    folder = epath.Path(tmp_path / "checkpoints")
    checkpoints = Checkpoints(folder, "a", keep=2)
    for step in steps:
        score = (scores or {}).get(step)
        checkpoints.save(step, state(step), {"next_index": step}, score=score)
    checkpoints.close()
    return folder


def largest(folder: epath.Path, step: int):
    files = [p for p in Path(folder / "a" / str(step)).rglob("*") if p.is_file()]
    return max(files, key=lambda p: p.stat().st_size)


def logged(caplog) -> list[str]:
    return [r.message for r in caplog.records if r.name == "emojax.train.checkpoint"]


def register(folder, config):
    settings = resolve(config)
    base = base_weights(settings.train.init_from, seed=settings.seed)
    register_run(epath.Path(folder), settings.raw, base, [])


def test_another_mesh_reads_what_one_wrote(tmp_path):
    folder = saved(tmp_path)
    checkpoints = Checkpoints(folder, "a", keep=2)
    restored, position = checkpoints.restore(abstract_of(state(0, (2, 4, 1), "fsdp")))
    assert position == {"next_index": 2} and int(restored.step) == 2
    x = restored.train["params/x/kernel"]
    np.testing.assert_array_equal(x, np.arange(64).reshape(16, 4) + 2)
    assert x.addressable_shards[0].data.shape == (4, 4)
    checkpoints.close()


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "cut, no digests"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(tmp_path, damage, caplog):
    folder = saved(tmp_path)
    victim = largest(folder, 2)
    raw = victim.read_bytes()
    if damage == "flip":
        middle = len(raw) // 2
        victim.write_bytes(raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :])
    elif damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes(raw[: len(raw) // 2])
        # A run was killed right after the write: the library itself must find it unreadable.
        if "no digests" in damage:
            (folder / DIGESTS / "a-2.json").unlink()
            for path in (p for p in victim.parent.parent.rglob("*") if p.is_file()):
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    checkpoints = Checkpoints(folder, "a", keep=2)
    restored, position = checkpoints.restore(abstract_of(state(0)))
    assert int(restored.step) == 1 and position == {"next_index": 1}
    assert len(warnings := logged(caplog)) == 2
    assert "checkpoint a/2 is damaged" in warnings[0] and "a/1 is used instead" in warnings[1]
    checkpoints.save(2, state(2), {"next_index": 2})  # its place is free again
    checkpoints.close()
    assert Checkpoints(folder, "a", keep=2).steps() == [2, 1]


def test_no_checkpoint_is_intact(tmp_path, caplog):
    """A run does not silently start from the beginning, and its damaged files are kept."""
    folder = saved(tmp_path, (1, 2))
    largest(folder, 1).unlink()
    largest(folder, 2).unlink()
    checkpoints = Checkpoints(folder, "a", keep=2)
    with pytest.raises(ValueError, match="no checkpoint of stage a is intact"):
        checkpoints.restore(abstract_of(state(0)))
    assert checkpoints.steps() == [2, 1] and len(logged(caplog)) == 2
    assert checkpoints.restore(abstract_of(state(0)), step=2) is None
    checkpoints.close()


def test_newest_and_best_are_kept(tmp_path):
    folder = saved(tmp_path, (1, 2, 3, 4, 5), {1: 0.2, 2: 0.9, 3: 0.5})
    checkpoints = Checkpoints(folder, "a", keep=2)
    assert checkpoints.steps() == [5, 4, 2] and checkpoints.best() == 2
    assert sorted(p.name for p in (folder / DIGESTS).iterdir()) == [
        "a-2.json",
        "a-4.json",
        "a-5.json",
    ]
    assert json.loads((folder / DIGESTS / "a-5.json").read_text())
    checkpoints.close()


@pytest.mark.parametrize("trace", ["log.jsonl", "model.json", "checkpoints/perception/5/state"])
def test_a_start_that_never_trained_does_not_hold_its_folder(tmp_path, trace):
    config = load_config("tiny:test")
    register(tmp_path, config)
    config.seed = 7
    register(tmp_path, config)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 7
    (tmp_path / trace).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / trace).write_text("")
    config.seed = 8
    with pytest.raises(ValueError, match="holds a run with another config.json .seed."):
        register(tmp_path, config)


def test_a_run_folder_with_an_old_name_of_a_field_is_the_same_run(tmp_path):
    config = load_config("tiny:test")
    config.stage.joint.random_word_insertion = 0.25
    register(tmp_path, config)
    (tmp_path / "log.jsonl").write_text("")
    text = (tmp_path / "config.json").read_text()
    assert "random_word_insertion" in text
    (tmp_path / "config.json").write_text(text.replace("random_word_insertion", "strange_words"))
    register(tmp_path, config)
    config.stage.joint.random_word_insertion = 0.5
    (tmp_path / "config.json").write_text(text.replace("random_word_insertion", "strange_words"))
    with pytest.raises(ValueError, match="another config.json .stage.joint.random_word_insertion."):
        register(tmp_path, config)
