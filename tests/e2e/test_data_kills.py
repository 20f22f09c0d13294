"""The builder, the encoder and the loader are killed at random: nothing is lost or repeated."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from data_jobs import BUILD, CLI, ROOT, environment, run_with_kills, save_random_model

from data_pipeline.builders.shards import FIELDS, build_set, open_built
from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.loader.features import FeatureSource
from data_pipeline.media.storage import StoreConfig

KILLS = [pytest.param(2, id="2"), pytest.param(20, id="20", marks=pytest.mark.full)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[Path, Path]:
    """(records, built data)."""
    folder = tmp_path_factory.mktemp("kills")
    made = make_corpus(config=CorpusConfig(train=150, val=24, test=24), folder=folder / "corpus")
    store = StoreConfig(image_choice="middle", temporal="uniform")
    build_set(folder / "built" / "embedded", load_corpus(made), store)
    return made / "records.jsonl", folder / "built"


def contents(built: Path) -> dict[str, list[bytes]]:
    return {
        split: [b"".join(bytes(element[f]) for f in FIELDS) for element in source]
        for split, source in open_built(built)["embedded"].sources.items()
    }


@pytest.mark.parametrize("kills", KILLS)
def test_builder(kills, corpus, tmp_path):
    records, built = corpus
    out = tmp_path / "out"
    busy = lambda: any(out.rglob("key"))
    command = [*CLI, "data", "build", str(records), str(out), *BUILD]
    env = environment(tmp_path / "home")
    assert run_with_kills(command, kills, env, busy=busy, longest=2.0, fresh=out) == kills
    assert contents(out) == contents(built)
    assert not list(out.rglob("staging")) and {k: len(v) for k, v in contents(out).items()} == {
        "train": 150, "val": 24, "test": 24,
    }  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("kills", [2, 20])
def test_encoder(kills, corpus, tmp_path):
    _, built = corpus
    model = save_random_model(tmp_path / "model")
    out = tmp_path / "cache"
    busy = lambda: any(out.rglob("cache.json"))
    command = [*CLI, "data", "encode", str(built), str(out), "--model", str(model), "--batch", "2"]
    env = environment(tmp_path / "home")
    assert run_with_kills(command, kills, env, busy=busy, longest=2.0, fresh=out) == kills
    whole = tmp_path / "whole"
    undisturbed = [str(whole) if c == str(out) else c for c in command]
    run_with_kills(undisturbed, 0, env, busy=lambda: True, longest=0)
    from data_pipeline.loader.features import CacheConfig

    config = CacheConfig.from_json((out / "cache.json").read_text())
    assert config == CacheConfig.from_json((whole / "cache.json").read_text())
    for split, count in (("train", 150), ("val", 24), ("test", 24)):
        one, other = (FeatureSource(folder / "embedded" / split, config) for folder in (out, whole))
        assert len(one) == len(other) == count
        for i in range(count):
            assert one[i][0] == other[i][0]
            assert {k: v.tobytes() for k, v in one[i][1].arrays.items()} == {
                k: v.tobytes() for k, v in other[i][1].arrays.items()
            }


@pytest.mark.full
@pytest.mark.parametrize("kills", [2, 20])
def test_loader(kills, corpus, tmp_path):
    """Each start has another number of workers; the steps are those of an uninterrupted loader."""
    _, built = corpus
    steps, workers = 72, iter(range(1000))
    env = {**environment(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    log, state = tmp_path / "log", tmp_path / "state"

    class Command(list):  # a new number of workers at each start
        def __iter__(self):
            return iter([*self[:], str(next(workers) % 3)])

    command = Command(
        [sys.executable, "tests/loader_job.py", str(built), str(log), str(state), str(steps)]
    )
    before = Counter()

    def busy() -> bool:  # at least one further step of this start is complete
        count = len(log.read_text().splitlines()) if log.exists() else 0
        grown = count > before["steps"]
        before["steps"] = max(before["steps"], count)
        return grown

    assert run_with_kills(command, kills, env, busy=busy, longest=0.03) == kills
    whole = [
        sys.executable,
        "tests/loader_job.py",
        str(built),
        str(tmp_path / "w"),
        str(tmp_path / "ws"),
        str(steps),
        "0",
    ]
    run_with_kills(whole, 0, env, busy=lambda: True, longest=0)
    assert log.read_text() == (tmp_path / "w").read_text()
    names = [name for line in log.read_text().splitlines() for name in json.loads(line)[0]]
    assert (
        len(names) == len(set(names)) == 144
    )  # less than an epoch of 150: no clip is in two steps
