"""Remat by memory: bytes and FLOPs by hand, the choice, and what the traced program computes."""

import dataclasses
import logging

import jax
import jax.numpy as jnp

from emojax.config import for_devices, load_config, resolve
from emojax.model.dense import LoraConfig
from emojax.model.lm.llama import Llama, LlamaConfig
from emojax.model.remat import REMAT, remat_names
from emojax.plan.formula import estimate
from emojax.plan.topology import CHIPS, parse_topology
from emojax.sharding import make_mesh, replicated, shape_struct
from emojax.train.flops import executed_flops
from emojax.train.state import TrainState
from emojax.train.step_memory import (
    Rows,
    bytes_at_rest,
    choose_remat,
    kept_bytes,
    recomputed_flops,
    temporary_bytes,
    with_remat,
    with_remat_of_batch,
)

# float32: 4 bytes an entry; q has 32 entries per token, k and v 16 each
SMALL = LlamaConfig(
    vocab=11,
    width=16,
    depth=3,
    heads=16,
    kv_heads=8,
    head_width=2,
    mlp=20,
    lora=LoraConfig(rank=0),
    remat="auto",
)
PART = Rows(rows=2, length=5, answers=1)


def test_kept_bytes_by_hand():
    """10 tokens, 3 layers; attention also keeps a float32 sum for each of 16 heads."""
    assert kept_bytes(SMALL, (), PART) == 10 * 3 * 4 * 16
    qkv = 32 + 2 * 16
    assert kept_bytes(SMALL, REMAT["qkv"], PART) == 10 * 3 * 4 * (16 + qkv)
    everything = 16 + qkv + 32 + 16 + 2 * 20
    assert kept_bytes(SMALL, REMAT["all"], PART) == 10 * 3 * 4 * (everything + 16)
    # Over 16 devices inputs and residuals stay whole, and k and v: 8 heads cannot be divided.
    split = Rows(rows=2, length=5, answers=1, tensor=16)
    parts = 16 + (32 + 32) / 16 + 2 * 16 + 16 + 2 * 20 / 16
    assert kept_bytes(SMALL, REMAT["all"], split) == 10 * 3 * 4 * (parts + 1)
    seven = dataclasses.replace(SMALL, heads=28, kv_heads=4)  # in memory as 32 and 8
    assert kept_bytes(seven, REMAT["qkv"], PART) == 10 * 3 * 4 * (16 + 64 + 2 * 16)


def test_temporary_bytes_by_hand():
    """All kept: outputs of norms and activation, gradients of a layer, four gathered kernels."""
    rest, gradients, kernels = 2 * 16 + 20, 2 * 20 + 4 * 16, 4 * 16 * 20
    assert temporary_bytes(SMALL, REMAT["all"], PART) == 4 * (10 * (rest + gradients) + kernels)
    answers = Rows(rows=2, length=5, answers=1000)
    assert temporary_bytes(SMALL, REMAT["all"], answers) == 11 * (16 * 4 + 2 * 4 * 2 * 1000)


def test_flops_of_recomputation_are_those_of_the_program():
    """The gradient of the input, by policies that keep all but one group, against all."""
    shape = jax.ShapeDtypeStruct((2, 5, 16), jnp.float32)
    whole = (jax.ShapeDtypeStruct((2, 5), jnp.int32), jax.ShapeDtypeStruct((2, 5), bool))

    def count(remat):
        model = Llama(LlamaConfig(**{**vars(SMALL), "remat": remat}))
        variables = jax.eval_shape(model.init, jax.random.key(0), shape, *whole)

        def loss(x, variables, positions, valid):
            return model.apply(variables, x, positions, valid)[0].sum()

        return executed_flops(jax.jit(jax.grad(loss)).trace(shape, variables, *whole).jaxpr)

    assert recomputed_flops(SMALL, REMAT["all"], PART) == 0
    least = count("all")
    for left_out in (("q", "k", "v"), ("residual",), ("gate",), ("up",)):
        kept = tuple(name for name in REMAT["all"] if name not in left_out)
        assert count(",".join(kept)) - least == 10 * recomputed_flops(SMALL, kept, PART) > 0


def need(remat, part=PART):
    names = remat_names(remat)
    return kept_bytes(SMALL, names, part) + temporary_bytes(SMALL, names, part)


