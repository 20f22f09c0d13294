"""MMEVerse's annotation CSV files, which have one layout for all data sets.

`<SET>_merged.csv` (stage 1) contains the perception answers, `<SET>_AU_gpt.csv` (stage 2) the
explanations, `<SET>_label.csv` the clips of the evaluation, and `<SET>_peak.json` the apex frames.
Source: the README and the data set classes of Emotion-LLaMAv2.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from data_pipeline.datasets.dataset import Source
from data_pipeline.datasets.labels import SPLIT_WORDS
from data_pipeline.datasets.row_readers import csv_rows
from data_pipeline.datasets.rows import CellError, Row, RowExcluded
from data_pipeline.schema import ClipRecord, Target

KINDS = ("merged", "AU_gpt", "label")  # stage 1, stage 2, evaluation
# Key of `texts` -> (column, author).
PERCEPTION = {
    "audio": ("response_AudioReasoner", "Audio-Reasoner, MMEVerse stage 1"),
    "audio_2": ("response_Qwen2Audio", "Qwen2-Audio, MMEVerse stage 1"),
    "image": ("response_Qwen25vl_72B", "Qwen2.5-VL-72B, MMEVerse stage 1"),
}
_MERGER = "GPT-4o-mini, MMEVerse stage 2"


@dataclasses.dataclass(frozen=True)
class Label:
    """A label task of a data set.

    Attributes:
      column: its column.
      space: its label space.
      multiple: whether a cell may contain several labels.
    """

    column: str
    space: tuple[str, ...]
    multiple: bool = False


def _clip_id(row: Row) -> str:
    return row.required("video_id")


def _no_speaker(clip: str) -> str:
    del clip
    return ""


def _no_paths(clip: str) -> tuple[str, ...]:
    del clip
    return ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """How the CSV files of one data set are read.

    Attributes:
      dataset: its name in records.
      folder: its name in file names.
      text: column of the subtitle.
      labels: label task -> Label, the main one first.
      reasons: key of `texts` -> column of the stage 2 file.
      split_column: column of the split; "" when all rows belong to the test part.
      splits: value of that column -> split.
      identify: row -> id of the clip.
      speaker: id of the clip -> speaker or video.
      person: column of the speaker's name (E3).
      shared: whether the file contains rows of other data sets, which are excluded and counted.
      mode_column: column of the record's `mode`, when it is not the split column.
      subtitle_author: who wrote the subtitles, when it was not a person.
      native_media: id of the clip -> candidates of its path in the data set's own layout, which are
        tried after `video/<id>`.
    """

    dataset: str
    folder: str
    text: str
    labels: Mapping[str, Label]
    reasons: Mapping[str, str]
    split_column: str = "mode"
    splits: Mapping[str, str] = dataclasses.field(default_factory=lambda: SPLIT_WORDS)
    identify: Callable[[Row], str] = _clip_id
    speaker: Callable[[str], str] = _no_speaker
    person: str = ""
    shared: bool = False
    mode_column: str = ""
    subtitle_author: str = ""
    native_media: Callable[[str], tuple[str, ...]] = _no_paths

    def sources(self, *kinds: str) -> tuple[Source, ...]:
        """The annotation files of some of KINDS, or of all three."""
        needed = [c for c in ("video_id", self.split_column, self.text, self.person) if c]
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
        mode = row.text(self.split_column) if self.split_column else "test"
        if mode not in self.splits:
            if mode and not self.shared:
                allowed = ", ".join(self.splits)
                raise CellError(self.split_column, f"'{mode}' is none of {allowed}")
            raise RowExcluded(f"{self.split_column} is '{mode}'")
        # Clips are in <root>/<SET>, but the stage 2 files of all data sets are in <root>/AU_gpt.
        row = dataclasses.replace(row, base=_set_folder(row, self.folder))
        clip = self.identify(row)
        targets = {}
        for task, label in self.labels.items():
            if row.text(label.column):
                read = row.targets if label.multiple else row.target
                targets[task] = read(label.column, label.space)
        if self.labels and not targets:
            raise RowExcluded("no label")
        main = next(iter(self.labels), "open-vocabulary")
        target = targets.pop(main, Target("", self.labels[main].space if self.labels else ()))
        texts, provenance = {}, {main: "human"} if target.label else {}
        columns = {**PERCEPTION, **{k: (c, _MERGER) for k, c in self.reasons.items()}}
        for key, (column, author) in columns.items():
            if column in row.cells:
                texts[key] = row.text(column)
                provenance[key] = author
        subtitle = row.verbatim(self.text)
        if subtitle:
            provenance["subtitle"] = (
                "Whisper, MMEVerse"
                if self.text.endswith("whisper")
                else self.subtitle_author or "human"
            )
        has_mode = bool(self.mode_column) and self.mode_column in row.cells
        person = row.optional(self.person) if self.person else ""
        return ClipRecord(
            id=clip,
            dataset=self.dataset,
            split=self.splits[mode],
            path=row.media(f"video/{clip}", *self.native_media(clip)),
            label=target.label,
            labels=target.labels,
            native=target.native,
            task=main,
            targets=targets,
            subtitle=subtitle,
            speaker=person or self.speaker(clip),
            peak_index=_peak(row, self.folder, clip),
            texts=texts,
            mode=row.required(self.mode_column) if has_mode else mode,
            provenance=provenance,
        )


def _set_folder(row: Row, name: str) -> Path:
    """The folder of the data set's clips and peak frames, for a file that may be outside it."""
    parent = row.file.parent
    sibling = parent.parent / name
    if parent.name == name or not row.files.has(sibling / f"{name}_peak.json"):
        return sibling if parent.name == "AU_gpt" and sibling in row.files.folders() else parent
    return sibling


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
        raise CellError("peak_index", f"{path} is not valid JSON ({error})") from error
    if not isinstance(data, dict):
        raise CellError("peak_index", f"{path} does not contain an object keyed by clip")
    return data
