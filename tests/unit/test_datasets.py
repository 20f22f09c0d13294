"""Every data set in its true layout: good, malformed, without media, with a label that is none; and the known traps."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from dataset_fixtures import FIXTURES, Fixture, merged, npz, write_fixture

from data_pipeline.datasets.benchmarks import BENCHMARKS, benchmark_clips
from data_pipeline.datasets.check import check_root
from data_pipeline.datasets.iemocap import speaker_of
from data_pipeline.datasets.labels import concept, match_label
from data_pipeline.datasets.mafw import DFER_CLIP_ORDER, NATIVE_ORDER
from data_pipeline.datasets.registry import DATASETS, IMAGES, TRAINING, read_root
from data_pipeline.datasets.rows import DataError
from data_pipeline.loader.released_stages import IMAGE_SETS, SETS
from data_pipeline.schema import ClipRecord

BY_NAME = {f.name: f for f in FIXTURES}
EVERY = pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)


def read(root: Path, name: str, lenient: bool = False):
    found, files = read_root(root, names=[name], lenient=lenient)
    return found[0], files


def test_there_is_a_fixture_for_every_data_set():
    assert set(BY_NAME) == set(DATASETS)
    assert set(TRAINING) == set(SETS) and len(TRAINING) == 12
    assert set(IMAGES) == set(IMAGE_SETS) and len(IMAGES) == 8
    assert len(BENCHMARKS) == 18 and {b.dataset for b in BENCHMARKS.values()} <= set(DATASETS)


@EVERY
def test_good(fixture: Fixture, tmp_path):
    found, files = read(write_fixture(fixture, tmp_path, b"clip"), fixture.name)
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
    file, old, new, column = fixture.unknown
    found, _ = read(write_fixture(fixture, tmp_path, b"clip", (file, old, new)), fixture.name)
    lines = [line for r in found.annotation_files for line in r.fault_lines()]
    assert (
        len(lines) == 1
        and f"column '{column}'" in lines[0]
        and file in lines[0]
        and "row " in lines[0]
    )
    lenient, _ = read(tmp_path, fixture.name, lenient=True)
    # A lenient reading leaves the row out and still tells of it.
    assert sum(len(r.records) for r in lenient.annotation_files) == sum(
        len(r.records) for r in found.annotation_files
    ) + lost(fixture, file)
    assert sum(len(r.faults) for r in lenient.annotation_files) == 1


def lost(fixture: Fixture, file: str) -> int:
    """Rows of the spoiled file that a lenient reading keeps."""
    kept = {"mer2024": 1, "dfew": 1, "mafw": 1, "cmu_mosi": 1}
    return kept.get(fixture.name, 0)


@EVERY
def test_malformed(fixture: Fixture, tmp_path):
    file, old, new, text = fixture.malformed
    found, _ = read(write_fixture(fixture, tmp_path, b"clip", (file, old, new)), fixture.name)
    refused = [r for r in found.annotation_files if r.refused]
    assert len(refused) == 1 and not refused[0].records
    line = refused[0].fault_lines()[0]
    assert text in line and str(refused[0].path) in line


def test_an_empty_file_and_one_that_is_no_text_are_refused(tmp_path):
    folder = tmp_path / "MELD"
    folder.mkdir()
    (folder / "train_sent_emo.csv").write_text("")
    (folder / "dev_sent_emo.csv").write_bytes(b"\xff\xfe\x00bad")
    (folder / "test_sent_emo.csv").write_text(
        BY_NAME["meld"].files["MELD/train/train_sent_emo.csv"].splitlines()[0]
    )
    found, _ = read(tmp_path, "meld")
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


def test_what_means_something_else_is_refused():
    with pytest.raises(ValueError, match="'joy' is none of happy, sad"):
        match_label("joy", ("happy", "sad"))  # MELD's joy is not quietly the happiness of others
    with pytest.raises(ValueError):
        match_label("excited", ("Happiness", "Anger"))


# --- traps ---


def test_iemocap_case_and_excited(tmp_path):
    """The evaluation keeps five labels in lower case and scores excited as happiness; Session 5 alone is test."""
    rows = [f"Ses05F_impro01_F00{i},Session5,hi,{label}" for i, label in enumerate(
        ("anger", "neutral", "sadness", "happiness", "excited", "frustration"))]  # fmt: skip
    (tmp_path / "IEMOCAP").mkdir()
    (tmp_path / "IEMOCAP" / "IEMOCAP_label.csv").write_text(
        "video_id,session,text,official_label\n" + "\n".join(rows)
    )
    found, _ = read(tmp_path, "iemocap")
    assert {r.split for r in found.records} == {"test"} and {r.speaker for r in found.records} == {
        "05F"
    }
    clips = list(benchmark_clips(BENCHMARKS["iemocap"], found))
    assert [c.truth for c in clips] == ["Anger", "Neutral", "Sadness", "Happiness", "Happiness"]
    assert [c.record.native for c in clips] == [
        "anger",
        "neutral",
        "sadness",
        "happiness",
        "excited",
    ]


def test_the_speaker_of_a_turn_is_its_last_letter():
    assert (
        speaker_of("Ses01F_impro01_M000") == "01M" and speaker_of("Ses03M_script02_1_FXX1") == "03F"
    )


def test_the_two_class_orders_of_mafw(real_data):
    """DFER-CLIP's list and HiCMAE's give the same 9,156 clips the same words, by different numbers."""
    found, _ = read(real_data / "annotations", "mafw")
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


def test_mafw_zero_padding(tmp_path):
    text = merged(
        "mode,text_whisper,single_label,multi_label",
        '22,train,hm,anger,"anger,disgust"',
        "00050,test,hm,happiness,",
    )
    (tmp_path / "MAFW").mkdir()
    (tmp_path / "MAFW" / "MAFW_merged.csv").write_text(text)
    (tmp_path / "MAFW" / "MAFW_peak.json").write_text('{"00022": {"peak_index": 37}}')
    found, _ = read(tmp_path, "mafw")
    first, second = found.records
    assert (first.id, first.peak_index, second.id, second.peak_index) == (
        "00022",
        37,
        "00050",
        None,
    )
    assert (
        first.target("multi-label").label == "anger, disgust"
        and second.target("multi-label") is None
    )


def test_placeholder_zeros_of_the_mer2024_list(tmp_path):
    (tmp_path / "MER2024_NCE.txt").write_text("samplenew3_1 25 0\nsamplenew3_2 30 happy\n")
    found, _ = read(tmp_path, "mer2024")
    assert [(r.id, r.split, r.label) for r in found.records] == [
        ("samplenew3_1", "unsplit", ""),
        ("samplenew3_2", "test", "happy"),
    ]


def test_mer2023_speaks_english_in_training_and_chinese_in_evaluation(tmp_path):
    folder = tmp_path / "MER2024"
    folder.mkdir()
    (folder / "MER2024_merged.csv").write_text(
        merged("MER2023_mode,english,emotion_label", "sample_1,train,hello,angry")
    )
    label = "video_id,MER2023_mode,MER2024_mode,chinese,emotion_label\nsample_2,test1,,你好,sad\nsample_3,other,test_semi,好,happy\n"
    (folder / "MER2024_label.csv").write_text(label)
    found, _ = read(tmp_path, "mer2023")
    assert {r.id: (r.subtitle, r.mode) for r in found.records} == {
        "sample_1": ("hello", "train"),
        "sample_2": ("你好", "test1"),
    }
    assert found.annotation_files[-1].excluded == {"MER2023_mode is 'other'": 1}
    semi, _ = read(tmp_path, "mer2024")
    assert [(r.id, r.mode) for r in semi.records] == [("sample_3", "other")]
    assert [c.scored for c in benchmark_clips(BENCHMARKS["mer2024_semi"], semi)] == [True]


def test_transcripts_fill_in_words_and_make_no_clips(tmp_path):
    folder = tmp_path / "mer2023-dataset-process"
    folder.mkdir()
    npz(
        train_corpus={"a": {"emo": "happy", "val": 1}}, test1_corpus={"b": {"emo": "sad", "val": 1}}
    )(folder / "label-6way.npz")
    (folder / "transcription-engchi-polish.csv").write_text(
        "name,chinese,english\na,好,good\nb,不,no\nc,x,y\n"
    )
    found, _ = read(tmp_path, "mer2023")
    assert {r.id: r.subtitle for r in found.records} == {"a": "good", "b": "不"}
    assert found.records[0].provenance["subtitle"] == "machine translation"
    # MERTools' npz of MER2024 has a dummy label for every unlabelled clip: it is not read, as neither year
    other = tmp_path / "MER2024" / "mer2024-dataset-process"
    other.mkdir(parents=True)
    npz(test1_corpus={"z": {"emo": "neutral"}})(other / "label-6way.npz")
    assert {r.id for r in read(tmp_path, "mer2023")[0].records} == {"a", "b"} and not read(
        tmp_path, "mer2024"
    )[0].records


def test_benchmarks_ask_in_the_spelling_of_their_prompt(tmp_path):
    (tmp_path / "DFEW").mkdir()
    (tmp_path / "DFEW" / "DFEW_label.csv").write_text(
        "video_id,mode,sentence,label\n00001,test,x,angry\n00002,test,x,anger\n"
    )
    found, _ = read(tmp_path, "dfew")
    assert [(c.truth, c.raw, c.record.label) for c in benchmark_clips(BENCHMARKS["dfew"], found)] == [
        ("angry", "angry", "anger"), ("angry", "anger", "anger"),
    ]  # fmt: skip
    (tmp_path / "DFEW" / "DFEW_label.csv").write_text(
        "video_id,mode,sentence,label\n00001,tset,x,angry\n"
    )
    found, _ = read(tmp_path, "dfew")
    assert "row 2, column 'mode': 'tset' is none of" in found.annotation_files[0].fault_lines()[0]


def test_mer2023_objects_of_mertools(tmp_path):
    """label-6way.npz holds pickled dicts; -10 stands for no valence."""
    folder = tmp_path / "mer2023-dataset-process"
    folder.mkdir()
    npz(
        train_corpus={"sample_1": {"emo": "happy", "val": 2.75}},
        test3_corpus={"sample_9": {"emo": "sad", "val": -10}},
    )(folder / "label-6way.npz")
    found, _ = read(tmp_path, "mer2023")
    assert {r.id: (r.split, r.label, r.scores) for r in found.records} == {
        "sample_1": ("train", "happy", {"valence": 2.75}),
        "sample_9": ("test", "sad", {}),
    }


def test_splits_of_sims_v1_and_v2(tmp_path):
    """v2 trains on clips that v1 tests: the same id in both is a leak between them."""
    for name in ("sims", "ch_sims_v2_s"):
        write_fixture(BY_NAME[name], tmp_path, None)
    meta = tmp_path / "ch-simsv2s" / "meta.csv"
    meta.write_text(meta.read_text() + "video_0001,0001,again,-0.6,,,,Negative,train\n")
    report = check_root(tmp_path, names=["sims", "ch_sims_v2_s"])
    assert report["sets"]["ch_sims_v2_s"]["files"][0]["left_out"] == {"no label": 1}
    [leak] = report["leaks"]
    assert (leak["learned"], leak["held_out"], leak["such_as"]) == (
        "ch_sims_v2_s train", "sims val/test", ["video_0001_0001"],
    )  # fmt: skip


def test_mosei_ids(tmp_path):
    """Training files name a clip in one column, the evaluation file in two; ids are texts, whatever they look like."""
    folder = tmp_path / "CMU-MOSEI"
    folder.mkdir()
    rows = ("81406_3,train,so,Positive", "-_x_yz_12,train,no,Neutral")
    (folder / "CMU-MOSEI_merged.csv").write_text(merged("mode,text,sentiment_label", *rows))
    (folder / "CMU-MOSEI_label.csv").write_text(
        "video_id,clip_id,mode,text,sentiment_label\n81406,4,valid,ok,Negative\n"
    )
    found, _ = read(tmp_path, "cmu_mosei")
    assert {r.id: r.speaker for r in found.records} == {
        "81406_3": "81406",
        "-_x_yz_12": "-_x_yz",
        "81406_4": "81406",
    }
    assert {r.split for r in found.records} == {"train", "val"}


def test_sentiment_scores_of_mertools(tmp_path):
    folder = tmp_path / "cmumosi-process"
    folder.mkdir()
    npz(
        test_corpus={"a_1": {"emo": 0, "val": 2.2}, "a_2": {"emo": 0, "val": 0.0}},
        val_corpus={"b_1": {"emo": 0, "val": -0.4}},
    )(folder / "label.npz")
    found, _ = read(tmp_path, "cmu_mosi")
    assert {r.id: (r.split, r.label, r.scores["sentiment"]) for r in found.records} == {
        "a_1": ("test", "Positive", 2.2),
        "a_2": ("test", "Neutral", 0.0),
        "b_1": ("val", "Negative", -0.4),
    }


def test_stages_of_one_clip_are_joined(tmp_path):
    (tmp_path / "MELD").mkdir()
    (tmp_path / "AU_gpt").mkdir()
    (tmp_path / "MELD" / "MELD_merged.csv").write_text(
        merged("mode,text,Emotion,Sentiment", "train_dia0_utt3,train,hi,joy,positive")
    )
    (tmp_path / "AU_gpt" / "MELD_AU_gpt.csv").write_text(
        "video_id,mode,text,Emotion,Sentiment,gpt-4o-mini_Emotion,gpt-4o-mini_Sentiment\n"
        "train_dia0_utt3,train,hi,joy,positive,She beams.,Good news.\n"
    )
    found, _ = read(tmp_path, "meld")
    [record] = found.records
    assert record.texts == {
        "audio": "a loud voice", "audio_2": "", "image": "she smiles", "reason": "She beams.",
        "reason_sentiment": "Good news.",
    }  # fmt: skip
    assert record.provenance["audio_2"].startswith("Qwen2-Audio") and record.provenance[
        "reason"
    ].startswith("GPT-4o-mini")
    assert record.path == str(tmp_path / "MELD" / "video" / "train_dia0_utt3.mp4")
    assert record.target("sentiment").label == "Positive" and record.target("intent") is None
    second = (tmp_path / "AU_gpt" / "MELD_AU_gpt.csv").read_text().replace(",joy,", ",fear,")
    (tmp_path / "AU_gpt" / "MELD_AU_gpt.csv").write_text(second)
    found, _ = read(tmp_path, "meld")
    assert found.conflicts == ["train_dia0_utt3: 'joy' in one file, 'fear' in another"]


def test_folders_of_caer_are_its_labels(tmp_path):
    for name in ("train/Anger/0001.avi", "validation/Happy/0001.avi", "test/Bored/0001.avi"):
        (tmp_path / "CAER" / name).parent.mkdir(parents=True)
        (tmp_path / "CAER" / name).write_bytes(b"x")
    found, _ = read(tmp_path, "caer")
    assert {(r.id, r.split, r.label) for r in found.records} == {
        ("train_Anger_0001", "train", "anger"),
        ("validation_Happy_0001", "val", "happy"),
    }
    assert [r.path.name for r in found.annotation_files if r.refused] == ["0001.avi"]


def test_lists_of_meiju(tmp_path):
    folder = tmp_path / "MEIJU" / "Track1" / "English" / "Annotation"
    folder.mkdir(parents=True)
    (folder / "Training_files.txt").write_text(
        "dia_1_utt_2.mp4 happy wishing\ndia_1_utt_3.mp4 sad sympathizing\n"
    )
    (folder / "Training_transcription.csv").write_text(
        "name,sentence\ndia_1_utt_2.mp4,I wish, really\n"
    )
    found, _ = read(tmp_path, "mc_eiu")
    [record] = found.records
    assert (record.id, record.split, record.subtitle) == (
        "dia_1_utt_2_en",
        "train",
        "I wish, really",
    )
    assert found.annotation_files[0].excluded == {"intent 'sympathizing'": 1}


def test_boxes_are_hundredths_cut_to_whole_numbers(tmp_path):
    found, _ = read(write_fixture(BY_NAME["refcoco"], tmp_path, None), "refcoco")
    [record] = found.records
    # 64/640, 48/480, 384/640, 288/480
    assert (
        record.answers == ("{<10><10><60><60>}",) and record.question == "THE LADY\nwoman in blue"
    )
    assert found.annotation_files[0].excluded == {"split 'testA'": 1}


# --- the real files ---


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
    assert merr == {"neutral": 1352, "sad": 1091, "angry": 874, "happy": 475, "worried": 310, "surprise": 213, "fear": 86,
                    "doubt": 45, "contempt": 41}  # fmt: skip
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


def test_the_official_truth_agrees_with_the_sets_own_files(real_data):
    """MELD's own test file and the official scorer's truth, each read by its own reader, name every clip alike."""
    found, _ = read(real_data / "annotations", "meld")
    assert found.conflicts == [] and {r.path.name for r in found.annotation_files} >= {
        "gt_meld_emotion_test.npz",
        "test_sent_emo.csv",
    }
    truth = Counter(c.truth for c in benchmark_clips(BENCHMARKS["meld_emotion"], found) if c.scored)
    assert truth["sad"] == 208 and truth["joy"] == 402


def test_a_lenient_reading_of_merr_gives_the_strict_file(real_data):
    """What is repaired in the hand-edited file are the records of the strict one, to the character."""
    found, _ = read(real_data / "annotations", "merr_fine", lenient=True)
    by_file = {r.path.name: r for r in found.annotation_files}
    mended, strict = by_file["MERR_fine_grained.commented.json"], by_file["MERR_fine_grained.json"]
    assert len(mended.repaired) == 7 and not mended.faults and not strict.repaired
    assert mended.records == strict.records and len(strict.records) == 4487


def test_dyadic_rows_are_not_taken_for_meld(real_data):
    """The dyadic files renumber dialogues: read as MELD they would be other clips."""
    report = check_root(real_data / "annotations", names=["meld"])
    assert any("dyadic" in f for f in report["unread"])
    with (real_data / "annotations" / "meld" / "train_sent_emo.csv").open(encoding="utf-8") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 9989


def test_errors_are_values():
    assert issubclass(DataError, ValueError)
