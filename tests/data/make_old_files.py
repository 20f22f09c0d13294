"""Makes tests/data/old_files.tar.gz: what commit bfbf151 wrote, before every file was moved.

    git worktree add /tmp/old bfbf151 && cd /tmp/old && make install
    .venv/bin/python PATH/OF/THIS/FILE PATH/OF/old_files.tar.gz

tests/e2e/test_old_files.py reads the archive: built data, a feature cache, a model folder, a run
folder with checkpoints, two results folders, and what the model answered (expected.json).
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path[:0] = [str(Path.cwd()), str(Path.cwd() / "tests")]

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

flags.FLAGS.mark_as_parsed()

from data_jobs import save_random_model, train_command
from data_pipeline.builders.media import build_set, open_built
from data_pipeline.encode import cache_config, encode_built
from data_pipeline.features import open_cache
from data_pipeline.pipeline import BuiltSource, read_element
from data_pipeline.proxy import StoreConfig

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from emojax.bundle import load_bundle, save_bundle
from emojax.infer.answer import label_probabilities, reasons
from emojax.sharding import make_mesh
from emojax.train.state import flatten

STORE = StoreConfig("bytes", image_choice="middle", temporal="uniform", num_frames=4)
STEPS = (
    "--config.stage.perception.steps=4",
    "--config.train.save_every=2",
    "--config.train.log_every=1",
)


def answers(model: Path, built: Path) -> dict:
    """Probabilities and reasons of the model on every held-out clip."""
    bundle = load_bundle(model)
    s = bundle.settings
    source = BuiltSource(open_built(built)["embedded"], "val", s.views, s.sampling(None))
    items = [read_element(source[i], s.views) for i in range(len(source))]
    return {
        "ids": [r.id for r, _ in items],
        "probabilities": label_probabilities(bundle, items, bundle.labels).tolist(),
        "reasons": reasons(bundle, items) if bundle.reason_task else [],
    }


def save_rounded_model(folder: Path, start: Path) -> Path:
    """A model folder of random weights with few distinct bits, which compress well."""
    bundle = load_bundle(save_random_model(start))
    rounded = jax.tree.map(lambda x: x.astype(jnp.float8_e4m3fn).astype(x.dtype), bundle.variables)
    save_bundle(folder, bundle.settings, bundle.tokenizer, rounded, bundle.labels, True)
    return folder


def drop_what_no_test_reads(folder: Path) -> None:
    """Removes pictures, pages and the last checkpoint of the run, which a test repeats."""
    for path in (*folder.rglob("*.png"), *folder.rglob("*.html")):
        path.unlink()
    for path in (folder / "run" / "tensorboard", folder / "run/checkpoints/perception/4"):
        shutil.rmtree(path)


def save_results(folder: Path, records: list, env: dict[str, str]) -> dict:
    """Writes two results folders, "one" and "other"; returns what `compare` wrote of them."""
    labels = records[0].labels
    emojax = [sys.executable, "-m", "emojax.cli"]
    for name, shift in (("one", 0), ("other", 1)):
        rows = [
            {
                "video_id": r.id,
                "answer": r.label,
                "response": labels[(labels.index(r.label) + shift * (i % 2)) % len(labels)],
            }
            for i, r in enumerate(records)
        ]
        path = folder.parent / f"{name}.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        command = [*emojax, "evaluate", "--predictions", str(path), "--out", str(folder / name)]
        subprocess.run(command, check=True, env=env)
    out = folder.parent / "comparison"
    command = [*emojax, "compare", str(folder / "one"), str(folder / "other"), "--out", str(out)]
    subprocess.run(command, check=True, env=env)
    (comparison,) = json.loads((out / "comparison.json").read_text())["comparisons"]
    del comparison["run"]  # a path of this machine
    return comparison


def main(out: Path) -> None:
    folder = Path(tempfile.mkdtemp()) / "old_files"
    records = load_corpus(
        make_corpus(CorpusConfig(train=8, val=3, test=1), folder.parent / "corpus")
    )
    build_set(folder / "built" / "embedded", records, STORE)
    model = save_rounded_model(folder / "model", folder.parent / "start")
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    bundle = load_bundle(model)
    with jax.set_mesh(mesh):
        flat = flatten(bundle.variables)
        encode_built(bundle.settings, flat, open_built(folder / "built"), folder / "cache", mesh, 8)
    env = {**os.environ, "EMOJAX_CACHE": str(folder.parent / "home"), "PYTHONPATH": str(Path.cwd())}
    command = train_command(Path("model"), Path("built"), Path("run"), *STEPS, "--cache=cache")
    command = [c.replace("configs/", f"{Path.cwd()}/configs/") for c in command]
    subprocess.run(command, check=True, env=env, cwd=folder)  # paths in it hold anywhere
    run = folder / "run"
    comparison = save_results(folder, records, env)
    found = {"model": answers(model, folder / "built"), "run": answers(run, folder / "built")}
    cache = open_cache(folder / "cache", cache_config(bundle.settings, flat))
    _, features = cache.sources["embedded"]["val"][0]
    found["cache"] = {
        k: float(np.abs(x.astype(np.float64)).sum()) for k, x in features.arrays.items()
    }
    found["losses"] = [
        json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()
    ]
    found["comparison"] = comparison
    (folder / "expected.json").write_text(json.dumps(found, indent=1))
    drop_what_no_test_reads(folder)
    with tarfile.open(out, "w:gz") as archive:
        archive.add(folder, "old_files")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
