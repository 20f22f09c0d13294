"""MER2023, MER2024 (labelled part, SEMI, NOISE): Chinese films and series, six emotions.

As in MMEVerse, training clips of MER2023 have English subtitles, and test clips have Chinese ones.
"""

from __future__ import annotations

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.reading import RecordMaker
from data_pipeline.datasets.row_readers import csv_rows, line_rows, npz_rows, transcript_record
from data_pipeline.datasets.rows import CellError, Row
from data_pipeline.schema import ClipRecord, Target

EMOTIONS = ("angry", "happy", "neutral", "sad", "surprise", "worried")
# In the order of the training prompts.
TRAINING_ORDER = ("happy", "sad", "neutral", "angry", "worried", "surprise")
NO_VALENCE = -10.0  # what the lists contain where the valence is not known
_SPLITS = {
    "train": "train",
    "test1": "test",
    "test2": "test",
    "test3": "test",
    "test_semi": "test",
    "test_noise": "test",
}


def _record(
    row: Row,
    dataset: str,
    clip: str,
    *,
    mode: str,
    label: Target,
    valence: str = "",
) -> ClipRecord:
    scores = {}
    if valence and float(valence) != NO_VALENCE:
        scores["valence"] = float(valence)
    return ClipRecord(
        id=clip,
        dataset=dataset,
        split=_SPLITS.get(mode, "unsplit"),
        path=row.media(
            f"video/{clip}", f"{mode}/{clip}", f"video-labeled/{clip}", f"../MER2023/{mode}/{clip}"
        ),
        label=label.label,
        labels=EMOTIONS,
        native=label.native,
        mode=mode,
        scores=scores,
        provenance={"emotion": "human"} if label.label else {},
    )


def _valence(row: Row) -> str:
    text = row.optional("valence")
    if text:
        row.number_in("valence", NO_VALENCE, 10)
    return text


def _labels_of(dataset: str, mode: str) -> RecordMaker:
    """Makes records of rows `name, discrete[, valence]` of one part."""

    def make(row: Row) -> ClipRecord:
        return _record(
            row,
            dataset,
            row.required("name"),
            mode=mode,
            label=row.target("discrete", EMOTIONS),
            valence=_valence(row),
        )

    return make


def _list_of(dataset: str, mode: str) -> RecordMaker:
    """Makes records of lines `name frames emotion [valence]` of Emotion-LLaMA's lists.

    The emotion 0 is a placeholder of unlabelled candidates, not a class.
    """

    def make(row: Row) -> ClipRecord:
        if row.required("emotion") == "0":
            unlabelled = Target("", EMOTIONS)
            clip = row.required("name")
            return _record(row, dataset, clip, mode="candidate", label=unlabelled)
        valence = _valence(row)
        return _record(
            row,
            dataset,
            row.required("name"),
            mode=mode,
            label=row.target("emotion", EMOTIONS),
            valence=valence,
        )

    return make


def _truth_of(dataset: str, mode: str) -> RecordMaker:
    """Makes records of the official scorer's ground truth."""

    def make(row: Row) -> ClipRecord:
        return _record(row, dataset, row.key, mode=mode, label=row.target("label", EMOTIONS))

    return make


def _corpus_of(dataset: str, modes: dict[str, str]) -> RecordMaker:
    """Makes records of MERTools' label-6way.npz.

    That of MER2024 is not read: its script gives every unlabelled clip the dummy label neutral.
    """

    def make(row: Row) -> ClipRecord:
        mode = modes.get(row.required("member"))
        if mode is None:
            raise CellError("member", f"'{row.text('member')}' is none of {', '.join(modes)}")
        valence = row.optional("val")
        label = row.target("emo", EMOTIONS)
        return _record(row, dataset, row.key, mode=mode, label=label, valence=valence)

    return make


def _table(
    dataset: str,
    *,
    text: str,
    split_column: str,
    splits: dict[str, str],
    order: tuple[str, ...] = EMOTIONS,
) -> Table:
    """MMEVerse has both years in one file; rows of other parts are excluded."""
    return Table(
        dataset=dataset,
        folder="MER2024",
        text=text,
        labels={"emotion": Label("emotion_label", order)},
        reasons={"reason": "gpt-4o-mini_Emotion"},
        split_column=split_column,
        splits=splits,
        shared=True,
        mode_column="MER2023_mode",
        subtitle_author="machine translation" if text == "english" else "",
    )


