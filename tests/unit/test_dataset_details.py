"""What is special about single data sets: ids, class orders, splits, transcripts, placeholders."""

from dataset_fixtures import FIXTURES
from dataset_layouts import merged, npz, read_one, write_fixture

from data_pipeline.datasets.benchmarks import BENCHMARKS, benchmark_clips
from data_pipeline.datasets.check import check_root
from data_pipeline.datasets.iemocap import speaker_of

BY_NAME = {f.name: f for f in FIXTURES}


def test_iemocap_case_and_excited(tmp_path):
    """The evaluation has five labels in lower case and scores excited as happiness.

    Only session 5 is test.
    """
    rows = [f"Ses05F_impro01_F00{i},Session5,hi,{label}" for i, label in enumerate(
        ("anger", "neutral", "sadness", "happiness", "excited", "frustration"))]  # fmt: skip
    (tmp_path / "IEMOCAP").mkdir()
    (tmp_path / "IEMOCAP" / "IEMOCAP_label.csv").write_text(
        "video_id,session,text,official_label\n" + "\n".join(rows)
    )
    found, _ = read_one(tmp_path, "iemocap")
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


def test_mafw_zero_padding(tmp_path):
    text = merged(
        "mode,text_whisper,single_label,multi_label",
        '22,train,hm,anger,"anger,disgust"',
        "00050,test,hm,happiness,",
    )
    (tmp_path / "MAFW").mkdir()
    (tmp_path / "MAFW" / "MAFW_merged.csv").write_text(text)
    (tmp_path / "MAFW" / "MAFW_peak.json").write_text('{"00022": {"peak_index": 37}}')
    found, _ = read_one(tmp_path, "mafw")
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
    found, _ = read_one(tmp_path, "mer2024")
    assert [(r.id, r.split, r.label) for r in found.records] == [
        ("samplenew3_1", "unsplit", ""),
        ("samplenew3_2", "test", "happy"),
    ]


def test_mer2023_subtitles_are_english_in_training_and_chinese_in_evaluation(tmp_path):
    folder = tmp_path / "MER2024"
    folder.mkdir()
    (folder / "MER2024_merged.csv").write_text(
        merged("MER2023_mode,english,emotion_label", "sample_1,train,hello,angry")
    )
    label = (
        "video_id,MER2023_mode,MER2024_mode,chinese,emotion_label\n"
        "sample_2,test1,,你好,sad\nsample_3,other,test_semi,好,happy\n"
    )
    (folder / "MER2024_label.csv").write_text(label)
    found, _ = read_one(tmp_path, "mer2023")
    assert {r.id: (r.subtitle, r.mode) for r in found.records} == {
        "sample_1": ("hello", "train"),
        "sample_2": ("你好", "test1"),
    }
    assert found.annotation_files[-1].excluded == {"MER2023_mode is 'other'": 1}
    semi, _ = read_one(tmp_path, "mer2024")
    assert [(r.id, r.mode) for r in semi.records] == [("sample_3", "other")]
    assert [c.scored for c in benchmark_clips(BENCHMARKS["mer2024_semi"], semi)] == [True]


def test_transcripts_add_subtitles_but_no_clips(tmp_path):
    folder = tmp_path / "mer2023-dataset-process"
    folder.mkdir()
    npz(
        train_corpus={"a": {"emo": "happy", "val": 1}}, test1_corpus={"b": {"emo": "sad", "val": 1}}
    )(folder / "label-6way.npz")
    (folder / "transcription-engchi-polish.csv").write_text(
        "name,chinese,english\na,好,good\nb,不,no\nc,x,y\n"
    )
    found, _ = read_one(tmp_path, "mer2023")
    assert {r.id: r.subtitle for r in found.records} == {"a": "good", "b": "不"}
    assert found.records[0].provenance["subtitle"] == "machine translation"
    # MERTools' npz of MER2024 is not read: it has a dummy label for every unlabelled clip.
    other = tmp_path / "MER2024" / "mer2024-dataset-process"
    other.mkdir(parents=True)
    npz(test1_corpus={"z": {"emo": "neutral"}})(other / "label-6way.npz")
    assert {r.id for r in read_one(tmp_path, "mer2023")[0].records} == {"a", "b"} and not read_one(
        tmp_path, "mer2024"
    )[0].records


