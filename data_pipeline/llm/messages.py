"""Images and audio as message parts of OpenAI's chat protocol."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import numpy as np
from PIL import Image

from data_pipeline.media.clip import SAMPLE_RATE


def image_part(picture: np.ndarray, *, width: int, height: int) -> dict[str, Any]:
    """Encodes uint8[h, w, 3] as a JPEG of at most width x height pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((width, height))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    url = f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def audio_part(samples: np.ndarray) -> dict[str, Any]:
    """Encodes float32[n] at 16 kHz as a 16-bit WAV."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return {
        "type": "input_audio",
        "input_audio": {"data": base64.b64encode(out.getvalue()).decode(), "format": "wav"},
    }
