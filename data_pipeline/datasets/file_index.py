"""Every file below a folder, listed once, so that media are looked up in memory."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from data_pipeline.datasets.media_paths import locate_file
from data_pipeline.io import printable
from data_pipeline.media.container import media_fault
from data_pipeline.media.file_kinds import (
    AUDIO_SUFFIXES,
    MEDIA_SUFFIXES,
    VIDEO_SUFFIXES,
    fold_name,
    is_companion,
    is_hidden,
    is_media,
    is_picture,
    suffix_of,
)

MAX_NAMED = 20  # files that a message names

ANNOTATION_SUFFIXES = frozenset(
    (".csv", ".tsv", ".txt", ".json", ".jsonl", ".npz", ".p", ".pkl", ".xlsx")
)


class FileIndex:
    """The files below a root folder; those that systems hide are passed over.

    Attributes:
      root: the folder, or a single file.
      unreadable: folders that could not be listed, each with the reason.
    """

    def __init__(self, root: Path, *, further: Iterable[Path] = ()):
        """Lists a folder.

        Args:
          root: the folder, or a single file.
          further: files elsewhere that belong to it.
        """
        self.root = root
        self.unreadable: list[str] = []
        self._names: dict[str, set[str]] = {}
        self._same_folders: dict[str, str] | None = None  # {plain form: folder}, made when needed
        self._same_names: dict[str, dict[str, str]] = {}  # {folder: {plain form: name}}
        if root.is_file():
            self._names[str(root.parent)] = {root.name}
        visited: set[tuple[int, int]] = set()  # symbolic links may form cycles

        def add_error(error: OSError) -> None:
            self.unreadable.append(f"{error.filename} ({error.strerror})")

        walk = () if root.is_file() else os.walk(root, onerror=add_error, followlinks=True)
        for folder, subfolders, names in walk:
            stat = os.stat(folder)
            if (stat.st_dev, stat.st_ino) in visited:
                subfolders.clear()
                continue
            visited.add((stat.st_dev, stat.st_ino))
            subfolders[:] = [name for name in subfolders if not is_hidden(name)]
            self._names[folder] = {name for name in names if not is_hidden(name)}
        for path in further:
            self._names.setdefault(str(path.parent), set()).add(path.name)

    def folders(self) -> list[Path]:
        """Every folder, sorted."""
        return sorted(map(Path, self._names))

    def all(self) -> Iterator[Path]:
        """Every file, sorted by folder and name."""
        for folder in sorted(self._names):
            for name in sorted(self._names[folder]):
                yield Path(folder, name)

    def annotations(self) -> list[Path]:
        """Every file whose suffix is one of ANNOTATION_SUFFIXES."""
        return [path for path in self.all() if path.suffix.lower() in ANNOTATION_SUFFIXES]

    def has(self, path: Path) -> bool:
        """Whether the file exists; a broken symbolic link does not."""
        return path.name in self._names.get(str(path.parent), ()) and path.exists()

    def media(self, bases: Sequence[Path], candidates: Sequence[str]) -> str:
        """Finds the media file of a clip.

        Args:
          bases: folders that the candidates are relative to, tried in order.
          candidates: relative paths, tried in order; one without a suffix matches any media suffix.

        Returns:
          The first candidate that exists. If none does, the path where a candidate would be,
          preferably in a folder that exists.
        """
        for base, candidate in itertools.product(bases, candidates):
            path = Path(os.path.normpath(base / candidate))
            suffixes = ("",) if is_media(path) else ("", *VIDEO_SUFFIXES, *AUDIO_SUFFIXES)
            if found := self._find(str(path.parent), [path.name + suffix for suffix in suffixes]):
                return found
        expected = [Path(os.path.normpath(bases[0] / c)) for c in candidates]
        first = next(
            (p for p in expected if str(p.parent) in self._names and p.parent != bases[0]),
            expected[0],
        )
        return str(first) if is_media(first) else f"{first}.mp4"

    def _find(self, folder: str, wanted: Sequence[str]) -> str | None:
        """The first file of these names; names of other capitals or Unicode forms come last."""
        if folder not in self._names:
            if self._same_folders is None:
                self._same_folders = {fold_name(name): name for name in self._names}
            folder = self._same_folders.get(fold_name(folder), "")
        names = self._names.get(folder)
        if not names:
            return None
        found = [name for name in wanted if name in names]
        if not found:
            if folder not in self._same_names:
                self._same_names[folder] = {fold_name(name): name for name in names}
            same = self._same_names[folder]
            found = [same[fold_name(name)] for name in wanted if fold_name(name) in same]
        paths = [os.path.join(folder, name) for name in found]
        return next(filter(os.path.exists, paths), None)  # a broken link does not exist


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundMedia:
    """What a search for media found.

    Attributes:
      files: the media files.
      others: files that are not media by their names; those that systems hide are not listed.
      unreadable: folders that could not be listed, each with the reason.
      empty: folders without media.
    """

    files: list[str]
    others: list[str] = dataclasses.field(default_factory=list)
    unreadable: list[str] = dataclasses.field(default_factory=list)
    empty: list[str] = dataclasses.field(default_factory=list)

    def notes(self) -> list[str]:
        """What was left out, one sentence for each reason; texts and tables are not mentioned."""
        notes = [f"the folder {printable(place)} cannot be read" for place in self.unreadable]
        notes += [f"there is no media file in {printable(place)}" for place in self.empty]
        names = [name for name in self.others if not is_companion(name)]
        pictures = [name for name in names if is_picture(name)]
        for reason, left_out in (
            ("not media by name", [name for name in names if not is_media(name)]),
            ("pictures that are not clips of their own", pictures),
        ):
            if left_out:
                listed = ", ".join(map(_described, left_out[:MAX_NAMED]))
                rest = len(left_out) - MAX_NAMED
                more = f" and {rest:,} more" if rest > 0 else ""
                notes.append(f"left out ({reason}): {listed}{more}")
        return notes


def _described(name: str) -> str:
    """The name of a file that is left out; of a picture that cannot be read also why."""
    fault = media_fault(name) if is_picture(name) else ""
    return f"{printable(name)} ({fault})" if fault else printable(name)


def search_media(paths: Iterable[str | Path], *, pictures: bool = True) -> FoundMedia:
    """Finds media by paths: files as given, folders with all folders in them.

    Args:
      paths: files and folders.
      pictures: whether still pictures in folders count as media. A picture that has the name of a
        film, a sound or subtitles beside it (a preview, a plot of emojax) never does.

    Returns:
      The files in the order of the paths, sorted within each folder.
    """
    found = FoundMedia(files=[])
    for path in map(str, paths):
        if not os.path.isdir(path):  # unlike Path.is_dir, False for names that no file can have
            other = path if os.path.lexists(path) else str(locate_file(path, Path()))
            found.files.append(other if os.path.isfile(other) else path)
            continue
        index = FileIndex(Path(path))
        files, before = sorted(map(str, index.all())), len(found.files)
        stems = {os.path.splitext(file)[0] for file in files if _has_previews(file)}
        for file in files:
            wanted = is_media(file)
            if is_picture(file):
                wanted = pictures and os.path.splitext(file)[0] not in stems
            (found.files if wanted else found.others).append(file)
        if len(found.files) == before:
            found.empty.append(path)
        found.unreadable.extend(index.unreadable)
    return found


def _has_previews(file: str) -> bool:
    return suffix_of(file) in (*MEDIA_SUFFIXES, ".vtt", ".srt", ".eaf")
