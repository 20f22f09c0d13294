"""Emotion wheels: maps emotion words to the clusters that hit rate and F_s compare.

A word passes through three tables: spelling to name, name to wheel words (synonyms), wheel word to
its innermost sector. The tables of MER-UniBench are read from the official files
(`emojax fetch mer-unibench`). Without them, `builtin_tables` is used; results name the tables.

Source: score_hit_ov.py of Emotion-LLaMAv2, after AffectGPT.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data_pipeline.datasets.lexicon import FAMILIES, WHEELS
from data_pipeline.io import file_sha256
from emojax.evaluate import official_files

OFFICIAL_NAME = "MER-UniBench word tables"
BUILTIN_NAME = "emojax built-in lexicon"


@dataclasses.dataclass(frozen=True)
class WordTables:
    """Clusters of emotion words for each wheel.

    Attributes:
      name: name of the tables, which every result contains.
      clusters: for each wheel {word in lower case: cluster}; words without a cluster are absent.
      known: every word that the tables know a spelling of, with or without a cluster.
    """

    name: str
    clusters: tuple[Mapping[str, str], ...]
    known: frozenset[str]

    def cluster(self, word: str, wheel: int) -> str:
        """The cluster of a word in wheel 1, 2, ...; "" if it has none."""
        return self.clusters[wheel - 1].get(word.strip().lower(), "")

    def clusters_of(self, words: Iterable[str], wheel: int) -> set[str]:
        """Clusters of words; words without a cluster are dropped."""
        return {c for w in words if (c := self.cluster(w, wheel))}

    def checksum(self, wheel: int) -> str:
        """SHA-256 of the `word<TAB>cluster` lines in word order, to compare tables."""
        lines = "\n".join(f"{word}\t{c}" for word, c in sorted(self.clusters[wheel - 1].items()))
        return hashlib.sha256(lines.encode()).hexdigest()


def official_tables(folder: Path) -> WordTables:
    """Reads the official files.

    Raises:
      ValueError: a file is missing or is not the official one.
    """
    for name in official_files.TABLES:
        path = folder / name
        if not path.is_file():
            raise ValueError(
                f"{folder} has no {name}; `emojax fetch mer-unibench` downloads the word tables"
            )
        if file_sha256(path) != official_files.FILES[f"emotion_wheel/{name}"]:
            raise ValueError(
                f"{path} is not the official file (its SHA-256 differs); fetch it again"
            )
    spellings = _read_spellings(folder / "format.csv")
    synonyms = _read_synonyms(folder / "synonym.xlsx")
    clusters = tuple(
        _compose(spellings, synonyms, _read_wheel(folder / f"wheel{number}.xlsx"))
        for number in range(1, 6)
    )
    return WordTables(OFFICIAL_NAME, clusters, frozenset(spellings))


def find_tables(folder: Path | None = None) -> WordTables:
    """The official tables in a folder, else the fetched ones, else the built-in lexicon.

    Raises:
      ValueError: see `official_tables`.
    """
    parent = folder or official_files.folder()
    tables = parent / "emotion_wheel"
    # an interrupted fetch leaves only some of the files
    fetched = all((tables / name).is_file() for name in official_files.TABLES)
    if folder is None and not fetched:
        return builtin_tables()
    return official_tables(tables if tables.is_dir() else parent)


@functools.cache
def builtin_tables() -> WordTables:
    """Our own, smaller lexicon: five wheels over families of emotion words (`lexicon`).

    Its scores are not comparable with those of the official tables.
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
    """{spelling: cluster}, by the alphabetically first wheel word that the spelling leads to."""
    clusters = {}
    for spelling, names in spellings.items():
        words = sorted({w for name in names for w in synonyms.get(name, ())})
        first = next((w for w in words if w in wheel), None)
        if first is not None:
            clusters[spelling] = wheel[first]
    return clusters


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
    index = {name: i for i, name in enumerate(header)}
    pairs = [
        (i, index[name.replace("word_", "synonym_")])
        for name, i in index.items()
        if name.startswith("word_")
    ]
    table: dict[str, list[str]] = {}
    for word_column, synonyms_column in pairs:
        for row in rows:
            word = row[word_column].strip().lower()
            for synonym in [word, *row[synonyms_column].split(",")]:
                if (key := synonym.strip().lower()) and word not in table.setdefault(key, []):
                    table[key].append(word)
    return table


def _read_wheel(path: Path) -> dict[str, str]:
    """{word: innermost sector} of a wheel; of two rows with one word, the later counts."""
    above = ["", "", ""]
    table: dict[str, str] = {}
    for row in _sheet(path)[1:]:
        # a blank cell repeats the word above it
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