def test_benchmarks_ask_in_the_spelling_of_their_prompt(tmp_path):
    (tmp_path / "DFEW").mkdir()
    (tmp_path / "DFEW" / "DFEW_label.csv").write_text(
        "video_id,mode,sentence,label\n00001,test,x,angry\n00002,test,x,anger\n"
    )
    found, _ = read_one(tmp_path, "dfew")
    clips = benchmark_clips(BENCHMARKS["dfew"], found)
    assert [(c.truth, c.raw, c.record.label) for c in clips] == [
        ("angry", "angry", "anger"),
        ("angry", "anger", "anger"),
    ]
    (tmp_path / "DFEW" / "DFEW_label.csv").write_text(
        "video_id,mode,sentence,label\n00001,tset,x,angry\n"
    )
    found, _ = read_one(tmp_path, "dfew")
    assert "row 2, column 'mode': 'tset' is none of" in found.annotation_files[0].fault_lines()[0]


def test_mer2023_objects_of_mertools(tmp_path):
    """label-6way.npz contains pickled dicts; a valence of -10 means none."""
    folder = tmp_path / "mer2023-dataset-process"
    folder.mkdir()
    npz(
        train_corpus={"sample_1": {"emo": "happy", "val": 2.75}},
        test3_corpus={"sample_9": {"emo": "sad", "val": -10}},
    )(folder / "label-6way.npz")
    found, _ = read_one(tmp_path, "mer2023")
    assert {r.id: (r.split, r.label, r.scores) for r in found.records} == {
        "sample_1": ("train", "happy", {"valence": 2.75}),
        "sample_9": ("test", "sad", {}),
    }


def test_splits_of_sims_v1_and_v2(tmp_path):
    """CH-SIMS v2 trains on test clips of v1: the same id in both is a leak."""
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
    """Training files have the id in one column, the evaluation file has it in two; ids are text."""
    folder = tmp_path / "CMU-MOSEI"
    folder.mkdir()
    rows = ("81406_3,train,so,Positive", "-_x_yz_12,train,no,Neutral")
    (folder / "CMU-MOSEI_merged.csv").write_text(merged("mode,text,sentiment_label", *rows))
    (folder / "CMU-MOSEI_label.csv").write_text(
        "video_id,clip_id,mode,text,sentiment_label\n81406,4,valid,ok,Negative\n"
    )
    found, _ = read_one(tmp_path, "cmu_mosei")
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
    found, _ = read_one(tmp_path, "cmu_mosi")
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
    found, _ = read_one(tmp_path, "meld")
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
    found, _ = read_one(tmp_path, "meld")
    assert found.conflicts == ["train_dia0_utt3: 'joy' in one file, 'fear' in another"]


def test_folders_of_caer_are_its_labels(tmp_path):
    for name in ("train/Anger/0001.avi", "validation/Happy/0001.avi", "test/Bored/0001.avi"):
        (tmp_path / "CAER" / name).parent.mkdir(parents=True)
        (tmp_path / "CAER" / name).write_bytes(b"x")
    found, _ = read_one(tmp_path, "caer")
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
    found, _ = read_one(tmp_path, "mc_eiu")
    [record] = found.records
    assert (record.id, record.split, record.subtitle) == (
        "dia_1_utt_2_en",
        "train",
        "I wish, really",
    )
    assert found.annotation_files[0].excluded == {"intent 'sympathizing'": 1}
    assert record.provenance["subtitle"] == "human"
    (folder / "Training_transcription.csv").unlink()
    other = folder.parents[1] / "German" / "Annotation"
    folder.parent.rename(other.parent)
    found, _ = read_one(tmp_path, "mc_eiu")
    assert not found.records
    assert "is in no folder named English or Mandarin" in found.annotation_files[0].fault_lines()[0]


def test_list_of_a_fold_without_a_number(tmp_path):
    """A wrong name of a file is reported as such, not as a crash or a wrong clip."""
    for name in ("dfew", "mafw"):
        folder = tmp_path / name / name.upper()
        folder.mkdir(parents=True)
        (folder / f"{name.upper()}_set_x_train.txt").write_text("faces/00022 16 1\n")
        found, _ = read_one(tmp_path / name, name)
        assert "set_x_train.txt has no fold" in found.annotation_files[0].fault_lines()[0]


def test_boxes_are_hundredths_truncated_to_integers(tmp_path):
    found, _ = read_one(write_fixture(BY_NAME["refcoco"], tmp_path, None), "refcoco")
    [record] = found.records
    # 64/640, 48/480, 384/640, 288/480
    assert (
        record.answers == ("{<10><10><60><60>}",) and record.question == "THE LADY\nwoman in blue"
    )
    assert found.annotation_files[0].excluded == {"split 'testA'": 1}
