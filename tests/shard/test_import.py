"""Imported leaves land in their shards: nothing large is whole on every device."""

import jax
import numpy as np
from safetensors.numpy import save_file

from emojax import exchange
from emojax.settings import load_config, resolve
from emojax.weights.catalogue import SOURCES
from emojax.weights.load import save_tensors


def test_leaves_are_put_into_shards(tmp_path, monkeypatch):
    config = load_config("tiny:released")
    config.train.mesh = (1, 4, 2)
    settings = resolve(config)
    leaves = exchange.leaf_types(settings)
    rng = np.random.default_rng(0)
    files = {}
    for key in exchange.model_of("emotion-llama-v2").sources:
        table = SOURCES[key].fills(settings.model)[-1][0]
        values = {p: rng.standard_normal(leaves[p].shape).astype(np.float32) for r in table.rules for p in r.paths}
        files[key] = tmp_path / f"{key}.safetensors"
        save_file(save_tensors(table, values), files[key])
    seen = {}
    (tmp_path / "tokenizer.model").write_text("pieces")

    class Tokenizer:
        vocab_size, path = 300, tmp_path / "tokenizer.model"

        def __init__(self, path):
            pass

    monkeypatch.setattr(exchange, "LlamaTokenizer", Tokenizer)
    monkeypatch.setattr(exchange, "find_tokenizer", lambda settings, places: tmp_path)

    def keep(folder, settings, tokenizer, variables, labels, **_):
        seen.update(exchange.flatten(variables))

    monkeypatch.setattr(exchange, "save_bundle", keep)
    exchange.import_model("emotion-llama-v2", files, tmp_path / "m", settings, say=lambda text: None)
    assert len(jax.devices()) == 8 and set(seen) == set(leaves)
    for path in ("params/llama/blocks/gate/kernel", "params/eva_image/encoder/blocks/fc1/kernel"):
        whole, part = seen[path].nbytes, seen[path].addressable_shards[0].data.nbytes
        assert whole == 8 * part, (path, seen[path].sharding)
    assert seen["params/llama/embed"].addressable_shards[0].data.shape == (512, 8)
