"""Whisper encoder and LLaMA against stored outputs of transformers (made by make_golden.py)."""

from pathlib import Path

import numpy as np
import pytest

from parity import checks

# As in torch_reference.py, which cannot be imported without torch.
WHISPER = {"width": 16, "depth": 2, "heads": 2, "mlp": 24, "mels": 8, "steps": 20}
LLAMA = {"vocab": 48, "width": 32, "depth": 2, "heads": 4, "mlp": 40}
LORA = {"rank": 4, "alpha": 6.0}


def load(name: str) -> dict:
    return dict(np.load(Path(__file__).parent / "golden" / f"{name}.npz", allow_pickle=False))


def test_whisper_encoder():
    checks.whisper(load("whisper"), WHISPER)


@pytest.mark.parametrize("unroll", [1, 2])
def test_llama_with_lora_padded_left_and_right_prefilled_and_cached(unroll):
    checks.llama(load("llama"), LLAMA, LORA, unroll)
