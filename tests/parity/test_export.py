"""Exported files load in other projects, bit for bit or to the logit; wrong files are explained."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from emojax.bundle.model_folder import load_bundle
from emojax.model.variables import flatten
from emojax.weights.catalogue import catalogue_model
from emojax.weights.exporter import export_model
from emojax.weights.importer import import_model, model_settings
from emojax.weights.load_tensors import WeightsError
from emojax.weights.provenance import verify_model

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
SCALE = 1.0  # alpha / rank of the tiny presets
KEY = "llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight"
IDS = torch.tensor([[1, 17, 40, 300, 7, 9]])


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    """(folder of files, its sources, the stage checkpoint, the imported model folder)."""
    from parity import released

    folder = tmp_path_factory.mktemp("v2")
    settings = model_settings(catalogue_model("emotion-llama-v2"), preset="tiny:released")
    released.llama(folder / "llama")
    released.eva_file(folder / "eva_vit_g.pth", 3)
    released.whisper(folder / "whisper", settings.views.mels, settings.model.audio.steps)
    state = released.stage_checkpoint(folder / "checkpoint_9.pth")
    files = {"llama-2-7b-chat": folder / "llama", "eva-vit-g": folder / "eva_vit_g.pth"}
    files |= {
        "whisper-large-v3": folder / "whisper",
        "emotion-llama-v2": folder / "checkpoint_9.pth",
    }
    return (
        folder,
        files,
        state,
        import_model("emotion-llama-v2", files, folder / "m", settings=settings),
    )


def base_model(folder):
    return transformers.LlamaForCausalLM.from_pretrained(folder / "llama").eval()


def test_a_stage_checkpoint_comes_out_bit_equal(v2, tmp_path):
    _, _, state, model = v2
    export_model(model, "emotion-llama", tmp_path / "out.pth")
    out = torch.load(tmp_path / "out.pth", weights_only=True)["model"]
    assert set(out) == set(state)
    assert all(torch.equal(out[name], state[name]) for name in state)
    export_model(model, "safetensors", tmp_path / "out.safetensors")
    for name, value in load_file(tmp_path / "out.safetensors").items():
        np.testing.assert_array_equal(value, state[name].numpy())


def test_peft_loads_the_adapter_and_gives_it_back(v2, tmp_path):
    from parity import released

    folder, files, state, model = v2
    export_model(model, "peft", tmp_path / "adapter")
    adapted = peft.PeftModel.from_pretrained(base_model(folder), tmp_path / "adapter").eval()
    merged = base_model(folder)
    released.merge_lora(merged, state, SCALE)
    with torch.no_grad():
        torch.testing.assert_close(adapted(IDS).logits, merged(IDS).logits, rtol=1e-4, atol=1e-4)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            assert torch.equal(parameter, state["llama_model." + name.replace(".default", "")]), (
                name
            )
    # Another adapter, saved by peft itself, on top of the imported model.
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.mul_(1.5).add_(0.01)
    adapted.save_pretrained(tmp_path / "theirs")
    settings = load_bundle(model).settings
    both = {**files, "peft-adapter": tmp_path / "theirs"}
    again = import_model("emotion-llama-v2", both, tmp_path / "m2", settings=settings)
    export_model(again, "peft", tmp_path / "ours")
    theirs, ours = (
        load_file(tmp_path / n / "adapter_model.safetensors") for n in ("theirs", "ours")
    )
    assert set(ours) == set(theirs) and len(ours) == 8
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_merged_llama_is_a_model_of_transformers(v2, tmp_path, monkeypatch):
    from parity import released

    folder, _, state, model = v2
    merged = base_model(folder)
    released.merge_lora(merged, state, SCALE)
    for shard in (5_000_000_000, 40_000):
        monkeypatch.setattr("emojax.weights.exporter.SHARD", shard)
        out = tmp_path / str(shard)
        written = export_model(model, "hf-merged", out)
        assert (out / "tokenizer.model").exists() and (len(written) > 4) == (shard == 40_000)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
        with torch.no_grad():
            torch.testing.assert_close(loaded(IDS).logits, merged(IDS).logits, rtol=1e-4, atol=1e-4)


def test_v1_checkpoint_without_its_unused_module(tmp_path):
    from parity import released

    settings = model_settings(catalogue_model("emotion-llama"), preset="tiny:released_v1")
    released.llama(tmp_path / "llama")
    released.eva_file(tmp_path / "eva.pth", 3)
    released.mae(tmp_path / "mae")
    released.videomae(tmp_path / "videomae", settings.views.num_frames)
    released.hubert(tmp_path / "hubert")
    state = released.v1_checkpoint(tmp_path / "v1.pth", newer_peft=True)
    files = {
        "llama-2-7b-chat": "llama",
        "eva-vit-g": "eva.pth",
        "mae-faces": "mae",
        "videomae-faces": "videomae",
    }
    files |= {"chinese-hubert-large": "hubert", "emotion-llama": "v1.pth"}
    model = import_model(
        "emotion-llama",
        {k: tmp_path / v for k, v in files.items()},
        tmp_path / "m",
        settings=settings,
    )
    export_model(model, "emotion-llama", tmp_path / "out.pth")
    out = torch.load(tmp_path / "out.pth", weights_only=True)["model"]
    wanted = {
        k.replace(".default.", "."): v for k, v in state.items() if not k.startswith("attention.")
    }
    assert set(out) == set(wanted) and all(torch.equal(out[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: {("x" + k if k == KEY else k): v for k, v in s.items()},
            rf"1 unexpected: x{KEY}",
        ),
        (lambda s: {k: v for k, v in s.items() if k != KEY}, rf"1 missing: {KEY}"),
        (
            lambda s: {k: v.T.contiguous() if k == KEY else v for k, v in s.items()},
            rf"{KEY} \[32, 4\].*transposed",
        ),
        (lambda s: {**s, "new.weight": torch.zeros(2)}, r"1 unexpected: new\.weight"),
    ],
)
def test_a_wrong_file_is_explained(v2, tmp_path, change, message):
    _, files, state, _ = v2
    torch.save({"model": change(state)}, tmp_path / "wrong.pth")
    settings = model_settings(catalogue_model("emotion-llama-v2"), preset="tiny:released")
    wrong = {**files, "emotion-llama-v2": tmp_path / "wrong.pth"}
    with pytest.raises(WeightsError, match=f"(?s)wrong.pth.*{message}"):
        import_model("emotion-llama-v2", wrong, tmp_path / "m", settings=settings)
    assert not (tmp_path / "m").exists(), "nothing half-imported is left"


def test_manifest_and_verify(v2, tmp_path):
    import json
    import shutil

    _, files, _, model = v2
    assert verify_model(model) == []
    facts = json.loads((model / "manifest.json").read_text())
    leaves = flatten(load_bundle(model).variables)
    assert set(facts["leaves"]) == set(leaves) and facts["parameters"] == sum(
        x.size for x in leaves.values()
    )
    assert facts["leaves"]["params/ln_vision/scale"]["source"] == "start"
    assert facts["leaves"]["params/fusion/out/kernel"]["source"] == "emotion-llama-v2"
    shards = [f["file"] for f in facts["sources"]["llama-2-7b-chat"]["files"]]
    assert len(shards) > 1 and all((files["llama-2-7b-chat"] / s).exists() for s in shards)
    copy = shutil.copytree(model, tmp_path / "copy")
    facts["leaves"]["params/fusion/out/kernel"]["sha256"] = "0" * 16
    (copy / "manifest.json").write_text(json.dumps(facts))
    assert verify_model(copy) == ["params/fusion/out/kernel differs from what was imported"]


def test_an_adapter_of_another_scale_is_refused(v2, tmp_path):
    import json

    _, files, _, model = v2
    export_model(model, "peft", tmp_path / "adapter")
    facts = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    settings = load_bundle(model).settings
    for change, message in (
        ({"lora_alpha": 64.0}, "lora_alpha 64"),
        ({"use_rslora": True}, r"a scale of 2 \(lora_alpha / sqrt\(r\)"),  # 4 / sqrt(4)
    ):
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(facts | change))
        with pytest.raises(ValueError, match=message):
            both = {**files, "peft-adapter": tmp_path / "adapter"}
            import_model("emotion-llama-v2", both, tmp_path / "m", settings=settings)
    with pytest.raises(ValueError, match="no part that chinese-hubert-large fills"):
        more = {**files, "chinese-hubert-large": files["whisper-large-v3"]}
        import_model("emotion-llama-v2", more, tmp_path / "m", settings=settings)


def test_an_optional_norm_is_imported_and_exported(v2, tmp_path):
    _, files, state, model = v2
    more = {
        **state,
        "ln_vision.weight": torch.full((16,), 1.5),
        "ln_vision.bias": torch.full((16,), 0.25),
    }
    torch.save({"model": more}, tmp_path / "c.pth")
    settings = load_bundle(model).settings
    again = import_model(
        "emotion-llama-v2",
        {**files, "emotion-llama-v2": tmp_path / "c.pth"},
        tmp_path / "m",
        settings=settings,
    )
    export_model(again, "emotion-llama", tmp_path / "out.pth")
    out = torch.load(tmp_path / "out.pth", weights_only=True)["model"]
    assert set(out) == set(more) and all(torch.equal(out[name], more[name]) for name in more)


def test_exports_overwrite_no_model(v2, tmp_path):
    model = v2[3]
    before = sorted(p.name for p in model.iterdir())
    for form, out in (
        ("hf-merged", model),
        ("peft", model),
        ("safetensors", model),
        ("emotion-llama", model),
    ):
        with pytest.raises(ValueError, match="is a (model )?folder"):
            export_model(model, form, out)
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        export_model(model, "safetensors", tmp_path / "out.bin")
    assert sorted(p.name for p in model.iterdir()) == before


def test_the_166_tensors_at_true_size_are_bit_equal(tmp_path):
    """A stage checkpoint of torch, 71,536,387 parameters: imported, exported, read by torch."""
    from emojax.config import load_config, resolve
    from emojax.weights.catalogue import stage_table
    from emojax.weights.importer import leaf_types
    from emojax.weights.load_tensors import load_tensors, save_tensors
    from emojax.weights.tensor_files import open_tensors
    from parity import released, torch_names

    shapes = torch_names.stage_shapes()
    rng = np.random.default_rng(0)
    state = released.write_checkpoint(
        tmp_path / "checkpoint_9.pth",
        {n: rng.standard_normal(s, np.float32) for n, s in shapes.items()},
    )
    assert len(state) == 166 and sum(t.numel() for t in state.values()) == 71_536_387
    settings = resolve(load_config("v2:stage1"))
    table = stage_table(settings.model)
    leaves = load_tensors(table, open_tensors(tmp_path / "checkpoint_9.pth"), leaf_types(settings))
    held = type(table)(table.name, tuple(r for r in table.rules if not r.optional))
    out = {name: torch.from_numpy(x) for name, x in save_tensors(held, leaves).items()}
    torch.save({"model": out}, tmp_path / "out.pth")
    again = torch.load(tmp_path / "out.pth", weights_only=True)["model"]
    assert set(again) == set(state) and all(torch.equal(again[n], state[n]) for n in state)
