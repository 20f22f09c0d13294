"""Makes the stored arrays of test_golden.py with torch: `make golden`."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from parity import torch_reference as torch_side

FOLDER = Path(__file__).parent / "golden"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, make in (("whisper", torch_side.whisper), ("llama", torch_side.llama)):
        path = FOLDER / f"{name}.npz"
        np.savez_compressed(path, **make(seed=0))
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
