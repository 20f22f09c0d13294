"""How a small folder in the layout of a data set is described and written."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.datasets.dataset import DatasetContents
from data_pipeline.datasets.file_index import FileIndex
from data_pipeline.datasets.registry import read_root

Content = str | Callable[[Path], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fixture:
    """A small folder in the layout of one data set.

    Attributes:
      name: of the data set.
      files: path -> text, or a function that writes the file.
      clip: media file of the first record.
      first: (id, split, label) of the first record.
      malformed: (old, new, text of the fault): a change that makes `changed_file` malformed.
      unknown: (old, new, column): a change that makes a label unknown; None without labels.
      count: number of records.
    """

    name: str
    files: dict[str, Content]
    clip: str
    first: tuple[str, str, str]
    malformed: tuple[str, str, str]
    unknown: tuple[str, str, str] | None = None
    count: int = 1

    @property
    def changed_file(self) -> str:
        """The first text file, which `unknown` and `malformed` change."""
        return next(name for name, content in self.files.items() if not callable(content))


def one_file(name: str, path: str, text: str, **fields: Any) -> Fixture:
    """A data set with a single annotation file."""
    return Fixture(name=name, files={path: text}, **fields)


def npz(**members: dict) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **{k: np.array(v, dtype=object) for k, v in members.items()})


def pickled(entries: list[dict]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(pickle.dumps(entries, protocol=2))


MERGED = "response_AudioReasoner,response_Qwen2Audio,response_Qwen25vl_72B"


def merged(columns: str, *rows: str) -> str:
    """The text of a stage 1 file of MMEVerse."""
    lines = [f"video_id,{columns},{MERGED}", *(f"{row},a loud voice,,she smiles" for row in rows)]
    return "\n".join(lines) + "\n"


def write_fixture(
    fixture: Fixture, root: Path, clip: bytes | None, change: tuple[str, str] | None = None
) -> Path:
    """Writes a fixture.

    Args:
      fixture: what to write.
      root: the folder.
      clip: content of its media file; None leaves the file out.
      change: (old, new), a replacement in `changed_file`.
    """
    for name, content in fixture.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
            continue
        text = content
        if change and name == fixture.changed_file:
            assert change[0] in text, (fixture.name, change)
            text = text.replace(*change, 1)
        path.write_text(text, encoding="utf-8")
    if clip is not None:
        path = root / fixture.clip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip)
    return root


def read_one(root: Path, name: str, *, lenient: bool = False) -> tuple[DatasetContents, FileIndex]:
    """What a folder contains of one data set, and all files of the folder."""
    contents, files = read_root(root, names=[name], lenient=lenient)
    return contents[0], files
