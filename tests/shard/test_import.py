"""Imported leaves are put into their shards: nothing large is replicated."""

import jax
import small_files

from emojax.config import load_config, resolve
from emojax.weights import importer


def test_leaves_are_put_into_shards(tmp_path, monkeypatch):
    config = load_config("tiny:released")
    config.train.mesh = (1, 4, 2)
    settings = resolve(config)
    leaves = importer.leaf_types(settings)
    files = small_files.source_files("emotion-llama-v2", settings, tmp_path)
    imported = {}

    def keep(folder, settings, tokenizer, variables, labels, **_):
        imported.update(importer.flatten(variables))

    monkeypatch.setattr(importer, "save_bundle", keep)
    importer.import_model("emotion-llama-v2", files, tmp_path / "m", settings=settings)
    assert len(jax.devices()) == 8 and set(imported) == set(leaves)
    for path in ("params/llama/blocks/gate/kernel", "params/eva_image/encoder/blocks/fc1/kernel"):
        whole, part = imported[path].nbytes, imported[path].addressable_shards[0].data.nbytes
        assert whole == 8 * part, (path, imported[path].sharding)
    assert imported["params/llama/embed"].addressable_shards[0].data.shape == (512, 8)
