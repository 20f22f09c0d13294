"""Downloads the files of a catalogue source: resumed, with progress, verified by checksum.

Hugging Face repositories go through huggingface_hub. A plain URL is downloaded by our own code
(HTTP ranges): pooch checks and caches, but does not resume an interrupted download of gigabytes.
A checksum comes from the catalogue or the hub; where neither has one, that of the first download is
recorded in CHECKSUMS and later downloads are compared with it.
"""

from __future__ import annotations

import errno
import functools
import http.client
import json
import logging
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from data_pipeline.io import file_sha256, write_text
from data_pipeline.progress import Progress, no_progress
from emojax.weights.catalogue import Source
from emojax.weights.hub import FetchError, hub_errors, sha256_of_etag

CHECKSUMS = "checksums.json"
CHUNK = 1 << 20
RETRIES = 5
RESUMES = "what was downloaded stays, and the same command resumes"

logger = logging.getLogger(__name__)


def fetch(
    source: Source, folder: Path, *, mirror: bool = False, progress: Progress = no_progress
) -> Path:
    """Downloads the files of a source into a folder; complete files are kept.

    Args:
      source: an entry of the catalogue.
      folder: where the files go.
      mirror: whether to use the source's mirror repository, where it has one.
      progress: called with the bytes of plain downloads, task "fetch <name of the folder>".

    Returns:
      The file, or the folder when there are several.

    Raises:
      FetchError: the files must be fetched by hand, a token or disk space is missing, or a file
        fails its checksum.
    """
    repo = (source.mirror if mirror else "") or source.repo
    if not repo and not source.url:
        names = f" ({', '.join(source.files)})" if source.files else ""
        raise FetchError(
            f"{source.title}{names} cannot be downloaded by a program: {source.by_hand}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _check_space(source, folder)
    for name in source.files:
        published = dict(source.sha256).get(name)
        try:
            from_hub = None
            if repo:
                from_hub = _from_hub(repo, name, folder, source)
            else:
                download(source.url, folder / name, task=f"fetch {folder.name}", progress=progress)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise FetchError(f"the disk of {folder} is full; {RESUMES}") from error
            raise FetchError(f"{name} of {repo or source.url}: {error}; {RESUMES}") from error
        check(
            folder / name,
            published or from_hub,
            name=f"{repo}/{name}" if repo else source.url,
            record=folder.parent / CHECKSUMS,
        )
    return folder / source.files[0] if len(source.files) == 1 else folder


def _check_space(source: Source, folder: Path) -> None:
    present = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    missing, free = (source.size or 0) - present, shutil.disk_usage(folder).free
    if missing > free:
        raise FetchError(
            f"{folder} has {free / 1e9:.1f} GB of free space, "
            f"{missing / 1e9:.1f} GB are still to be downloaded"
        )


def _from_hub(repo: str, name: str, folder: Path, source: Source) -> str | None:
    """Downloads a file of the hub; returns its sha256 where the hub publishes it."""
    import huggingface_hub

    instead = (
        f", or add --mirror, which uses {source.mirror} under the same licence"
        if source.mirror
        else ""
    )
    with hub_errors(repo, name, instead=instead):
        huggingface_hub.hf_hub_download(repo, name, local_dir=folder)
    return sha256_of_etag(repo, name)


def download(
    url: str, path: Path, *, task: str = "fetch", progress: Progress = no_progress
) -> None:
    """Downloads a plain URL, resuming an earlier attempt and retrying broken connections.

    Args:
      url: the address.
      path: the file; nothing is done when it exists. The unfinished download is *.part.
      task: name of the task for `progress`.
      progress: called with the bytes so far.

    Raises:
      OSError: the connection broke RETRIES times, or the server refused.
    """
    if path.exists():
        return
    part = path.with_name(path.name + ".part")
    for attempt in range(RETRIES):
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        try:
            if _receive(request, part, have, report=functools.partial(progress, task)):
                part.rename(path)
                return
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing is left to send
                part.rename(path)
                return
            raise
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as error:
            if attempt == RETRIES - 1:
                raise OSError(f"the connection broke {RETRIES} times ({error})") from error
        time.sleep(0.2 * 2**attempt)
    raise OSError(f"the connection broke {RETRIES} times")


def _receive(
    request: urllib.request.Request, part: Path, have: int, *, report: Callable[[int, int], None]
) -> bool:
    """Appends a response to the unfinished file; True when the file is complete."""
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
        if response.status != 206:
            have = 0  # the server sends everything again
        total = have + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if have else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                report(file.tell(), total)
    return part.stat().st_size >= total


def check(path: Path, sha256: str | None, *, name: str, record: Path) -> None:
    """Compares a file with its checksum; a file without one gets its own recorded, with a warning.

    Args:
      path: the file.
      sha256: the published checksum, if any.
      name: key of the file in `record`.
      record: JSON file of the recorded checksums.

    Raises:
      FetchError: the checksum differs; the file is renamed to *.wrong.
    """
    actual = file_sha256(path)
    recorded: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    if sha256 is None and name not in recorded:
        logger.warning(
            "%s: no checksum is published; recorded %s... of this first download",
            path.name,
            actual[:16],
        )
        write_text(record, json.dumps(recorded | {name: actual}, indent=1))
        return
    expected = sha256 or recorded[name]
    if actual != expected:
        path.replace(path.with_name(path.name + ".wrong"))
        raise FetchError(
            f"{path.name} has the checksum {actual[:16]}..., not {expected[:16]}...; "
            "it was set aside: try again"
        )
