"""Every data set in its own layout: good, malformed, without media, with an unknown label."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from dataset_fixtures import FIXTURES
from dataset_layouts import Fixture, read_one, write_fixture

from data_pipeline.datasets.benchmarks import BENCHMARKS, benchmark_clips
from data_pipeline.datasets.check import check_root
from data_pipeline.datasets.labels import concept, match_label
from data_pipeline.datasets.mafw import DFER_CLIP_ORDER, NATIVE_ORDER
from data_pipeline.datasets.registry import DATASETS, IMAGES, TRAINING, read_root
from data_pipeline.datasets.rows import DataError
from data_pipeline.loader.released_stages import IMAGE_SETS, SETS
from data_pipeline.schema import ClipRecord

BY_NAME = {f.name: f for f in FIXTURES}
# Rows of the changed file that lenient reading keeps.
REMAINING_ROWS = {"mer2024": 1, "dfew": 1, "mafw": 1, "cmu_mosi": 1}
EVERY = pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)


def test_there_is_a_fixture_for_every_data_set():
    assert set(BY_NAME) == set(DATASETS)
    assert set(TRAINING) == set(SETS) and len(TRAINING) == 12
    assert set(IMAGES) == set(IMAGE_SETS) and len(IMAGES) == 8
    assert len(BENCHMARKS) == 18 and {b.dataset for b in BENCHMARKS.values()} <= set(DATASETS)


@EVERY
def test_good(fixture: Fixture, tmp_path):
    found, files = read_one(write_fixture(fixture, tmp_path, b"clip"), fixture.name)
    assert [
        line for r in found.annotation_files for line in r.fault_lines()
    ] == [] and not found.conflicts
    assert len(found.records) == fixture.count
    first = found.records[0]
    assert (first.id, first.split, first.label) == fixture.first
    assert first.path == str(tmp_path / fixture.clip)
    assert ClipRecord.from_json(first.to_json()) == first
    assert files.has(Path(first.path))


@EVERY
def test_missing_media(fixture: Fixture, tmp_path):
    report = check_root(write_fixture(fixture, tmp_path, None), names=[fixture.name])
    media = report["sets"][fixture.name]["media"]
    assert media["missing"] == media["wanted"] == fixture.count and media["found"] == 0
    assert Path(media["missing_such_as"][0]).is_absolute()
    again = check_root(write_fixture(fixture, tmp_path, b"no clip at all"), names=[fixture.name])[
        "sets"
    ][fixture.name]["media"]
    assert (again["found"], again["unreadable"]) == (1, 1)


@EVERY
def test_unknown_label(fixture: Fixture, tmp_path):
    if fixture.unknown is None:
        pytest.skip("words or boxes: there is no label space")
    old, new, column = fixture.unknown
    found, _ = read_one(write_fixture(fixture, tmp_path, b"clip", (old, new)), fixture.name)
    lines = [line for r in found.annotation_files for line in r.fault_lines()]
    assert (
        len(lines) == 1
        and f"column '{column}'" in lines[0]
        and fixture.changed_file in lines[0]
        and "row " in lines[0]
    )
    lenient, _ = read_one(tmp_path, fixture.name, lenient=True)
    # Lenient reading skips the row and still reports it.
    assert sum(len(r.records) for r in lenient.annotation_files) == sum(
        len(r.records) for r in found.annotation_files
    ) + REMAINING_ROWS.get(fixture.name, 0)
    assert sum(len(r.faults) for r in lenient.annotation_files) == 1


@EVERY
def test_malformed(fixture: Fixture, tmp_path):
    old, new, text = fixture.malformed
    found, _ = read_one(write_fixture(fixture, tmp_path, b"clip", (old, new)), fixture.name)
    refused = [r for r in found.annotation_files if r.refused]
    assert len(refused) == 1 and not refused[0].records
    line = refused[0].fault_lines()[0]
    assert text in line and str(refused[0].path) in line


def test_empty_files_and_files_that_are_not_text_are_refused(tmp_path):
    folder = tmp_path / "MELD"
    folder.mkdir()
    (folder / "train_sent_emo.csv").write_text("")
    (folder / "dev_sent_emo.csv").write_bytes(b"\xff\xfe\x00ba")
    (folder / "test_sent_emo.csv").write_text(
        BY_NAME["meld"].files["MELD/train/train_sent_emo.csv"].splitlines()[0]
    )
    found, _ = read_one(tmp_path, "meld")
    lines = [line for r in found.annotation_files for line in r.fault_lines()]
    assert len(lines) == 3 and all(r.refused for r in found.annotation_files)
    assert any("cannot be read" in x for x in lines) and any("contains no row" in x for x in lines)


def test_unknown_names_and_folders(tmp_path):
    with pytest.raises(ValueError, match="there is no data set 'melt'"):
        read_root(tmp_path, names=["melt"])
    with pytest.raises(ValueError, match="there is no folder"):
        read_root(tmp_path / "nowhere")


# --- spellings ---


@pytest.mark.parametrize(
    ("native", "space", "spelled"),
    [
        ("angry", ("anger", "sad"), "anger"),  # DFEW's evaluation against its training prompts
        ("anger", ("angry", "disgusted"), "angry"),  # E3
        ("sadness", ("joy", "sad"), "sad"),  # MELD
        ("exc", ("Excited", "Happiness"), "Excited"),  # IEMOCAP's codes
        ("happiness", ("Excited", "Happiness"), "Happiness"),
        ("neutral", ("Positive", "Neutral"), "Neutral"),
    ],
)
def test_spellings_are_unified(native, space, spelled):
    assert match_label(native, space) == spelled
    assert concept(native) == concept(spelled)


def test_labels_of_another_meaning_are_refused():
    with pytest.raises(ValueError, match="'joy' is none of happy, sad"):
        match_label("joy", ("happy", "sad"))  # MELD's joy is not the happiness of others
    with pytest.raises(ValueError):
        match_label("excited", ("Happiness", "Anger"))


# --- the real files ---


def test_the_two_class_orders_of_mafw(real_data):
    """DFER-CLIP's and HiCMAE's lists give 9,156 clips the same labels, by different numbers."""
    found, _ = read_one(real_data / "annotations", "mafw")
    one = {r.id: r for r in found.records if r.fold == "1"}
    other = {r.id: r for r in found.records if r.fold == "hicmae-1"}
    both = set(one) & set(other)
    assert len(both) == 9156 and all(one[i].label == other[i].label for i in both)
    assert one["00022"].label == other["00022"].label == "helplessness"
    assert one["00050"].label == "happiness" and (one["00050"].native, other["00050"].native) == (
        "0",
        "3",
    )
    assert DFER_CLIP_ORDER != NATIVE_ORDER and sorted(DFER_CLIP_ORDER) == sorted(NATIVE_ORDER)


def test_counts_of_the_real_annotations(real_data):
    report = check_root(real_data / "annotations")
    splits = {
        (name, s["fold"], s["split"]): s["clips"]
        for name, e in report["sets"].items()
        for s in e["splits"]
    }
    assert [splits["meld", "", s] for s in ("train", "val", "test")] == [9989, 1109, 2610]
    sizes = [(9356, 2341), (9356, 2341), (9357, 2340), (9358, 2339), (9361, 2336)]
    assert [
        (splits["dfew", str(i), "train"], splits["dfew", str(i), "test"]) for i in range(1, 6)
    ] == sizes
    sizes = [(7333, 1839), (7335, 1837), (7339, 1833), (7340, 1832), (7341, 1831)]
    assert [
        (splits["mafw", str(i), "train"], splits["mafw", str(i), "test"]) for i in range(1, 6)
    ] == sizes
    assert splits["ferv39k", "", "test"] == 7847 and splits["crema_d", "", "unsplit"] == 7442
    merr = {r["label"]: r["clips"] for r in report["sets"]["merr_fine"]["counts"]}
    assert merr == {
        "neutral": 1352,
        "sad": 1091,
        "angry": 874,
        "happy": 475,
        "worried": 310,
        "surprise": 213,
        "fear": 86,
        "doubt": 45,
        "contempt": 41,
    }
    assert report["sets"]["merr_fine"]["clips"] == 4487
    assert all(
        e["media"]["found"] == 0 and e["media"]["missing"] == e["media"]["wanted"]
        for e in report["sets"].values()
    )
    assert [Path(p).name for p in report["refused"]] == ["MERR_fine_grained.commented.json"]
    lines = next(f for f in report["sets"]["merr_fine"]["files"] if f["refused"])["fault_lines"]
    assert [line.split("row ")[1].split(":")[0] for line in lines] == [
        "8",
        "9",
        "11",
        "12",
        "13",
        "14",
        "15",
    ]
    bench = report["benchmarks"]
    scored = {
        n: bench[n]["scored"]
        for n in ("mer2023", "mer2024_semi", "iemocap", "meld_emotion", "ov_merd+", "dfew")
    }
    assert scored == {
        "mer2023": 411,
        "mer2024_semi": 1169,
        "iemocap": 1496,
        "meld_emotion": 2610,
        "ov_merd+": 532,
        "dfew": 2341,
    }
    assert bench["bold"]["state"] == "no annotations" and "cydar" in bench["bold"]["request"]


def test_the_official_truth_agrees_with_the_files_of_the_data_set(real_data):
    """MELD's own test file and the official scorer's ground truth have the same labels."""
    found, _ = read_one(real_data / "annotations", "meld")
    assert found.conflicts == [] and {r.path.name for r in found.annotation_files} >= {
        "gt_meld_emotion_test.npz",
        "test_sent_emo.csv",
    }
    truth = Counter(c.truth for c in benchmark_clips(BENCHMARKS["meld_emotion"], found) if c.scored)
    assert truth["sad"] == 208 and truth["joy"] == 402


def test_lenient_reading_of_merr_gives_the_original_records(real_data):
    """The repaired file has exactly the records of the file that was not edited."""
    found, _ = read_one(real_data / "annotations", "merr_fine", lenient=True)
    by_file = {r.path.name: r for r in found.annotation_files}
    repaired, original = (
        by_file["MERR_fine_grained.commented.json"],
        by_file["MERR_fine_grained.json"],
    )
    assert len(repaired.repaired) == 7 and not repaired.faults and not original.repaired
    assert repaired.records == original.records and len(original.records) == 4487


def test_dyadic_rows_are_not_taken_for_meld(real_data):
    """The dyadic files renumber the dialogues: read as MELD they would be other clips."""
    report = check_root(real_data / "annotations", names=["meld"])
    assert any("dyadic" in f for f in report["unread"])
    with (real_data / "annotations" / "meld" / "train_sent_emo.csv").open(encoding="utf-8") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 9989


def test_errors_are_values():
    assert issubclass(DataError, ValueError)
