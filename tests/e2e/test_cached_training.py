"""Training on cached features of Java-SED has the same losses as training on its files."""

import io
import shutil
from pathlib import Path

import pytest
from data_jobs import (
    BUILD,
    CLI,
    environment,
    losses,
    run_job,
    save_random_model,
    train_command,
)
from dataset_fixtures import FIXTURES
from dataset_layouts import write_fixture
from PIL import Image

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.loader.released_stages import IMAGE_SETS, SETS

STEPS = "--config.stage.perception.steps=6"


@pytest.fixture(scope="module")
def job(real_data, tmp_path_factory):
    """(folder with built data and a cache of their features, model folder, environment)."""
    folder = tmp_path_factory.mktemp("j")
    env = environment(folder / "home")
    model = save_random_model(folder / "model")
    built, options = str(folder / "built"), ["--sets", "java_sed", "--media", "bytes", *BUILD]
    text = run_job([*CLI, "data", "build", str(real_data), built, *options], env).stdout
    assert "train 432, val 144; 0 skipped" in " ".join(text.split())
    run_job([*CLI, "data", "encode", built, str(folder / "cache"), "--model", str(model)], env)
    return folder, model, env


@pytest.mark.full
def test_the_same_losses_from_files_and_from_the_cache(job):
    folder, model, env = job
    run_job(train_command(model, folder / "built", folder / "files", STEPS), env)
    cache = f"--cache={folder / 'cache'}"
    text = run_job(
        train_command(model, folder / "built", folder / "cached", STEPS, cache), env
    ).stdout
    one, other = losses(folder / "files"), losses(folder / "cached")
    assert len(one) == 6 and one == pytest.approx(other, rel=1e-5)
    # The model trains, and the held-out split is evaluated.
    assert len(set(one)) == 6 and "val" in text


@pytest.mark.full
def test_settings_that_contradict_a_cache_are_refused(job):
    """As tests/unit/test_cache_refusals.py, from the command line."""
    folder, model, env = job
    cache = f"--cache={folder / 'cache'}"
    for more, text in (
        (["--config.data.augment=0.3"], "config.data.augment cannot change"),
        (["--config.data.image_choice=first"], "made with another views than this model's"),
        (["--config.trainable=(('.*', 'train'),)"], "freeze the encoders"),
    ):
        out = folder / f"no{len(more[0])}"
        command = train_command(model, folder / "built", out, STEPS, cache, *more)
        assert text in run_job(command, env, code=2).stderr
    changed = folder / "changed"
    shutil.copytree(folder / "built", changed)
    records = changed / "java_sed" / "records.jsonl"
    records.write_text(records.read_text().replace('"label": "sad"', '"label": "angry"', 1))
    done = run_job(train_command(model, changed, folder / "y", cache), env, code=2)
    assert "the clips or labels of java_sed have changed" in done.stderr
    command = [
        c
        for c in train_command(model, folder / "built", folder / "x", cache)
        if not c.startswith("--data")
    ]
    assert "--cache needs --data" in run_job(command, env, code=2).stderr


@pytest.mark.full
def test_a_released_stage_trains_on_many_sets(tmp_path):
    """Data sets of MMEVerse and of pictures, built and drawn as in the released stages."""
    clip = Path(
        load_corpus(
            make_corpus(config=CorpusConfig(train=1, val=0, test=0), folder=tmp_path / "c")
        )[0].path
    ).read_bytes()
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 90, 40)).save(picture, "JPEG")
    names = [
        f.name
        for f in FIXTURES
        if f.first[1] == "train" and (f.name in SETS or f.name in IMAGE_SETS)
    ]
    for fixture in FIXTURES:
        if fixture.name in names:
            write_fixture(
                fixture,
                tmp_path / "root",
                picture.getvalue() if fixture.name in IMAGE_SETS else clip,
            )
    # Has no time span of a dialogue.
    cut = tmp_path / "root" / "IEMOCAP_full_release" / "video" / "Ses01F_impro01_M000.mp4"
    cut.parent.mkdir()
    cut.write_bytes(clip)
    env, model = environment(tmp_path / "home"), save_random_model(tmp_path / "model")
    built, out = tmp_path / "built", tmp_path / "out"
    options = ["--sets", ",".join(names), "--skip-missing", "--media", "bytes", *BUILD]
    run_job([*CLI, "data", "build", str(tmp_path / "root"), str(built), *options], env)
    assert {p.name for p in built.iterdir()} == set(names) and len(names) >= 17
    # The small tokenizer spells words letter by letter: the 26 labels of BoLD make long rows.
    more = [
        "--config.stages=('cognition',)",
        "--config.data.buckets=((400, 96), (1600, 96))",
        "--config.data.draw=batch",
        "--config.data.workers=1",
    ]
    more += [
        f"--config.stage.{s}.{k}"
        for s in ("perception", "cognition")
        for k in ("released=True", "steps=10")
    ]
    run_job(train_command(model, built, out, *more), env)
    assert len(losses(out)) == 20 and all(0 < x < 100 for x in losses(out))
