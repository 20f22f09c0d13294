"""Reads the JSON files of released weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file such as config.json.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a JSON object.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: copy it from the release")
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{path} is damaged: it is not a JSON object")
    return facts
