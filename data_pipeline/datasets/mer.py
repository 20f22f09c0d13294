"""MER2023, MER2024 (labelled part, SEMI, NOISE): Chinese films and series, six emotions.

MMEVerse trains MER2023 with English subtitles and evaluates it with Chinese ones; so do these records.
"""

from __future__ import annotations

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.reading import (
    CellError,
    RecordMaker,
    Row,
    csv_rows,
    line_rows,
    npz_rows,
    words_of,
)
from data_pipeline.schema import ClipRecord, Target

EMOTIONS = ("angry", "happy", "neutral", "sad", "surprise", "worried")
TRAINING_ORDER = (
    "happy",
    "sad",
    "neutral",
    "angry",
    "worried",
    "surprise",
)  # of the training prompts
NO_VALENCE = -10.0  # stands in lists where none is known
_FOLDERS = {"train": "train", "test1": "test", "test2": "test", "test3": "test", "test_semi": "test",
            "test_noise": "test"}  # fmt: skip


def _record(
    row: Row,
    dataset: str,
    clip: str,
    mode: str,
    label: Target,
    *,
    valence: str = "",
    words: str = "",
) -> ClipRecord:
    scores = {}
    if valence and float(valence) != NO_VALENCE:
        scores["valence"] = float(valence)
    return ClipRecord(
        id=clip,
        dataset=dataset,
        split=_FOLDERS.get(mode, "unsplit"),
        path=row.media(
            f"video/{clip}", f"{mode}/{clip}", f"video-labeled/{clip}", f"../MER2023/{mode}/{clip}"
        ),
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
        return _record(
            row,
            dataset,
            row.need("name"),
            mode,
            row.target("discrete", EMOTIONS),
            valence=_valence(row),
        )

    return make


def _list_of(dataset: str, mode: str) -> RecordMaker:
    """Lines `name frames emotion [valence]` of Emotion-LLaMA's lists. Unlabelled candidates have a 0 for an emotion: that
    is a place holder, not a class.
    """

    def make(row: Row) -> ClipRecord:
        native = row.need("emotion")
        if native == "0":
            return _record(row, dataset, row.need("name"), "candidate", Target("", EMOTIONS))
        valence = _valence(row)
        return _record(
            row, dataset, row.need("name"), mode, row.target("emotion", EMOTIONS), valence=valence
        )

    return make


def _truth_of(dataset: str, mode: str) -> RecordMaker:
    """The official scorer's truth file."""

    def make(row: Row) -> ClipRecord:
        return _record(row, dataset, row.key, mode, row.target("label", EMOTIONS))

    return make


def _corpus_of(dataset: str, modes: dict[str, str]) -> RecordMaker:
    """Entries of MERTools' label-6way.npz. That of MER2024 is not read: its script gives every unlabelled clip the
    emotion neutral as a dummy.
    """

    def make(row: Row) -> ClipRecord:
        mode = modes.get(row.need("member"))
        if mode is None:
            raise CellError("member", f"'{row.text('member')}' is none of {', '.join(modes)}")
        valence = row.text("val") if "val" in row.cells else ""
        return _record(row, dataset, row.key, mode, row.target("emo", EMOTIONS), valence=valence)

    return make


def _table(
    dataset: str, text: str, mode: str, splits: dict[str, str], *, order: tuple[str, ...] = EMOTIONS
) -> Table:
    """MMEVerse keeps both years in one file; what is not of this set's parts is left out."""
    return Table(
        dataset=dataset,
        folder="MER2024",
        text=text,
        labels={"emotion": Label("emotion_label", order)},
        reasons={"reason": "gpt-4o-mini_Emotion"},
        mode=mode,
        splits=splits,
        shared=True,
        told_mode="MER2023_mode",
        written_by="machine translation" if text == "english" else "",
    )


_TRANSCRIPT, _MACHINE = csv_rows("name", "chinese", "english"), "machine translation"
_TESTS = {"test1": "test", "test2": "test", "test3": "test"}
MER2023 = DataSet(
    name="mer2023",
    title="MER2023",
    folders=("MER2023", "mer2023-dataset-process"),
    sources=(
        *_table(
            "mer2023", "english", "MER2023_mode", {"train": "train"}, order=TRAINING_ORDER
        ).sources("merged", "AU_gpt"),
        *_table("mer2023", "chinese", "MER2023_mode", _TESTS).sources("label"),
        *(
            Source(
                pattern=f"{part}-label.csv",
                rows=csv_rows("name", "discrete"),
                make=_labels_of("mer2023", part),
                anywhere=True,
            )
            for part in ("train", "test1", "test2", "test3")
        ),
        Source(
            pattern="*label-6way.npz",
            rows=npz_rows,
            make=_corpus_of(
                "mer2023", {f"{part}_corpus": part for part in ("train", "test1", "test2", "test3")}
            ),
        ),
        Source(
            pattern="relative_train_NCEV.txt",
            rows=line_rows("name", "frames", "emotion", optional="valence"),
            make=_list_of("mer2023", "train"),
            anywhere=True,
        ),
        # The 70,000 clips that Emotion-LLaMA first learned labels from
        Source(
            pattern="MER2023_pseudo_label.txt",
            rows=line_rows("name", "frames", "emotion", optional="valence"),
            make=_list_of("mer2023", "train"),
            anywhere=True,
        ),
        Source(
            pattern="relative_test3_NCEV.txt",
            rows=line_rows("name", "frames", "emotion", optional="valence"),
            make=_list_of("mer2023", "test3"),
            anywhere=True,
        ),
        # English in training, Chinese in evaluation, as MMEVerse has it
        Source(
            pattern="*transcription-engchi-polish.csv",
            rows=_TRANSCRIPT,
            make=words_of("mer2023", "name", "english", split="train", author=_MACHINE),
            words=True,
        ),
        Source(
            pattern="*transcription-engchi-polish.csv",
            rows=_TRANSCRIPT,
            make=words_of("mer2023", "name", "chinese", split="test"),
            words=True,
        ),
        Source(
            pattern="transcription_en_all.csv",
            rows=csv_rows("name", "sentence"),
            make=words_of("mer2023", "name", "sentence", author=_MACHINE),
            anywhere=True,
            words=True,
        ),
        Source(
            pattern="gt_mer2023_test1.npz",
            rows=npz_rows,
            make=_truth_of("mer2023", "test1"),
            anywhere=True,
        ),
    ),
    request="https://huggingface.co/datasets/MERChallenge/MER2023 (gated), merchallenge.contact@gmail.com",
    terms="MER2023 EULA: academic use, no redistribution of clips or labels",
    family="mer2023",
)
MER2024 = DataSet(
    name="mer2024",
    title="MER2024 (labelled, SEMI, NOISE)",
    folders=("MER2024", "mer2024-dataset", "mer2024-dataset-process"),
    sources=(
        *_table("mer2024", "chinese", "MER2024_mode", {"test_semi": "test"}).sources("label"),
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
            rows=line_rows("name", "frames", "emotion", optional="valence"),
            make=_list_of("mer2024", "test_noise"),
            anywhere=True,
        ),
        Source(
            pattern="MER2024*_NCE*.txt",
            rows=line_rows("name", "frames", "emotion", optional="valence"),
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
