"""MMEVerse's annotation CSV files, the same layout for every set.

`<SET>_merged.csv` (stage 1) holds the perception answers, `<SET>_AU_gpt.csv` (stage 2) the reasons, `<SET>_label.csv`
what is evaluated; `<SET>_peak.json` the apex frames. Source: the README and data set classes of Emotion-LLaMAv2.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from data_pipeline.datasets.dataset import Source
from data_pipeline.datasets.reading import CellError, Left, Row, csv_rows
from data_pipeline.schema import ClipRecord, Target

SPLIT_WORDS: Mapping[str, str] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
KINDS = ("merged", "AU_gpt", "label")  # stage 1, stage 2, evaluation
# texts key -> (column, who wrote it)
PERCEPTION = {
    "audio": ("response_AudioReasoner", "Audio-Reasoner, MMEVerse stage 1"),
    "audio_2": ("response_Qwen2Audio", "Qwen2-Audio, MMEVerse stage 1"),
    "image": ("response_Qwen25vl_72B", "Qwen2.5-VL-72B, MMEVerse stage 1"),
}
_MERGER = "GPT-4o-mini, MMEVerse stage 2"


@dataclasses.dataclass(frozen=True)
class Label:
    """A label task of a set: its column, label space, and whether a cell may hold several labels."""

    column: str
    space: tuple[str, ...]
    several: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """How one set's CSV files are to be read.

    Attributes:
      dataset: as records carry it.  folder: the set's name in file names.
      text: subtitle column.
      labels: label task -> Label, the main one first.
      reasons: texts key -> column of the stage 2 file.
      mode: split column, "" where every row is of the test part.  splits: word in it -> split; other rows are left out
        and counted.
      identify: row -> clip id.  speaker: clip id -> speaker or video.
      person: column of the speaking person's name (E3).
      shared: the file holds other sets too: a split word of theirs is no fault.
      told_mode: column whose word the record's `mode` is, where it is not the split's.
      written_by: who wrote the subtitles, where it was not a person.
      native_media: candidates of the clip's path as the set itself names it, after `video/<id>`.
    """

    dataset: str
    folder: str
    text: str
    labels: Mapping[str, Label]
    reasons: Mapping[str, str]
    mode: str = "mode"
    splits: Mapping[str, str] = dataclasses.field(default_factory=lambda: SPLIT_WORDS)
    identify: Callable[[Row], str] = lambda row: row.need("video_id")
    speaker: Callable[[str], str] = lambda clip: ""
    person: str = ""
    shared: bool = False
    told_mode: str = ""
    written_by: str = ""
    native_media: Callable[[str], tuple[str, ...]] = lambda clip: ()

    def sources(self, *kinds: str) -> tuple[Source, ...]:
        """The three files, or those of some kinds."""
        needed = [c for c in ("video_id", self.mode, self.text, self.person) if c]
        texts = {
            "merged": [column for column, _ in PERCEPTION.values()],
            "AU_gpt": [*self.reasons.values()],
        }
        return tuple(
            Source(
                pattern=f"{self.folder}_{kind}.csv",
                rows=csv_rows(*needed, *texts.get(kind, ())),
                make=self._record,
                anywhere=True,
            )
            for kind in kinds or KINDS
        )

    def _record(self, row: Row) -> ClipRecord:
        mode = row.text(self.mode) if self.mode else "test"
        if mode not in self.splits:
            if mode and not self.shared:
                raise CellError(self.mode, f"'{mode}' is none of {', '.join(self.splits)}")
            raise Left(f"{self.mode} is '{mode}'")
        # below <root>/<SET>/, wherever the file itself lies (stage 2 files are all in <root>/AU_gpt)
        row = dataclasses.replace(row, base=_set_folder(row, self.folder))
        clip = self.identify(row)
        targets = {}
        for task, label in self.labels.items():
            if row.text(label.column):
                read = row.targets if label.several else row.target
                targets[task] = read(label.column, label.space)
        if self.labels and not targets:
            raise Left("no label")
        main = next(iter(self.labels), "open-vocabulary")
        own = targets.pop(main, Target("", self.labels[main].space if self.labels else ()))
        texts, provenance = {}, {main: "human"} if own.label else {}
        columns = {**PERCEPTION, **{k: (c, _MERGER) for k, c in self.reasons.items()}}
        for key, (column, author) in columns.items():
            if column in row.cells:
                texts[key] = row.text(column)
                provenance[key] = author
        subtitle = row.text(self.text)
        if subtitle:
            provenance["subtitle"] = (
                "Whisper, MMEVerse" if self.text.endswith("whisper") else self.written_by or "human"
            )
        person = row.text(self.person) if self.person and self.person in row.cells else ""
        return ClipRecord(
            id=clip,
            dataset=self.dataset,
            split=self.splits[mode],
            path=row.media(f"video/{clip}", *self.native_media(clip)),
            label=own.label,
            labels=own.labels,
            native=own.native,
            task=main,
            targets=targets,
            subtitle=subtitle,
            speaker=person or self.speaker(clip),
            peak_index=_peak(row, self.folder, clip),
            texts=texts,
            mode=row.need(self.told_mode) if self.told_mode in row.cells else mode,
            provenance=provenance,
        )


def _set_folder(row: Row, name: str) -> Path:
    beside = row.file.parent
    if beside.name == name or not row.files.has(beside.parent / name / f"{name}_peak.json"):
        other = beside.parent / name
        return other if beside.name == "AU_gpt" and other in row.files.folders() else beside
    return beside.parent / name


def _peak(row: Row, folder: str, clip: str) -> int | None:
    path = row.base / f"{folder}_peak.json"
    if not row.files.has(path):
        return None
    entry = _peaks(path).get(clip)
    if entry is None:
        return None
    try:
        return int(str(entry["peak_index"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CellError("peak_index", f"{path} has no frame number for '{clip}'") from error


@functools.lru_cache(maxsize=4)
def _peaks(path: Path) -> dict[str, dict[str, object]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CellError("peak_index", f"{path} is no valid JSON ({error})") from error
    if not isinstance(data, dict):
        raise CellError("peak_index", f"{path} holds no object by clip")
    return data
