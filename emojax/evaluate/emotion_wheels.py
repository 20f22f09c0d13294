"""Emotion words -> clusters of emotion wheels: what the hit rate and the open-vocabulary score compare.

A word goes through three tables: spellings to names, names to words of the wheels (synonyms), words of a wheel to its
innermost sector. The tables of MER-UniBench are read from the official files (`emojax fetch mer-unibench`); where they
are absent, `builtin_tables` serves, and results name which it was.

Source: score_hit_ov.py of Emotion-LLaMAv2, after AffectGPT.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from emojax.evaluate import official_files
from emojax.evaluate.lexicon import FAMILIES, WHEELS

OFFICIAL_NAME = "MER-UniBench word tables"
BUILTIN_NAME = "emojax built-in lexicon"


@dataclasses.dataclass(frozen=True)
class WordTables:
    """Clusters of words, by wheel.

    Attributes:
      name: which tables these are; it stands in every result.
      clusters: for each wheel {word in lower case: cluster}; a word that has none is in no table.
      known: every word that the tables have a spelling of, clustered or not.
    """

    name: str
    clusters: tuple[Mapping[str, str], ...]
    known: frozenset[str]

    def cluster(self, word: str, wheel: int) -> str:
        """The cluster of a word in wheel 1, 2, ...; "" where it has none."""
        return self.clusters[wheel - 1].get(word.strip().lower(), "")

    def of(self, words: Iterable[str], wheel: int) -> set[str]:
        """Clusters of words; those without one drop out."""
        return {c for w in words if (c := self.cluster(w, wheel))}

    def checksum(self, wheel: int) -> str:
        """SHA-256 of `word<TAB>cluster` lines in the order of the words, to compare tables by."""
        lines = "\n".join(f"{word}\t{c}" for word, c in sorted(self.clusters[wheel - 1].items()))
        return hashlib.sha256(lines.encode()).hexdigest()


def official_tables(folder: Path) -> WordTables:
    """Reads the official files.

    Raises:
      ValueError: a file is missing, or is not the one that results are comparable with.
    """
    for name in official_files.TABLES:
        path = folder / name
        if not path.is_file():
            raise ValueError(
                f"{folder} has no {name}; `emojax fetch mer-unibench` brings the word tables"
            )
        if official_files.checksum(path) != official_files.FILES[f"emotion_wheel/{name}"]:
            raise ValueError(
                f"{path} is not the official file (its SHA-256 is another); fetch it again"
            )
    spellings = _read_spellings(folder / "format.csv")
    synonyms = _read_synonyms(folder / "synonym.xlsx")
    clusters = tuple(
        _compose(spellings, synonyms, _read_wheel(folder / f"wheel{number}.xlsx"))
        for number in range(1, 6)
    )
    return WordTables(OFFICIAL_NAME, clusters, frozenset(spellings))


def find_tables(folder: Path | None = None) -> WordTables:
    """The official tables of a folder, else those that were fetched, else our own lexicon.

    Raises:
      ValueError: see official_tables.
    """
    place = folder or official_files.folder()
    # a fetch that was stopped leaves some of the files
    if folder is None and not all(
        (place / "emotion_wheel" / name).is_file() for name in official_files.TABLES
    ):
        return builtin_tables()
    return official_tables(place / "emotion_wheel" if (place / "emotion_wheel").is_dir() else place)


@functools.cache
def builtin_tables() -> WordTables:
    """Our own, smaller lexicon: five wheels over families of emotion words (see lexicon.py).

    Its scores are not those of the official tables.
    """
    spellings = {form: [family] for family, forms in FAMILIES.items() for form in (family, *forms)}
    clusters = tuple(
        {word: wheel[family] for word, (family,) in spellings.items() if family in wheel}
        for wheel in WHEELS
    )
    return WordTables(BUILTIN_NAME, clusters, frozenset(spellings))


def _compose(
    spellings: Mapping[str, Sequence[str]],
    synonyms: Mapping[str, Sequence[str]],
    wheel: Mapping[str, str],
) -> dict[str, str]:
    """Of all wheel words that a spelling leads to, the alphabetically first that this wheel knows decides."""
    found = {}
    for word, names in spellings.items():
        leads = sorted({w for name in names for w in synonyms.get(name, ())})
        first = next((w for w in leads if w in wheel), None)
        if first is not None:
            found[word] = wheel[first]
    return found


def _read_spellings(path: Path) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = row["name"].strip().lower()
            for form in [name, *(row["format"] or "").split(",")]:
                if (key := form.strip().lower()) and name not in table.setdefault(key, []):
                    table[key].append(name)
    return table


def _read_synonyms(path: Path) -> dict[str, list[str]]:
    header, *rows = _sheet(path)
    at = {name: i for i, name in enumerate(header)}
    runs = [
        (i, at[name.replace("word_", "synonym_")])
        for name, i in at.items()
        if name.startswith("word_")
    ]
    table: dict[str, list[str]] = {}
    for word_at, synonyms_at in runs:
        for row in rows:
            word = row[word_at].strip().lower()
            for synonym in [word, *row[synonyms_at].split(",")]:
                if (key := synonym.strip().lower()) and word not in table.setdefault(key, []):
                    table[key].append(word)
    return table


def _read_wheel(path: Path) -> dict[str, str]:
    """Every word of a wheel -> its innermost sector; where a word stands twice the later row wins."""
    above = ["", "", ""]
    table: dict[str, str] = {}
    for row in _sheet(path)[1:]:
        # a blank cell means the word above it
        above = [cell.strip().lower() or last for cell, last in zip(row[:3], above, strict=True)]
        table |= dict.fromkeys(above, above[0])
    return table


def _sheet(path: Path) -> list[list[str]]:
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        return [
            ["" if c is None else str(c) for c in row]
            for row in book.worksheets[0].iter_rows(values_only=True)
        ]
    finally:
        book.close()