_TRANSCRIPT, _MACHINE = csv_rows("name", "chinese", "english"), "machine translation"
_PARTS = ("train", "test1", "test2", "test3")
_LISTS = line_rows("name", "frames", "emotion", optional="valence")
MER2023 = DataSet(
    name="mer2023",
    title="MER2023",
    folders=("MER2023", "mer2023-dataset-process"),
    sources=(
        *_table(
            "mer2023",
            text="english",
            split_column="MER2023_mode",
            splits={"train": "train"},
            order=TRAINING_ORDER,
        ).sources("merged", "AU_gpt"),
        *_table(
            "mer2023",
            text="chinese",
            split_column="MER2023_mode",
            splits={"test1": "test", "test2": "test", "test3": "test"},
        ).sources("label"),
        *(
            Source(
                pattern=f"{part}-label.csv",
                rows=csv_rows("name", "discrete"),
                make=_labels_of("mer2023", part),
                anywhere=True,
            )
            for part in _PARTS
        ),
        Source(
            pattern="*label-6way.npz",
            rows=npz_rows,
            make=_corpus_of("mer2023", {f"{part}_corpus": part for part in _PARTS}),
        ),
        Source(
            pattern="relative_train_NCEV.txt",
            rows=_LISTS,
            make=_list_of("mer2023", "train"),
            anywhere=True,
        ),
        # The 70,000 clips of the first training stage of Emotion-LLaMA.
        Source(
            pattern="MER2023_pseudo_label.txt",
            rows=_LISTS,
            make=_list_of("mer2023", "train"),
            anywhere=True,
        ),
        Source(
            pattern="relative_test3_NCEV.txt",
            rows=_LISTS,
            make=_list_of("mer2023", "test3"),
            anywhere=True,
        ),
        # English in training, Chinese in evaluation, as in MMEVerse.
        Source(
            pattern="*transcription-engchi-polish.csv",
            rows=_TRANSCRIPT,
            make=transcript_record("mer2023", "name", "english", split="train", author=_MACHINE),
            transcript=True,
        ),
        Source(
            pattern="*transcription-engchi-polish.csv",
            rows=_TRANSCRIPT,
            make=transcript_record("mer2023", "name", "chinese", split="test"),
            transcript=True,
        ),
        Source(
            pattern="transcription_en_all.csv",
            rows=csv_rows("name", "sentence"),
            make=transcript_record("mer2023", "name", "sentence", author=_MACHINE),
            anywhere=True,
            transcript=True,
        ),
        Source(
            pattern="gt_mer2023_test1.npz",
            rows=npz_rows,
            make=_truth_of("mer2023", "test1"),
            anywhere=True,
        ),
    ),
    request=(
        "https://huggingface.co/datasets/MERChallenge/MER2023 (gated), "
        "merchallenge.contact@gmail.com"
    ),
    terms="MER2023 EULA: academic use, no redistribution of clips or labels",
    family="mer2023",
)
MER2024 = DataSet(
    name="mer2024",
    title="MER2024 (labelled, SEMI, NOISE)",
    folders=("MER2024", "mer2024-dataset", "mer2024-dataset-process"),
    sources=(
        *_table(
            "mer2024",
            text="chinese",
            split_column="MER2024_mode",
            splits={"test_semi": "test"},
        ).sources("label"),
        Source(
            pattern="label-disdim.csv",
            rows=csv_rows("name", "discrete"),
            make=_labels_of("mer2024", "train"),
            anywhere=True,
        ),
        Source(
            pattern="reference-semi.csv",
            rows=csv_rows("name", "discrete"),
            make=_labels_of("mer2024", "test_semi"),
            anywhere=True,
        ),
        Source(
            pattern="reference-noise.csv",
            rows=csv_rows("name", "discrete"),
            make=_labels_of("mer2024", "test_noise"),
            anywhere=True,
        ),
        Source(
            pattern="MER2024-noise_NCE.txt",
            rows=_LISTS,
            make=_list_of("mer2024", "test_noise"),
            anywhere=True,
        ),
        Source(
            pattern="MER2024*_NCE*.txt",
            rows=_LISTS,
            make=_list_of("mer2024", "test_semi"),
            anywhere=True,
        ),
        Source(
            pattern="gt_mer2024_semi_other.npz",
            rows=npz_rows,
            make=_truth_of("mer2024", "test_semi"),
            anywhere=True,
        ),
    ),
    request="https://huggingface.co/datasets/MERChallenge/MER2024 (gated), lianzheng2016@ia.ac.cn",
    terms="MER2024 EULA: academic use, no redistribution of clips or labels",
    family="mer2024",
)
