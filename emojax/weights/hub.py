"""The Hugging Face hub: what a repository holds, and downloads of its files."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


class FetchError(ValueError):
    """A file cannot be downloaded; the message says what to do."""


class HubUnreachable(OSError):
    """There is no connection to the hub."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a repository.

    Attributes:
      size: bytes.
      sha256: checksum of a large file; "" for a small one.
      blob: git's checksum of a small file.
    """

    size: int
    sha256: str
    blob: str

    def matches(self, path: Path) -> bool:
        """Whether a file has the size and the checksum that the hub publishes."""
        if path.stat().st_size != self.size:
            return False
        with path.open("rb") as content:
            if self.sha256:
                return hashlib.file_digest(content, "sha256").hexdigest() == self.sha256
            header = f"blob {self.size}\0".encode()
            digest = hashlib.sha1(header + content.read(), usedforsecurity=False)
        return not self.blob or digest.hexdigest() == self.blob


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listing:
    """A repository at one commit.

    Attributes:
      repo: OWNER/NAME.
      revision: the commit.
      files: {name: file}.
    """

    repo: str
    revision: str
    files: Mapping[str, HubFile]


@contextlib.contextmanager
def hub_errors(repo: str, name: str = "", *, instead: str = "") -> Iterator[None]:
    """Turns errors of huggingface_hub into sentences.

    Args:
      repo: the repository.
      name: the file that is asked for.
      instead: what can be done when the repository is gated, appended to the message.

    Raises:
      FetchError: the hub refuses.
      HubUnreachable: there is no connection.
      OSError: another fault of the server or the disk.
    """
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise FetchError(
            f"{repo} is gated: ask for access at https://huggingface.co/{repo} with your account, "
            f"then set HF_TOKEN or run `hf auth login`{instead}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FetchError(
            f"the hub has no repository {repo}, or it is private: set HF_TOKEN ({error})"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise HubUnreachable("there is no connection to the hub") from error
    except errors.EntryNotFoundError as error:
        raise FetchError(f"{repo} has no file {name}: fetch it by hand and give --file") from error
    except errors.HFValidationError as error:
        raise FetchError(f"'{repo}' is not OWNER/NAME of a repository ({error})") from error
    except errors.HfHubHTTPError as error:
        raise OSError(str(error)) from error
    except httpx2.TransportError as error:
        raise HubUnreachable(f"there is no connection to the hub ({error})") from error


def list_repository(repo: str, *, instead: str = "") -> Listing:
    """What a repository holds now.

    Args:
      repo: OWNER/NAME.
      instead: as of `hub_errors`.

    Raises:
      FetchError: the hub refuses.
      HubUnreachable: there is no connection.
      OSError: another fault of the server.
    """
    import huggingface_hub

    with hub_errors(repo, instead=instead):
        info = huggingface_hub.HfApi().model_info(repo, files_metadata=True, timeout=30)
    files = {
        s.rfilename: HubFile(
            size=s.size or 0, sha256=s.lfs.sha256 if s.lfs else "", blob=s.blob_id or ""
        )
        for s in info.siblings or []
    }
    return Listing(repo=repo, revision=info.sha or "main", files=files)


def download_file(
    listing: Listing, name: str, folder: Path, *, report: Callable[[int], None], instead: str = ""
) -> Path:
    """Downloads a file of a repository, resuming an earlier attempt; checks it.

    Args:
      listing: the repository.
      name: the file.
      folder: gets the file under its name.
      report: called with the bytes received so far.
      instead: as of `hub_errors`.

    Returns:
      The file.

    Raises:
      FetchError: the hub refuses, or the checksum differs; the file is renamed to *.wrong.
      HubUnreachable: there is no connection.
      OSError: another fault of the server or the disk.
    """
    import huggingface_hub

    with hub_errors(listing.repo, name, instead=instead):
        huggingface_hub.hf_hub_download(
            listing.repo,
            name,
            revision=listing.revision,
            local_dir=folder,
            tqdm_class=_bar(report),
        )
    path = folder / name
    if not listing.files[name].matches(path):
        path.replace(path.with_name(path.name + ".wrong"))
        raise FetchError(
            f"{name} differs from the checksum that the hub publishes; it was set aside: try again"
        )
    return path


def _bar(report: Callable[[int], None]) -> Any:
    """A class of progress bars that draws nothing and reports the bytes."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *_: Any, **options: Any) -> None:
            super().__init__(total=options.get("total"), disable=True)
            self.n = options.get("initial") or 0

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            report(int(self.n))

    return Bar


def sha256_of_etag(repo: str, name: str) -> str | None:
    """The checksum of a file of a repository, where the hub publishes it."""
    import huggingface_hub

    with hub_errors(repo, name):
        url = huggingface_hub.hf_hub_url(repo, name)
        etag = huggingface_hub.get_hf_file_metadata(url).etag
    return etag if etag and re.fullmatch("[0-9a-f]{64}", etag) else None
