"""Writes weights in the layout of TensorFlow.js: a manifest and a binary file."""

import json
from pathlib import Path

import numpy as np


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights as stored: uint8 for names in `filter`, float32 for the others."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, 256, shape).astype(np.uint8)
        if "filter" in name or "weights" in name
        else rng.normal(size=shape).astype(np.float32) / 10
        for name, shape in shapes.items()
    }


def write_tfjs(folder: Path, name: str, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Writes weights; those of uint8 stand for values around 0 of a size that suits their shape.

    Args:
      folder: of both files.
      name: start of their names.
      weights: {name: uint8 or float32}.

    Returns:
      {name: the value that a reader must give}.
    """
    entries, content, values = [], b"", {}
    for key, stored in weights.items():
        entry = {"name": key, "shape": list(stored.shape), "dtype": "float32"}
        values[key] = stored
        if stored.dtype == np.uint8:
            spread = 2 * np.sqrt(3 / np.prod(stored.shape[:-1] if stored.shape[-1] > 1 else (9,)))
            scale, low = float(spread / 255), float(-spread / 2)
            entry["quantization"] = {"dtype": "uint8", "scale": scale, "min": low}
            values[key] = (stored.astype(np.float64) * scale + low).astype(np.float32)
        entries.append(entry)
        content += stored.tobytes()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.bin").write_bytes(content)
    manifest = [{"paths": [f"{name}.bin"], "weights": entries}]
    (folder / f"{name}-weights_manifest.json").write_text(json.dumps(manifest))
    return values


def face_shapes(net: str) -> dict[str, tuple[int, ...]]:
    """{name: shape} of the three nets, from their description."""
    shapes: dict[str, tuple[int, ...]] = {}

    def separable(layer: str, given: int, made: int) -> None:
        shapes[f"{layer}/depthwise_filter"] = (3, 3, given, 1)
        shapes[f"{layer}/pointwise_filter"] = (1, 1, given, made)
        shapes[f"{layer}/bias"] = (made,)

    if net == "detector":
        widths = (16, 32, 64, 128, 256, 512)
        shapes |= {"conv0/filters": (3, 3, 3, 16), "conv0/bias": (16,)}
        for i in range(1, 6):
            separable(f"conv{i}", widths[i - 1], widths[i])
        return shapes | {"conv8/filters": (1, 1, 512, 25), "conv8/bias": (25,)}
    given = 3
    for block, width in enumerate((32, 64, 128, 256)):
        for i in range(4):
            if block == i == 0:
                shapes |= {"dense0/conv0/filters": (3, 3, 3, 32), "dense0/conv0/bias": (32,)}
            else:
                separable(f"dense{block}/conv{i}", given, width)
            given = width
    outputs = {"expression": 7, "landmarks": 136}[net]
    return shapes | {"fc/weights": (256, outputs), "fc/bias": (outputs,)}
