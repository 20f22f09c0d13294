"""Checkpoints: damage is found and passed over by name, the best is kept, another mesh reads them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec

from emojax.config import load_config, resolve
from emojax.sharding import make_mesh
from emojax.train.checkpoint import DIGESTS, Checkpoints, abstract_of
from emojax.train.run_folder import claim
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
    own = Checkpoints(folder, "a", keep=2)
    for step in steps:
        own.save(step, state(step), {"next_index": step}, (scores or {}).get(step))
    own.close()
    return folder


def largest(folder: epath.Path, step: int):
    from pathlib import Path

    files = [p for p in Path(folder / "a" / str(step)).rglob("*") if p.is_file()]
    return max(files, key=lambda p: p.stat().st_size)


def test_another_mesh_reads_what_one_wrote(tmp_path):
    folder = saved(tmp_path)
    own = Checkpoints(folder, "a", 2)
    found, position = own.restore(abstract_of(state(0, (2, 4, 1), "fsdp")))
    assert position == {"next_index": 2} and int(found.step) == 2
    x = found.train["params/x/kernel"]
    np.testing.assert_array_equal(x, np.arange(64).reshape(16, 4) + 2)
    assert x.addressable_shards[0].data.shape == (4, 4)
    own.close()


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "cut, no digests"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path, damage):
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
        if (
            "no digests" in damage
        ):  # a run killed right after the write: the library itself must find it unreadable
            (folder / DIGESTS / "a-2.json").unlink()
            for path in (p for p in victim.parent.parent.rglob("*") if p.is_file()):
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    told: list[str] = []
    own = Checkpoints(folder, "a", 2)
    found, position = own.restore(abstract_of(state(0)), say=told.append)
    assert int(found.step) == 1 and position == {"next_index": 1}
    assert (
        len(told) == 2
        and "checkpoint a/2 is damaged" in told[0]
        and "a/1 is taken instead" in told[1]
    )
    own.save(2, state(2), {"next_index": 2})  # its place is free again
    own.close()
    assert Checkpoints(folder, "a", 2).steps() == [2, 1]


def test_nothing_whole_is_left(tmp_path):
    """A run does not start anew in silence, and what is left of its files stays."""
    folder = saved(tmp_path, (1, 2))
    largest(folder, 1).unlink()
    largest(folder, 2).unlink()
    own, told = Checkpoints(folder, "a", 2), []
    with pytest.raises(ValueError, match="no checkpoint of stage a is whole"):
        own.restore(abstract_of(state(0)), say=told.append)
    assert own.steps() == [2, 1] and len(told) == 2
    assert own.restore(abstract_of(state(0)), say=told.append, step=2) is None
    own.close()


def test_newest_and_best_are_kept(tmp_path):
    folder = saved(tmp_path, (1, 2, 3, 4, 5), {1: 0.2, 2: 0.9, 3: 0.5})
    own = Checkpoints(folder, "a", 2)
    assert own.steps() == [5, 4, 2] and own.best() == 2
    assert sorted(p.name for p in (folder / DIGESTS).iterdir()) == [
        "a-2.json",
        "a-4.json",
        "a-5.json",
    ]
    assert json.loads((folder / DIGESTS / "a-5.json").read_text())
    own.close()


@pytest.mark.parametrize("trace", ["log.jsonl", "model.json", "checkpoints/perception/5/state"])
def test_a_start_that_never_trained_does_not_hold_its_folder(tmp_path, trace):
    config = load_config("tiny:test")
    claim(epath.Path(tmp_path), resolve(config), [])
    config.seed = 7
    claim(epath.Path(tmp_path), resolve(config), [])
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 7
    (tmp_path / trace).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / trace).write_text("")
    config.seed = 8
    with pytest.raises(ValueError, match="holds a run with another config.json .seed."):
        claim(epath.Path(tmp_path), resolve(config), [])