def test_the_choice_keeps_more_in_more_memory_and_never_too_much():
    chosen, last = [], float("inf")
    for room in range(0, 2 * int(need("all")), 40):
        remat = choose_remat(SMALL, PART, room)
        again = recomputed_flops(SMALL, remat_names(remat) if remat != "full" else (), PART)
        assert again <= last, "more room, and more is computed again"
        assert need(remat) <= room or remat == "full"
        chosen, last = [*chosen, remat], again
    assert chosen[0] == "full" and chosen[-1] == "all"
    assert 4 < len(dict.fromkeys(chosen)), "there are steps between all and nothing"
    assert choose_remat(SMALL, PART, need("all")) == "all"
    assert choose_remat(SMALL, PART, need("all") - 1) != "all"


def test_unknown_memory_recomputes_nothing_and_a_named_policy_stays():
    config = resolve(load_config("tiny:test")).model
    assert config.llama.remat == "none"
    automatic = resolve(load_config("v2:stage1")).model
    assert automatic.llama.remat == "auto"
    assert with_remat(automatic, PART, None).llama.remat == "none"
    assert with_remat(automatic, PART, 1e3).llama.remat == "full"
    assert with_remat(automatic, PART, 1e12).llama.remat == "all"
    old = load_config("v2:stage1")  # as model folders and runs of earlier versions have it
    old.model.remat, old.model.remat_long = "most", "full"
    before = resolve(old).model
    for length, remat in ((768, "most"), (769, "full")):
        part = Rows(rows=1, length=length, answers=1)
        assert with_remat(before, part, 1e12).llama.remat == remat


def test_a_choice_is_logged(caplog):
    config = resolve(load_config("v2:stage1")).model
    batch = {
        "ids": jax.ShapeDtypeStruct((4, 1024), jnp.int32),
        "labels": jax.ShapeDtypeStruct((4, 384), jnp.int32),
    }
    with caplog.at_level(logging.INFO, logger="emojax"):
        out = with_remat_of_batch(config, {}, batch, 1e12)
    # 4,096 tokens x 32 layers x (2 bytes x (6 x 4,096 + 2 x 11,008) + 4 x 32), and a layer
    line = "rows of 1,024 tokens keep q, k, v, attention, residual, gate, up: 12."
    assert caplog.messages[0].startswith(line), caplog.messages
    assert out.llama.remat == "all"
    caplog.clear()
    with_remat_of_batch(config, {}, batch, None)
    assert not caplog.messages


def test_bytes_at_rest_by_hand():
    """A parameter with two moments and a gradient, split over 4; a frozen one of 2 bytes whole."""
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    split = jax.NamedSharding(mesh, jax.P(None, "fsdp"))
    parameter = shape_struct((8, 4), jnp.float32, split)
    state = TrainState(
        shape_struct((), jnp.int32, replicated(mesh)), {"a": parameter}, [parameter] * 2, {}
    )
    frozen = {"b": shape_struct((10, 10), jnp.bfloat16, replicated(mesh))}
    sizes = {"data": 2, "fsdp": 4, "tensor": 1}
    assert bytes_at_rest(state, frozen, sizes) == 4 + 4 * (8 * 4 * 4) / 4 + 200


def planned(name, topology, rows, chip=None, **changes):
    config = load_config(name)
    config.train.rows_per_device = rows
    config.train.update(changes)
    target = parse_topology(topology)
    settings = for_devices(resolve(config), target.chips)
    return estimate(
        settings,
        settings.stages[0],
        chip or CHIPS[target.chip],
        mesh_shape=(1, target.chips, 1),
        bucket=(1024, 384),
        cached=True,
    )


def test_plans_keep_what_the_chip_can_hold():
    """v2, stage 2: 11.5 GiB of kept results at 4 rows of 1,024 tokens."""
    small = planned("v2:stage2_pod", "v5e-16", 8)
    large = planned("v2:stage2_pod", "v6e-16", 8)
    shipped = planned("v2:stage2_pod", "v5e-16", 4)
    parts = planned("v2:stage2_pod", "v5e-16", 8, accumulate=2)
    assert shipped["remat"] == large["remat"] == parts["remat"] == "all"
    assert small["remat"] not in ("all", "full")
    assert small["executed_flops"] > large["executed_flops"]
    assert small["peak_bytes_per_chip"] <= 0.95 * CHIPS["v5e"].hbm < large["peak_bytes_per_chip"]
    assert planned("v2:stage2_pod", "v5e-16", 64)["remat"] == "full"
    assert not planned("v2:stage2_pod", "v5e-16", 64)["fits"]
