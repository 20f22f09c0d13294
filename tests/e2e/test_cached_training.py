"""Java-SED in shards, its features cached, and a model trained from the files and from the cache: the same losses."""

import subprocess
import sys

import pytest
from data_jobs import BUILD, ROOT, environment, losses, save_random_model, train_command

STEPS = "--config.stage.perception.steps=6"


@pytest.fixture(scope="module")
def job(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("j")
    env = environment(folder / "home")
    model = save_random_model(folder / "model")

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    cli = (sys.executable, "-m", "emojax.cli", "data")
    text = run(*cli, "build", str(real_data), str(folder / "built"), "--sets", "java_sed", "--media", "bytes", *BUILD)
    assert "train 432, val 144; 0 skipped" in " ".join(text.split())
    run(*cli, "encode", str(folder / "built"), str(folder / "cache"), "--model", str(model))
    return folder, model, env, run


def test_the_same_losses_from_files_and_from_the_cache(job):
    folder, model, _, run = job
    run(*train_command(model, folder / "built", folder / "files", STEPS))
    text = run(*train_command(model, folder / "built", folder / "cached", STEPS, f"--cache={folder / 'cache'}"))
    one, other = losses(folder / "files"), losses(folder / "cached")
    assert len(one) == 6 and one == pytest.approx(other, rel=1e-5)
    assert len(set(one)) == 6 and "val" in text  # it trains, and the held-out part is scored


def test_what_a_cache_can_not_serve_is_refused(job):
    folder, model, env, _ = job
    cache = f"--cache={folder / 'cache'}"
    for more, text in (
        (["--config.data.augment=0.3"], "config.data.augment can not change"),
        (["--config.data.image_choice=first"], "made with another views than this model's"),
        (["--config.trainable=(('.*', 'train'),)"], "freeze the encoders"),
    ):
        command = train_command(model, folder / "built", folder / f"no{len(more[0])}", STEPS, cache, *more)
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 2 and text in done.stderr, done.stderr[-1500:]
    command = [c for c in train_command(model, folder / "built", folder / "x", cache) if not c.startswith("--data")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and "--cache needs --data" in done.stderr
