"""MER2023, MER2024 (labelled part, SEMI, NOISE): Chinese films and series, six emotions.

MMEVerse trains MER2023 with English subtitles and evaluates it with Chinese ones; so do these records.
"""

from __future__ import annotations

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.reading import CellError, RecordMaker, Row, csv_rows, line_rows, npz_rows, words_of
from data_pipeline.schema import ClipRecord, Target

EMOTIONS = ("angry", "happy", "neutral", "sad", "surprise", "worried")
TRAINING_ORDER = ("happy", "sad", "neutral", "angry", "worried", "surprise")  # of the training prompts
NO_VALENCE = -10.0  # stands in lists where none is known
_FOLDERS = {"train": "train", "test1": "test", "test2": "test", "test3": "test", "test_semi": "test",
            "test_noise": "test"}  # fmt: skip


def _record(
    row: Row, dataset: str, clip: str, mode: str, label: Target, valence: str = "", words: str = ""
) -> ClipRecord:
    scores = {}
    if valence and float(valence) != NO_VALENCE:
        scores["valence"] = float(valence)
    return ClipRecord(
        id=clip,
        dataset=dataset,
        split=_FOLDERS.get(mode, "unsplit"),
        path=row.media(f"video/{clip}", f"{mode}/{clip}", f"video-labeled/{clip}", f"../MER2023/{mode}/{clip}"),
        label=label.label,
        labels=EMOTIONS,
        native=label.native,
        subtitle=words,
        mode=mode,
        scores=scores,
        provenance={"emotion": "human"} if label.label else {},
    )


def _valence(row: Row) -> str:
    text = row.text("valence") if "valence" in row.cells else ""
    if text:
        row.number_in("valence", NO_VALENCE, 10)
    return text


def _labels_of(dataset: str, mode: str) -> RecordMaker:
    """Rows `name, discrete[, valence]` of one part."""

    def make(row: Row) -> ClipRecord:
        return _record(row, dataset, row.need("name"), mode, row.target("discrete", EMOTIONS), _valence(row))

    return make


def _list_of(dataset: str, mode: str) -> RecordMaker:
    """Lines `name frames emotion [valence]` of Emotion-LLaMA's lists. Unlabelled candidates have a 0 for an emotion: that
    is a place holder, not a class."""

    def make(row: Row) -> ClipRecord:
        native = row.need("emotion")
        if native == "0":
            return _record(row, dataset, row.need("name"), "candidate", Target("", EMOTIONS))
        valence = _valence(row)
        return _record(row, dataset, row.need("name"), mode, row.target("emotion", EMOTIONS), valence)

    return make


def _truth_of(dataset: str, mode: str) -> RecordMaker:
    """The official scorer's truth file."""

    def make(row: Row) -> ClipRecord:
        return _record(row, dataset, row.key, mode, row.target("label", EMOTIONS))

    return make


def _corpus_of(dataset: str, modes: dict[str, str]) -> RecordMaker:
    """Entries of MERTools' label-6way.npz. That of MER2024 is not read: its script gives every unlabelled clip the
    emotion neutral as a dummy."""

    def make(row: Row) -> ClipRecord:
        mode = modes.get(row.need("member"))
        if mode is None:
            raise CellError("member", f"'{row.text('member')}' is none of {', '.join(modes)}")
        valence = row.text("val") if "val" in row.cells else ""
        return _record(row, dataset, row.key, mode, row.target("emo", EMOTIONS), valence)

    return make


def _table(dataset: str, text: str, mode: str, splits: dict[str, str], order: tuple[str, ...] = EMOTIONS) -> Table:
    """MMEVerse keeps both years in one file; what is not of this set's parts is left out."""
    return Table(
        dataset,
        "MER2024",
        text,
        {"emotion": Label("emotion_label", order)},
        {"reason": "gpt-4o-mini_Emotion"},
        mode=mode,
        splits=splits,
        shared=True,
        told_mode="MER2023_mode",
        written_by="machine translation" if text == "english" else "",
    )


