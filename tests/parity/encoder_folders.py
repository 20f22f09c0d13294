"""Modules of transformers, written to a folder and imported from it; for tests of encoders."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from emojax.config.fields import ModelFields
from emojax.model.layers import EncoderConfig
from emojax.model.parts import family_of_config
from emojax.model.variables import unbox
from emojax.weights.load_tensors import choose_table, load_tensors, save_tensors
from emojax.weights.tensor_files import open_tensors

torch = pytest.importorskip("torch")


def random_weights(model, seed=0):
    """Weights of some size everywhere, so that no bias and no gate can be forgotten."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise.abs() + 0.5 if name.endswith("original0") else noise)
            if parameter.ndim == 1 and "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return model.eval()


def from_folder(model, folder, stream, **changes):
    """(module, variables, table) made of the files that `save_pretrained` writes, nothing else."""
    model.save_pretrained(folder)
    raw = json.loads((folder / "config.json").read_text())
    family = family_of_config(raw)
    read = {k: v for k, v in family.read_config(raw).items() if k != "family"} | changes
    fields = dataclasses.replace(getattr(ModelFields(), stream), **read)
    sizes = {k: getattr(fields, k) for k in ("width", "depth", "heads", "mlp")}
    config = family.make(fields, EncoderConfig(eps=9.0, **sizes))
    module = family.module(config)
    view = config.view_shape if stream == "audio" else (config.image_size, config.image_size, 3)
    shapes = jax.eval_shape(lambda: unbox(module.init(jax.random.key(0), jnp.zeros((1, *view)))))
    leaves = traverse_util.flatten_dict(shapes["params"], sep="/")
    tensors = open_tensors(folder)
    table = choose_table(family.tables(config), tensors)
    flat = load_tensors(table, tensors, leaves)
    assert set(flat) == set(leaves), "a leaf without a rule would keep its random start"
    _check_export(table, flat, tensors)
    return module, {"params": traverse_util.unflatten_dict(flat, sep="/")}


def _check_export(table, flat, tensors):
    """Saving gives the same tensors, but for resized positions and lengths of weight norm."""
    for name, value in save_tensors(table, flat).items():
        original = tensors[name]()
        if "position" not in name and "pos_conv" not in name:
            assert value.shape == original.shape, name
            np.testing.assert_allclose(value, original, rtol=1e-5, atol=1e-6, err_msg=name)


def close(ours, theirs, tolerance=1e-4):
    theirs = theirs.detach().numpy() if hasattr(theirs, "detach") else theirs
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def apply(module, variables, *inputs):
    """(output, states of all layers float[L, B, T, D])."""
    out, kept = jax.jit(lambda v, *x: module.apply(v, *x, mutable=["intermediates"]))(
        variables, *inputs
    )
    return np.asarray(out), np.asarray(kept["intermediates"]["encoder"]["states"][0])


def torch_states(layers, run):
    """(what `run` returns, outputs of the layers [L, B, T, D])."""
    states = []

    def keep(_, __, output):
        states.append(output[0] if isinstance(output, tuple) else output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    with torch.no_grad():
        out = run()
    for hook in hooks:
        hook.remove()
    return out, torch.stack(states).numpy()
