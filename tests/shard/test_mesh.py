"""A training step on one device and on three meshes of 8: same loss, sharding constraints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from data_pipeline.loader.samples import Collate, Sample
from data_pipeline.loader.tokens import Row
from data_pipeline.media.views import Views
from data_pipeline.schema import ClipRecord, Example
from emojax.bundle.model_folder import row_config
from emojax.config import load_config, resolve
from emojax.model.variables import init_flat, split_trainable
from emojax.sharding import list_copies, make_mesh, put_batch, start_processes
from emojax.train.state import TrainState, start_state
from emojax.train.step import make_optimizer, make_step

RATE, KEY = np.float32(1e-3), 7


def settings():
    config = load_config("tiny:test")
    config.optim.ema = 0.0
    for tower in (config.model.image, config.model.video, config.model.audio, config.model.llama):
        tower.dropout = 0.0  # dropout bits depend on their layout over devices
    config.model.fusion.dropout = 0.0
    return resolve(config)


def batch_of(s, rows: int = 8) -> dict:
    rng = np.random.default_rng(0)
    v = s.views
    record = ClipRecord(
        id="c", dataset="d", split="train", path="/c.mp4", label="a", labels=("a", "b")
    )
    samples = []
    for i in range(rows):
        ids = rng.integers(4, 500, 30 + i).tolist()
        views = Views(
            image=rng.integers(0, 256, (v.image_size, v.image_size, 3)).astype(np.uint8),
            frames=rng.integers(0, 256, (v.num_frames, v.frame_size, v.frame_size, 3)).astype(
                np.uint8
            ),
            sound=rng.standard_normal(v.sound_shape).astype(np.float32),
            audio_frames=60 + i,
            has_video=True,
            has_audio=i != 3,
        )
        soft = s.model.soft_tokens
        row = Row(ids[:6] + [0] * soft + ids[6:], ((6, soft),), 20 + soft)
        samples.append(
            Sample(
                example=Example(clip=record, task="emotion", prompt="", answer=""),
                row=row,
                views=views,
            )
        )

    class Words:
        pad_id = 3

        def encode(self, text: str) -> list[int]:
            return [9 + ord(c) for c in text]

    batch = Collate(Words(), row_config(s, augment=True))(samples)
    batch.pop("names")
    return batch


def two_losses(s, shape: tuple[int, int, int], devices: list) -> tuple[list[float], str]:
    mesh = make_mesh(shape=shape, devices=devices)
    with jax.set_mesh(mesh):
        train, frozen = split_trainable(init_flat(s.model, 0, mesh), s.trainable)
        tx = make_optimizer(s.optim)
        state = TrainState(jnp.zeros((), jnp.int32), train, tx.init(train), {})
        step = make_step(s.model, tx, 0.0)
        batch = put_batch(batch_of(s), mesh)
        key = jax.random.key(KEY)
        text = step.lower(state, frozen, batch, RATE, key).as_text()
        losses = []
        for _ in range(2):
            state, metrics = step(state, frozen, batch, RATE, key)
            losses.append(float(metrics["loss"]))
    return losses, text


@pytest.fixture(scope="module")
def one_device():
    return two_losses(settings(), (1, 1, 1), jax.devices()[:1])[0]


@pytest.mark.parametrize(
    "shape",
    [*(pytest.param(s, marks=pytest.mark.full) for s in ((8, 1, 1), (1, 8, 1))), (2, 2, 2)],
)
def test_same_loss_on_every_mesh(one_device, shape):
    losses, text = two_losses(settings(), shape, jax.devices())
    np.testing.assert_allclose(losses, one_device, rtol=1e-5)
    assert losses[1] < losses[0]
    # Two EVA encoders, Whisper and LLaMA constrain the inputs of their blocks.
    assert text.count("sdy.sharding_constraint") + text.count("@Sharding") >= 4


def test_large_kernels_are_split():
    s = settings()
    mesh = make_mesh(shape=(1, 8, 1))
    with jax.set_mesh(mesh):
        flat = init_flat(s.model, 0, mesh)
    for path, x in flat.items():
        if path.endswith("/kernel") and "/blocks/" in path:
            assert not x.sharding.is_fully_replicated, path


def test_impossible_meshes():
    with pytest.raises(ValueError, match="needs 6 devices, there are 8"):
        make_mesh(shape=(6, 1, 1))
    with pytest.raises(ValueError, match="only one entry"):
        make_mesh(shape=(-1, -1, 1))
    mesh = make_mesh(shape=(-1, 2, 1))
    assert dict(mesh.shape) == {"data": 4, "fsdp": 2, "tensor": 1}
    with pytest.raises(ValueError, match="a batch size of 6 cannot be divided over 8"):
        put_batch({"x": np.zeros((6, 2))}, mesh)


@pytest.mark.parametrize("shape", [pytest.param((1, 1, 1), marks=pytest.mark.full), (2, 2, 2)])
def test_parts_of_a_batch_give_its_gradient(shape):
    """Two micro-batches in turn give the losses of the whole batch, with the rows in its order."""
    config = load_config("tiny:test")
    config.optim.ema, config.model.word_heads, config.model.fusion.dropout = 0.0, False, 0.0
    for tower in (config.model.image, config.model.video, config.model.audio, config.model.llama):
        tower.dropout = 0.0
    s = resolve(config)
    devices = jax.devices()[: int(np.prod(shape))]
    mesh = make_mesh(shape=shape, devices=devices)
    results = []
    with jax.set_mesh(mesh):
        learned, frozen = split_trainable(init_flat(s.model, 0, mesh), s.trainable)
        batch = put_batch(batch_of(s), mesh)
        for parts in (1, 2):
            tx = make_optimizer(s.optim)
            state = start_state(tx, learned, mesh, ema=False)
            before = jax.tree.map(lambda x: x.sharding, state)
            step = make_step(s.model, tx, 0.0, accumulate=parts, shardings=before)
            state, metrics = step(state, frozen, batch, RATE, jax.random.key(KEY))
            assert jax.tree.map(lambda x: x.sharding, state) == before, (
                "a step does not move its state"
            )
            results.append((np.asarray(metrics["rows"]), float(metrics["grad_norm"]), state.train))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-4)
    for path, x in results[0][2].items():
        np.testing.assert_allclose(x, results[1][2][path], atol=2e-5, err_msg=path)


def test_replicated_arrays_are_reported():
    mesh = make_mesh(shape=(2, 4, 1))
    split_up = jax.ShapeDtypeStruct(
        (1024, 64), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("fsdp"))
    )
    whole = jax.ShapeDtypeStruct(
        (1024, 64), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec())
    )
    rows = list_copies({"a": split_up, "b": whole})
    assert rows == [("b", 1024 * 64 * 4, 4), ("a", 1024 * 64 * 4, 1)]


def test_meshes_for_many_devices():
    assert dict(make_mesh(shape=(0, 0, 0)).shape) == {"data": 1, "fsdp": 8, "tensor": 1}
    with pytest.raises(ValueError, match="all three"):
        start_processes(address="localhost:1", count=None, number=None)
