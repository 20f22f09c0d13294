"""Plans: topologies, FLOPs by hand, HLO text, figures. tests/shard/test_tpu.py compiles them."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from emojax.cli.main import main
from emojax.cli.plan_cmd import show
from emojax.config import for_devices, load_config, resolve, set_fields
from emojax.model.attention import splash_attention
from emojax.plan import hlo, step_plan, topology
from emojax.plan.gpu_target import GPU_TARGETS, target_config
from emojax.plan.topology import (
    CHIPS,
    Topology,
    describe_devices,
    device_memory,
    parse_topology,
)
from emojax.train.flops import executed_flops, useful_flops


def test_topologies():
    assert parse_topology("v5litepod-16") == Topology("v5e", (4, 4))
    assert parse_topology("v4-16").chips == 8 and str(parse_topology("v5p-8")) == "v5p:2x2x1"
    two = parse_topology("v5e:4x4*2")
    assert (
        two.chips == 32 and two.slices == 2 and two.is_tpu and not parse_topology("h100:8").is_tpu
    )
    machines = Topology("h100", (8,), 2)
    assert parse_topology("h100:2x8") == parse_topology("h100:8*2") == machines
    assert str(machines) == "h100:2x8" and machines.chips == 16
    for wrong in ("v9:4x4", "v5e:4xx", "v5e", "h100"):
        with pytest.raises(ValueError, match="is not a valid topology"):
            parse_topology(wrong)


def test_executed_flops_by_hand():
    """Forward 2 B D D per layer, backward twice that; a checkpointed layer repeats forward."""
    w = jax.ShapeDtypeStruct((3, 8, 8), jnp.float32)
    x = jax.ShapeDtypeStruct((5, 8), jnp.float32)

    def run(remat):
        layer = lambda x, w: (jnp.tanh(x @ w), None)
        layer = jax.checkpoint(layer) if remat else layer
        return (
            jax.jit(jax.grad(lambda w, x: jax.lax.scan(layer, x, w)[0].sum(), (0, 1)))
            .trace(w, x)
            .jaxpr
        )

    once = 2 * 5 * 8 * 8 * 3
    assert executed_flops(run(False)) == 3 * once
    assert executed_flops(run(True)) == 4 * once


@pytest.mark.parametrize("causal", [True, False])
def test_flops_of_the_tpu_kernel_by_hand(causal):
    """2 matmuls forward, 3 for dq, 4 for dk and dv, on 4 heads; tiles of 384 up to the diagonal."""
    q = jax.ShapeDtypeStruct((2, 768, 4, 128), jnp.bfloat16)
    k = jax.ShapeDtypeStruct((2, 768, 2, 128), jnp.bfloat16)
    keys = jax.ShapeDtypeStruct((2, 768), bool)

    def loss(q, k, v, keys):
        return splash_attention(q, k, v, keys, causal=causal).astype(jnp.float32).sum()

    tiles = 768 * (768 + 384) / 2 if causal else 768**2
    closed = jax.jit(jax.grad(loss, (0, 1, 2))).trace(q, k, k, keys).jaxpr
    di = 2 * 2 * 4 * 768 * 128  # the sums of output times gradient, once per query
    assert executed_flops(closed) == 9 * 2 * 2 * 4 * tiles * 128 + di


def test_useful_flops_of_attention_follow_heads_and_their_width():
    """Half of the square, 6 matmuls: 32 layers of 32 heads of 256."""
    model = resolve(load_config("v2:stage1")).model
    model = dataclasses.replace(model, llama=dataclasses.replace(model.llama, head_width=256))
    parts = useful_flops(model, {}, {}, batch_size=3, length=100, answers=10)
    assert parts["attention"] == 3 * 6 * 2 * 100**2 / 2 * 32 * 256 * 32
    assert parts["head"] == 3 * 10 * 4 * 4096 * 32000


HLO = """
%cond (p: (u32[], f32[8,8])) -> pred[] {
  %p = (u32[], f32[8,8]{1,0}) parameter(0)
  %c.1 = u32[]{:T(128)} constant(8)
  %i = u32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%i, %c.1), direction=LT
}
%body (p: (u32[], f32[8,8])) -> (u32[], f32[8,8]) {
  %p = (u32[], f32[8,8]{1,0}) parameter(0)
  %two = u32[]{:T(128)} constant(2)
  %i = u32[] get-tuple-element(%p), index=0
  %x = f32[8,8]{1,0} get-tuple-element(%p), index=1
  %next = u32[] add(%i, %two)
  %ag = f32[16,8]{1,0:T(8,128)} all-gather(%x), channel_id=7, metadata={op_name="gate/dot_general"}
  %f = f32[8,8]{1,0} fusion(%ag), calls=%inner, backend_config={"estimated_cycles":"100"}
  ROOT %t = (u32[], f32[8,8]{1,0}) tuple(%next, %f)
}
ENTRY %main (a: f32[8,8]) -> f32[8,8] {
  %a = f32[8,8]{1,0} parameter(0)
  %w = (u32[], f32[8,8]{1,0}) while(%a), condition=%cond, body=%body
  %splash_mha_dq_segmented = bf16[2,4,256,128]{3,2,1,0} custom-call(%a), custom_call_target=\
"tpu_custom_call", backend_config={"x":"
"block_q_dkv": 128}
}}, metadata={op_name="splash_causal"}
  ROOT %r = f32[8,8]{1,0} add(%a, %a), backend_config={"estimated_cycles":"11"}
}
"""


def test_hlo_text_by_hand():
    """A loop to 8 in steps of 2 runs 4 times; a kernel has 3 matmuls over half the square."""
    report = hlo.read_program(HLO)
    assert report.cycles == 4 * 100 + 11
    assert report.kernel_flops == 3 * 2 * 2 * 4 * (256 * (256 + 128) // 2) * 128
    assert report.totals() == {"all-gather": {"count": 4, "bytes": 4 * 16 * 8 * 4}}
    assert report.collectives[0].source == "gate/dot_general"


def test_kernels_of_grouped_heads_count_the_heads_of_queries():
    """4 matmuls over half the square, whichever array comes first."""
    line = (
        "%splash_mha_dkv_segmented = (f32[2,128,128], bf16[2,1,256,128], bf16[2,1,256,128]) "
        'custom-call(bf16[2,4,256,128] %q, bf16[2,1,256,128] %k), op_name="splash_causal"'
    )
    assert hlo.kernel_flops(line) == 4 * 2 * 2 * 4 * (256 * (256 + 128) // 2) * 128


def test_memory_of_a_device(monkeypatch):
    """What the device says; else the table by its kind; unknown on CPU."""
    assert device_memory() is None
    stats = {"bytes_limit": 11e9}
    device = SimpleNamespace(device_kind="TPU v5 lite", memory_stats=lambda: stats)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    monkeypatch.setattr(topology, "platform", lambda: "tpu")
    assert device_memory() == 11e9
    stats.clear()
    assert device_memory() == 16 * 2**30


def test_an_error_without_text_is_named(monkeypatch):
    def fail(**_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", fail)
    with pytest.raises(ValueError, match="v5e:2x2: RuntimeError"):
        describe_devices(parse_topology("v5e:2x2"))


def test_settings_for_many_devices():
    """Batch size 4 on each of 16 devices: as many samples as 4 x 50,000, in 3,125 steps."""
    s = for_devices(resolve(load_config("v2:stage1_pod")), 16)
    assert s.train.batch == 64 and s.stages[0].steps == 3125 and s.stages[0].optim.warmup == 62
    assert s.raw["train"]["batch"] == 64
    same = resolve(load_config("v2:stage1"))
    assert (
        for_devices(same, 16) is same and same.train.batch == 4 and same.stages[0].steps == 50_000
    )


def test_fields_on_the_command_line():
    config = load_config("tiny")
    set_fields(
        config,
        ["--config.model.remat=full", "--config.train.mesh=(1,2,4)", "--config.optim.lr=0.5"],
    )
    assert (
        config.model.remat == "full" and config.train.mesh == (1, 2, 4) and config.optim.lr == 0.5
    )


@pytest.fixture
def no_gpu_compiler(monkeypatch):
    monkeypatch.setattr(step_plan, "has_gpu_compiler", lambda: False)


def test_gpu_plan_is_calculated_and_says_so(capsys, no_gpu_compiler):
    assert (
        main(
            [
                "plan",
                "train",
                "--config",
                "configs/v2.py:stage1",
                "--topology",
                "h100:8",
                "--batch",
                "32",
                "--cached",
                "--json",
            ]
        )
        == 0
    )
    plan = json.loads(capsys.readouterr().out)
    assert plan["assumptions"][0] == "calculated by formula, not compiled"
    assert plan["source"] == "formula" and "gpu-compiler" in plan["note"]
    # 4 N per token for the blocks (6.476e9), 6 N for LoRA (33.5e6): within 1 % of the total
    assert plan["useful_flops_by_part"]["llama"] == pytest.approx(
        32 * 768 * (4 * 6.476e9 + 6 * 33.55e6), rel=1e-3
    )
    assert plan["useful_flops"] < plan["executed_flops"] and plan["fits"]
    assert plan["learned_parameters"] == 71_536_387
    page = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()
    assert not [key for key in plan if f"`{key}`" not in page]
    for key in (
        "peak_bytes_per_chip",
        "executed_flops",
        "useful_flops",
        "step_seconds_estimate",
        "chip_hours",
    ):
        assert plan[key] > 0, key


def test_gpu_plan_with_a_compiler(monkeypatch, capsys):
    """The step is traced for described devices; what XLA would return stands in for it."""
    asked = {}

    class Compiled:
        def memory_analysis(self):
            return SimpleNamespace(
                peak_memory_in_bytes=9 << 30,
                argument_size_in_bytes=2 << 30,
                temp_size_in_bytes=7 << 30,
            )

    class Traced:
        jaxpr = jax.jit(lambda x: x @ x).trace(jnp.ones((4, 4))).jaxpr

        def lower(self):
            return self

        def compile(self, compiler_options):
            asked["options"] = compiler_options
            return Compiled()

    def trace(settings, stage, mesh, **options):
        asked["mesh"] = dict(mesh.shape)
        return Traced(), SimpleNamespace(train={}), {}

    def devices(topology):
        asked["topology"] = str(topology)
        return jax.devices()

    monkeypatch.setattr(step_plan, "has_gpu_compiler", lambda: True)
    monkeypatch.setattr(step_plan, "describe_devices", devices)
    monkeypatch.setattr(step_plan, "trace_step", trace)
    words = ["--config", "tiny:released", "--batch", "8", "--topology", "h100:2x4"]
    mesh = "--config.train.mesh=(0,0,0)"
    assert main(["plan", "train", *words, mesh, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert asked["mesh"] == {"data": 2, "fsdp": 4, "tensor": 1}  # gradients alone leave a machine
    assert asked["topology"] == "h100:2x4"
    assert asked["options"] == {"xla_gpu_enable_triton_gemm": False}
    assert plan["source"] == "compiler" and plan["peak_bytes_per_chip"] == 9 << 30
    assert 0 < plan["formula_peak_bytes_per_chip"] < 1 << 30
    assert plan["assumptions"][0] == "compiled for the GPU, run on none"
    show(plan, Console())
    printed = capsys.readouterr().out
    assert "peak, by formula" in printed and "frozen kernels float32" in printed
    page = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()
    assert not [key for key in plan if f"`{key}`" not in page]
    asked.clear()
    assert main(["plan", "train", *words, mesh, "--json", "--formula"]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == "formula" and not asked


def test_every_gpu_is_described():
    """As in CHIPS; a block may use the shared memory of a core but for 1 KiB (CUDA's guide)."""
    gpus = {name for name, chip in CHIPS.items() if chip.is_gpu}
    assert gpus == set(GPU_TARGETS) == {"a100", "h100", "h200"}
    for name in gpus:
        assert 0.99 < GPU_TARGETS[name].memory / CHIPS[name].hbm < 1.08
    text = target_config("h100")
    assert "core_count: 132" in text and "shared_memory_per_block_optin: 232448" in text
    assert "major: 9 minor: 0 feature_extension: ACCELERATED_FEATURES" in text
    assert text.count("{") == text.count("}")


TOPOLOGIES = (
    "chips are v4, v5e, v5p, v6e, a100, h100, h200, as in v5e:4x4, v5p:2x2x1, v5e:4x4*2 for "
    "two slices, h100:8, h100:2x8 for two machines; or one of "
)
LENGTHS = "it must be a row and an answer length, as in 768,128"


@pytest.mark.parametrize(
    ("config", "words", "text"),
    [
        ("v2:stage1", ["nothing"], f"'nothing' is not a valid topology: {TOPOLOGIES}"),
        (
            "v2:stage1",
            ["h100:8", "--stage", "x", "--cached"],
            "--stage: there is no stage 'x'; there are",
        ),
        (
            "v2:stage1",
            ["h100:8"],
            "a batch size of 4 cannot be divided over 8 parts (data x fsdp)",
        ),
        ("tiny:test", ["h100:0"], "'h100:0' has no chips"),
        ("tiny:test", ["v5e:4x4*0"], "'v5e:4x4*0' has no chips"),
        ("tiny:test", ["h100:8", "--bucket", "10"], f"--bucket is '10'; {LENGTHS}"),
        ("tiny:test", ["h100:8", "--bucket", "a,b"], f"--bucket is 'a,b'; {LENGTHS}"),
        (
            "tiny:test",
            ["h100:8", "--bucket", "10,200"],
            "--bucket is '10,200'; the answer is a part of the row",
        ),
    ],
)
def test_what_cannot_be_planned(config, words, text, capsys, no_gpu_compiler):
    assert main(["plan", "train", "--config", config, "--topology", *words]) == 2
    assert f"emojax plan: {text}" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("batch", ["0", "-8"])
def test_a_batch_size_below_one(batch, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "train", "--config", "tiny:test", "--topology", "h100:8", f"--batch={batch}"])
    printed = " ".join(capsys.readouterr().err.split())
    assert f"--batch: '{batch}' is not a whole number of at least 1" in printed
