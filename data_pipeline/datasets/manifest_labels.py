"""How the labels of a manifest become a label space: missing cells, spellings, other words."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from data_pipeline.datasets.labels import is_missing, match_label, normalize_answer
from data_pipeline.media.notes import counted
from data_pipeline.schema import VIDEO_HERE
from data_pipeline.suggestions import did_you_mean


def find_label(native: str, space: Sequence[str]) -> str | None:
    """The label of a space that is the same answer (`Happy.` and `happy`), or the same emotion.

    Args:
      native: a label as written.
      space: the label space, such as a model's.

    Returns:
      The label; None if the space has none.
    """
    if native in space:
        return native
    answer = normalize_answer(unicodedata.normalize("NFC", native))
    same = [label for label in space if normalize_answer(label) == answer]
    try:
        return same[0] if same else match_label(native, space)
    except ValueError:
        return None


class LabelReader:
    """Reads the labels of one manifest.

    Spellings that are the same answer of a model (`Happy`, `happy.`) are one label.

    Attributes:
      space: the label space.
      faults: faults of the labels as a whole.
    """

    def __init__(self, counts: Mapping[str, int], labels: Sequence[str] | None):
        """Sets the label space.

        Args:
          counts: number of rows by label as written.
          labels: the label space, such as a model's; None uses the labels of the file, sorted.
        """
        self._counts = counts
        self._labels: dict[str, str] = {}
        self._faults: dict[str, str] = {}
        self.faults: list[str] = []
        declared = tuple(labels or ())
        named = [n for n in counts if n in declared or not is_missing(n)]
        declare = ", or name the classes if it is one of them (--labels A,B,...)"
        for name in set(counts) - set(named):
            self._faults[name] = (
                "is empty; every row needs a label"
                if not name
                else f"'{name}' marks an empty cell and is not a label; give a label or leave "
                f"the row out{'' if declared else declare}"
            )
        if labels is None:
            self._take_from_file(named)
        else:
            self.space = declared
            for name in named:
                self._match(name)

    def label(self, native: str) -> str:
        """The label that a row means."""
        return self._labels[native]

    def fault(self, native: str) -> str | None:
        """What is wrong with the label of a row; None if nothing is."""
        return self._faults.get(native)

    def notes(self) -> list[str]:
        """Labels that are read as another spelling."""
        changed = sorted((n, label) for n, label in self._labels.items() if n != label)
        return [
            f"label '{native}' ({counted(self._counts[native], 'row')}) is read as '{label}'"
            for native, label in changed
        ]

    def _take_from_file(self, named: Iterable[str]) -> None:
        spellings: dict[str, list[str]] = defaultdict(list)
        for name in sorted(named):
            answer = normalize_answer(unicodedata.normalize("NFC", name))
            if not answer or VIDEO_HERE in name:
                self._faults[name] = f"'{name}' contains no word that the model can answer"
                continue
            spellings[answer].append(name)
        for answer, names in spellings.items():
            usual = max(names, key=lambda n: (self._counts[n], n == answer))
            self._labels |= dict.fromkeys(names, usual)
        self.space = tuple(sorted(set(self._labels.values())))
        if len(self.space) == 1:
            self.faults.append(
                f"every row has '{self.space[0]}'; training needs at least two labels"
            )

    def _match(self, name: str) -> None:
        if label := find_label(name, self.space):
            self._labels[name] = label
        else:
            near = did_you_mean(name.lower(), self.space, cutoff=0.7)
            self._faults[name] = f"'{name}' is not one of {', '.join(self.space)}{near}"