_TRANSCRIPT, _MACHINE = csv_rows("name", "chinese", "english"), "machine translation"
_TESTS = {"test1": "test", "test2": "test", "test3": "test"}
MER2023 = DataSet(
    "mer2023",
    "MER2023",
    ("MER2023", "mer2023-dataset-process"),
    (
        *_table("mer2023", "english", "MER2023_mode", {"train": "train"}, TRAINING_ORDER).sources("merged", "AU_gpt"),
        *_table("mer2023", "chinese", "MER2023_mode", _TESTS).sources("label"),
        *(
            Source(f"{part}-label.csv", csv_rows("name", "discrete"), _labels_of("mer2023", part), anywhere=True)
            for part in ("train", "test1", "test2", "test3")
        ),
        Source(
            "*label-6way.npz",
            npz_rows,
            _corpus_of("mer2023", {f"{part}_corpus": part for part in ("train", "test1", "test2", "test3")}),
        ),
        Source(
            "relative_train_NCEV.txt",
            line_rows("name", "frames", "emotion", optional="valence"),
            _list_of("mer2023", "train"),
            anywhere=True,
        ),
        # The 70,000 clips that Emotion-LLaMA first learned labels from
        Source(
            "MER2023_pseudo_label.txt",
            line_rows("name", "frames", "emotion", optional="valence"),
            _list_of("mer2023", "train"),
            anywhere=True,
        ),
        Source(
            "relative_test3_NCEV.txt",
            line_rows("name", "frames", "emotion", optional="valence"),
            _list_of("mer2023", "test3"),
            anywhere=True,
        ),
        # English in training, Chinese in evaluation, as MMEVerse has it
        Source(
            "*transcription-engchi-polish.csv",
            _TRANSCRIPT,
            words_of("mer2023", "name", "english", "train", _MACHINE),
            words=True,
        ),
        Source(
            "*transcription-engchi-polish.csv", _TRANSCRIPT, words_of("mer2023", "name", "chinese", "test"), words=True
        ),
        Source(
            "transcription_en_all.csv",
            csv_rows("name", "sentence"),
            words_of("mer2023", "name", "sentence", author=_MACHINE),
            anywhere=True,
            words=True,
        ),
        Source("gt_mer2023_test1.npz", npz_rows, _truth_of("mer2023", "test1"), anywhere=True),
    ),
    request="https://huggingface.co/datasets/MERChallenge/MER2023 (gated), merchallenge.contact@gmail.com",
    terms="MER2023 EULA: academic use, no redistribution of clips or labels",
    family="mer2023",
)
MER2024 = DataSet(
    "mer2024",
    "MER2024 (labelled, SEMI, NOISE)",
    ("MER2024", "mer2024-dataset", "mer2024-dataset-process"),
    (
        *_table("mer2024", "chinese", "MER2024_mode", {"test_semi": "test"}).sources("label"),
        Source("label-disdim.csv", csv_rows("name", "discrete"), _labels_of("mer2024", "train"), anywhere=True),
        Source("reference-semi.csv", csv_rows("name", "discrete"), _labels_of("mer2024", "test_semi"), anywhere=True),
        Source("reference-noise.csv", csv_rows("name", "discrete"), _labels_of("mer2024", "test_noise"), anywhere=True),
        Source(
            "MER2024-noise_NCE.txt",
            line_rows("name", "frames", "emotion", optional="valence"),
            _list_of("mer2024", "test_noise"),
            anywhere=True,
        ),
        Source(
            "MER2024*_NCE*.txt",
            line_rows("name", "frames", "emotion", optional="valence"),
            _list_of("mer2024", "test_semi"),
            anywhere=True,
        ),
        Source("gt_mer2024_semi_other.npz", npz_rows, _truth_of("mer2024", "test_semi"), anywhere=True),
    ),
    request="https://huggingface.co/datasets/MERChallenge/MER2024 (gated), lianzheng2016@ia.ac.cn",
    terms="MER2024 EULA: academic use, no redistribution of clips or labels",
    family="mer2024",
)
