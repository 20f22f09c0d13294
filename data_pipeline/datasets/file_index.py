"""Every file below a folder, listed once, so that media are looked up in memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_pipeline.media.clip import IMAGE_SUFFIXES, MEDIA_SUFFIXES

ANNOTATION_SUFFIXES = frozenset(
    (".csv", ".tsv", ".txt", ".json", ".jsonl", ".npz", ".p", ".pkl", ".xlsx")
)


class FileIndex:
    """The files below a root folder.

    Attributes:
      root: the folder, or a single file.
      unreadable: folders that could not be listed, each with the reason.
    """

    def __init__(self, root: Path):
        self.root = root
        self.unreadable: list[str] = []
        self._names: dict[str, set[str]] = {}
        if root.is_file():
            self._names[str(root.parent)] = {root.name}
        visited: set[tuple[int, int]] = set()  # symbolic links may form cycles

        def add_error(error: OSError) -> None:
            self.unreadable.append(f"{error.filename} ({error.strerror})")

        for folder, subfolders, names in os.walk(root, onerror=add_error, followlinks=True):
            stat = os.stat(folder)
            if (stat.st_dev, stat.st_ino) in visited:
                subfolders.clear()
                continue
            visited.add((stat.st_dev, stat.st_ino))
            self._names[folder] = set(names)

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
            if self.has(path):
                return str(path)
            if not _has_media_suffix(path):
                names = self._names.get(str(path.parent), ())
                for suffix in (".mp4", *sorted(MEDIA_SUFFIXES)):
                    if path.name + suffix in names:
                        return str(path) + suffix
        expected = [Path(os.path.normpath(bases[0] / c)) for c in candidates]
        first = next(
            (p for p in expected if str(p.parent) in self._names and p.parent != bases[0]),
            expected[0],
        )
        return str(first) if _has_media_suffix(first) else f"{first}.mp4"


def _has_media_suffix(path: Path) -> bool:
    return path.suffix.lower() in MEDIA_SUFFIXES or path.suffix.lower() in IMAGE_SUFFIXES
