"""Every data set by name, and what a folder contains of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_pipeline.datasets import (  # fmt: skip
    bold,
    caer,
    dfew,
    e3,
    iemocap,
    images,
    mafw,
    mc_eiu,
    meld,
    mer,
    merr,
    open_vocabulary,
    others,
    sentiment,
)
from data_pipeline.datasets.dataset import DataSet, DatasetContents, read_dataset
from data_pipeline.datasets.file_index import FileIndex
from data_pipeline.datasets.manifest import read_manifest
from data_pipeline.datasets.reading import AnnotationFile
from data_pipeline.schema import ClipRecord, holds_records, read_records
from data_pipeline.suggestions import no_such

_SETS = (
    mer.MER2023,
    meld.SET,
    iemocap.SET,
    caer.SET,
    e3.SET,
    dfew.SET,
    mafw.SET,
    mc_eiu.SET,
    sentiment.MOSI,
    sentiment.MOSEI,
    sentiment.SIMS_V2,
    bold.SET,
    sentiment.SIMS,
    mer.MER2024,
    merr.COARSE,
    merr.FINE_SET,
    open_vocabulary.MER2024_OV,
    open_vocabulary.EMER_V1,
    open_vocabulary.EMER_V2,
    open_vocabulary.OV_MERD,
    open_vocabulary.OV_MERD_PLUS,
    others.CREMA_D_SET,
    others.RAVDESS_SET,
    others.FERV39K_SET,
    others.JAVA_SED_SET,
    *images.SETS,
)
DATASETS: dict[str, DataSet] = {s.name: s for s in _SETS}
# The twelve data sets that MMEVerse trains on.
TRAINING = ("mer2023", "meld", "iemocap", "caer", "e3", "dfew", "mafw", "mc_eiu", "cmu_mosi",
            "cmu_mosei", "ch_sims_v2_s", "bold")  # fmt: skip
IMAGES = tuple(s.name for s in images.SETS)


def choose_sets(names: Sequence[str] | None) -> list[DataSet]:
    """Data sets by name, or all of them.

    Raises:
      ValueError: there is no data set of a name.
    """
    if unknown := sorted(set(names or ()) - set(DATASETS)):
        raise ValueError(no_such("data set", unknown[0], DATASETS))
    return [DATASETS[n] for n in names] if names else list(DATASETS.values())


def read_manifest_set(
    path: Path,
    *,
    labels: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[list[DatasetContents], FileIndex]:
    """A manifest, or a file of records, as a data set of its own.

    Args:
      path: the file.
      labels: of a manifest; see `read_manifest`.
      columns: of a manifest; see `read_manifest`.

    Returns:
      (contents, one per data set that the file names; its media files).

    Raises:
      ManifestError: the manifest has faults.
      ValueError: a record is not valid, or there is none.
    """
    records = (
        read_records(path)
        if holds_records(path)
        else read_manifest(path, labels=labels, columns=columns)
    )
    if not records:
        raise ValueError(f"{path} holds no record")
    by_set: dict[str, list[ClipRecord]] = {}
    for record in records:
        by_set.setdefault(record.dataset, []).append(record)
    contents = [
        DatasetContents(
            dataset=DataSet(
                name=name,
                title=name,
                folders=(),
                sources=(),
                request="",
                terms="your own",
                disjoint="speaker",
            ),
            annotation_files=[AnnotationFile(path=path.absolute(), records=own)],
            records=own,
            conflicts=[],
        )
        for name, own in by_set.items()
    ]
    media = (Path(r.path) for r in records if Path(r.path).is_file())
    return contents, FileIndex(path.absolute(), further=media)


def read_root(
    root: Path, *, names: Sequence[str] | None = None, lenient: bool = False
) -> tuple[list[DatasetContents], FileIndex]:
    """Reads what a folder contains of the data sets.

    Args:
      root: the folder.
      names: data sets to read; None reads all.
      lenient: repair hand-edited JSON and skip rows with faults, instead of whole files.

    Returns:
      (contents, one per data set; all files of the folder).

    Raises:
      ValueError: there is no such folder, or no data set of a name.
    """
    sets = choose_sets(names)
    if not root.is_dir():
        raise ValueError(
            f"'{root}' is a file, not a folder of data sets"
            if root.exists()
            else f"there is no folder '{root}'"
        )
    files = FileIndex(root.absolute())
    return [read_dataset(s, files, lenient=lenient) for s in sets], files


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildSelection:
    """Which clips of one data set are built.

    Attributes:
      name: of the data set.
      records: clips to build.
      missing: clips whose media do not exist.
      excluded: number of other clips that are not built, by reason.
    """

    name: str
    records: list[ClipRecord]
    missing: list[ClipRecord]
    excluded: Counter[str]


def choose_records(
    name: str, records: Sequence[ClipRecord], files: FileIndex, *, fold: str | None = None
) -> BuildSelection:
    """Selects the clips that can be trained on or scored: of one fold, with a split and an answer.

    Args:
      name: of the data set.
      records: all of its clips.
      files: all files of the root.
      fold: of a data set with folds; None selects the first one.

    Raises:
      ValueError: the data set has folds, but not this one.
    """
    folds = sorted({r.fold for r in records if r.split != "unsplit"})
    if fold is not None and fold not in folds and any(folds):
        raise ValueError(f"{name} has no fold '{fold}'; it has {', '.join(filter(None, folds))}")
    selected = fold if fold in folds else (folds[0] if folds else "")
    out = BuildSelection(name=name, records=[], missing=[], excluded=Counter())
    for record in records:
        if record.fold != selected:
            out.excluded["of another fold"] += 1
        elif record.split == "unsplit":
            out.excluded["of no split"] += 1
        elif not (record.label or record.answers or record.targets or any(record.texts.values())):
            out.excluded["nothing to answer"] += 1
        elif not (files.has(Path(record.path)) or Path(record.path).is_file()):
            out.missing.append(record)
        else:
            out.records.append(record)
    return out
