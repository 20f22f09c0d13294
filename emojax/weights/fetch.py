"""Files of the catalogue onto this machine: resumed, with progress, checked against a checksum.

Hugging Face repositories through huggingface_hub (which resumes and reports); a plain address by HTTP ranges. A checksum
comes from the catalogue, from the hub, or, where neither has one, is that of the first download, kept in CHECKSUMS.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from emojax.weights.catalogue import Source

CHECKSUMS = "checksums.json"
CHUNK = 1 << 20
RETRIES = 5
Say = Callable[[str], None]
Tick = Callable[[int, int], None]


class FetchError(ValueError):
    """A file could not be had; the message says what to do."""


def fetch(
    source: Source, folder: Path, say: Say, *, mirror: bool = False, tick: Tick | None = None
) -> Path:
    """Downloads the files of a source into `folder`; what is there and whole is kept.

    Args:
      mirror: take the source's mirror repository where it has one. tick: called with (bytes, bytes in all) of plain downloads.

    Returns:
      The one file, or the folder of several.

    Raises:
      FetchError: nobody but a person can fetch it, a token or room is missing, or a file is not what it should be.
    """
    repo = (source.mirror if mirror else "") or source.repo
    if not repo and not source.url:
        wanted = f" ({', '.join(source.files)})" if source.files else ""
        raise FetchError(
            f"{source.title}{wanted} can not be fetched by a program: {source.by_hand}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    left = (source.size or 0) - sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    room = shutil.disk_usage(folder).free
    if left > room:
        raise FetchError(
            f"{folder} has room for {room / 1e9:.1f} GB, {left / 1e9:.1f} GB are still to come"
        )
    for name in source.files:
        known = dict(source.sha256).get(name)
        try:
            told = None
            if repo:
                told = _from_hub(repo, name, folder, source)
            else:
                download(source.url, folder / name, tick=tick)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise FetchError(
                    f"the disk of {folder} is full; what has come stays, the same command goes on"
                ) from error
            raise FetchError(
                f"{name} of {repo or source.url}: {error}; what has come stays, the same command goes on"
            ) from error
        check(
            folder / name,
            known or told,
            f"{repo}/{name}" if repo else source.url,
            folder.parent / CHECKSUMS,
            say,
        )
    return folder / source.files[0] if len(source.files) == 1 else folder


def _from_hub(repo: str, name: str, folder: Path, source: Source) -> str | None:
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
        hub.hf_hub_download(repo, name, local_dir=folder)
        etag = hub.get_hf_file_metadata(hub.hf_hub_url(repo, name)).etag
    except errors.GatedRepoError as error:
        mirror = (
            f", or add --mirror, which takes {source.mirror} under the same licence"
            if source.mirror
            else ""
        )
        raise FetchError(
            f"{repo} is gated: ask for access at https://huggingface.co/{repo} with your account, then set HF_TOKEN or "
            f"run `hf auth login`{mirror}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FetchError(
            f"the hub knows no repository {repo}, or it is private: set HF_TOKEN ({error})"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise OSError("there is no connection to the hub") from error
    except errors.EntryNotFoundError as error:
        raise FetchError(
            f"{repo} holds no file {name}: fetch it by hand and give --file"
        ) from error
    except errors.HfHubHTTPError as error:
        raise OSError(str(error)) from error
    return etag if etag and re.fullmatch("[0-9a-f]{64}", etag) else None


def download(url: str, path: Path, *, tick: Tick | None = None) -> None:
    """A plain download, resumed where an earlier one ended, tried again where the line breaks."""
    if path.exists():
        return
    part = path.with_name(path.name + ".part")
    for attempt in range(RETRIES):
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                if answer.status != 206:
                    have = 0  # the server sends everything again
                total = have + int(answer.headers.get("Content-Length") or 0)
                with part.open("ab" if have else "wb") as file:
                    while chunk := answer.read(CHUNK):
                        file.write(chunk)
                        if tick:
                            tick(file.tell(), total)
            if part.stat().st_size >= total:
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


def check(path: Path, known: str | None, name: str, record: Path, say: Say) -> None:
    """Compares a file with its checksum; a file of none gets its own, recorded, and that is said.

    Raises:
      FetchError: it is another; the file is set aside as *.wrong.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    recorded: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    if known is None and name not in recorded:
        say(f"{path.name}: no checksum is published; recorded {found[:16]}..., the first one seen")
        record.write_text(json.dumps(recorded | {name: found}, indent=1))
        return
    want = known or recorded[name]
    if found != want:
        path.replace(path.with_name(path.name + ".wrong"))
        raise FetchError(
            f"{path.name} has the checksum {found[:16]}..., not {want[:16]}...; it was set aside: try again"
        )
