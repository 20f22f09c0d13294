"""Small folders in the true layout of every data set: what a good one holds, and how to spoil it."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np

Content = str | Callable[[Path], None]


@dataclasses.dataclass(frozen=True)
class Fixture:
    """One data set.

    files: path -> text, or what writes it.  clip: media file of the first record.
    first: (id, split, label) of the first record.  count: of records.
    unknown: (file, old, new, column): a label that is none, in text files.
    malformed: (file, old, new, what the fault says).
    """

    name: str
    files: dict[str, Content]
    clip: str
    first: tuple[str, str, str]
    count: int
    unknown: tuple[str, str, str, str] | None
    malformed: tuple[str, str, str, str]


def npz(**members: dict) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **{k: np.array(v, dtype=object) for k, v in members.items()})


def plain_npz(**members: str) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **{k: np.array(v) for k, v in members.items()})


def refs(entries: list[dict]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(pickle.dumps(entries, protocol=2))


MERGED = "response_AudioReasoner,response_Qwen2Audio,response_Qwen25vl_72B"


def merged(columns: str, *rows: str) -> str:
    lines = [f"video_id,{columns},{MERGED}", *(f"{row},a loud voice,,she smiles" for row in rows)]
    return "\n".join(lines) + "\n"


REF = {"ref_id": 7, "ann_id": 3, "image_id": 581857, "category_id": 1, "split": "train", "sent_ids": [0, 1],
       "file_name": "COCO_train2014_000000581857_16.jpg",
       "sentences": [{"raw": "THE LADY", "sent": "the lady", "sent_id": 0, "tokens": ["the", "lady"]},
                     {"raw": "woman in blue", "sent": "woman in blue", "sent_id": 1, "tokens": ["woman"]}]}  # fmt: skip
INSTANCES = json.dumps(
    {
        "images": [
            {
                "id": 581857,
                "width": 640,
                "height": 480,
                "file_name": "COCO_train2014_000000581857.jpg",
            }
        ],
        "annotations": [
            {"id": 3, "image_id": 581857, "category_id": 1, "bbox": [64.0, 48.0, 320.0, 240.0]}
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
)
PICTURE = "train2014/COCO_train2014_000000581857.jpg"
BOLD_ROW = (
    ["003/abc.mp4/0007.mp4", "2", "0", "90"]
    + ["0.0"] * 26
    + ["5.1", "4.0", "6.0", "Male", "Adult", "White", "0.9"]
)
BOLD_ROW[4 + 6] = "0.8"  # Happiness
BOLD_ROW[4 + 3] = "0.6"  # Anticipation
MERR_FINE = {"AU_list": ["AU05", "AU26"], "visual_prior_list": ["Eyes widened"], "audio_prior_list": "excited voice.",
             "peak_index": "0", "peak_AU_list": ["AU05", "AU26"], "pseu_emotion": "surprise", "text": "Oh my.",
             "smp_reason_caption": "She is surprised."}  # fmt: skip
MERR_COARSE = {k: v for k, v in MERR_FINE.items() if k not in ("text", "smp_reason_caption")} | {
    "caption": "Eyes widened."
}
LABELS = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode\n"
VQA = [{"question_id": 5, "question": "What sport?", "answer": ["race", "race", "ride"], "dataset": "vqa",
        "image": "val2014/COCO_val2014_000000297147.jpg"}]  # fmt: skip
AOK = [{"question_id": "22jb", "question": "What is it?", "direct_answers": ["cigarette"] * 9 + ["smoke"], "choices": ["a"],
        "image": "train2014/COCO_train2014_000000461751.jpg", "split": "train", "image_id": 461751}]  # fmt: skip


def refer(name: str, folder: str, pickle_name: str) -> Fixture:
    return Fixture(
        name,
        {
            f"{folder}/{pickle_name}": refs([REF, {**REF, "ref_id": 8, "split": "testA"}]),
            f"{folder}/instances.json": INSTANCES,
        },
        f"{folder}/{PICTURE}",
        ("7", "train", ""),
        1,
        None,
        (
            f"{folder}/instances.json",
            '"id": 3',
            '"id": 4',
            "annotation 3 of image 581857 is not in instances.json",
        ),
    )


FIXTURES = (
    Fixture(
        "mer2023",
        {"MER2024/MER2024_merged.csv": merged("MER2023_mode,english,emotion_label", "sample_01,train,hello,angry", "sample_02,test1,hi,sad")},
        "MER2024/video/sample_01.mp4", ("sample_01", "train", "angry"), 1,
        ("MER2024/MER2024_merged.csv", "hello,angry", "hello,furious", "emotion_label"),
        ("MER2024/MER2024_merged.csv", "sample_01,train", "sample_01,x,train", "row 2: 8 cells under 7 columns"),
    ),
    Fixture(
        "mer2024",
        {"MER2024/label-disdim.csv": "name,discrete,valence\nsamplenew3_1,happy,1.5\nsamplenew3_2,worried,-2\n"},
        "MER2024/video-labeled/samplenew3_1.mp4", ("samplenew3_1", "train", "happy"), 2,
        ("MER2024/label-disdim.csv", "happy", "joyous", "discrete"),
        ("MER2024/label-disdim.csv", "1.5", "high", "row 2, column 'valence': 'high' is not a number"),
    ),
    Fixture(
        "meld",
        {"MELD/train/train_sent_emo.csv": 'Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n1,"Hi, you",Ross,sadness,negative,0,3,8,21,"00:16:16,059","0:16:21,731"\n'},
        "MELD/train/train_splits/dia0_utt3.mp4", ("train_dia0_utt3", "train", "sad"), 1,
        ("MELD/train/train_sent_emo.csv", "sadness", "gloom", "Emotion"),
        ("MELD/train/train_sent_emo.csv", "00:16:16,059", "sixteen", "row 2, column 'StartTime': 'sixteen' is not a time"),
    ),
    Fixture(
        "iemocap",
        {
            "IEMOCAP_full_release/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n[6.2901 - 8.2357]\tSes01F_impro01_M000\texc\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()\n[8.2357 - 9.0]\tSes01F_impro01_F001\txxx\t[2.5000, 2.5000, 2.5000]\n",
            "IEMOCAP_full_release/Session1/dialog/transcriptions/Ses01F_impro01.txt": "Ses01F_impro01_M000 [006.2901-008.2357]: Excuse me.\n",
        },
        "IEMOCAP_full_release/Session1/dialog/avi/DivX/Ses01F_impro01.avi", ("Ses01F_impro01_M000", "train", "Excited"), 1,
        ("IEMOCAP_full_release/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", "\texc\t", "\tbored\t", "emotion"),
        ("IEMOCAP_full_release/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", "[6.2901 - 8.2357]", "[6.2901]", "row 3: is not a turn"),
    ),
    Fixture(
        "caer",
        {"CAER/CAER_merged.csv": merged("mode,text_whisper,emotion_label", "train_Anger_0002,train,no!,anger")},
        "CAER/train/Anger/0002.avi", ("train_Anger_0002", "train", "anger"), 1,
        ("CAER/CAER_merged.csv", "no!,anger", "no!,rage", "emotion_label"),
        ("CAER/CAER_merged.csv", "mode,", "part,", "no column 'mode'"),
    ),
    Fixture(
        "e3",
        {"E3/E3_merged.csv": merged("mode,conversation,emotion,person", "v1_3,train,look!,anger,A woman")},
        "E3/video/v1_3.mp4", ("v1_3", "train", "angry"), 1,
        ("E3/E3_merged.csv", ",anger,", ",cross,", "emotion"),
        ("E3/E3_merged.csv", "v1_3,train", ",train", "row 2, column 'video_id': is empty"),
    ),
    Fixture(
        "dfew",
        {"DFEW/EmoLabel_DataSplit/train(single-labeled)/set_1.csv": "video_name,label\n22,4\n02536,7\n"},
        "DFEW/Clip/original/00022.mp4", ("00022", "train", "anger"), 2,
        ("DFEW/EmoLabel_DataSplit/train(single-labeled)/set_1.csv", "22,4", "22,0", "label"),
        ("DFEW/EmoLabel_DataSplit/train(single-labeled)/set_1.csv", "22,4", "x22,4", "row 2, column 'video_name': 'x22' is not a whole number"),
    ),
    Fixture(
        "mafw",
        {
            "MAFW/Train & Test Set/single/no_caption/set_1/train.txt": "00151.mp4 anger\n00019.mp4 fear\n",
            "MAFW/Train & Test Set/compound/no_caption/set_1/train.txt": "00151.mp4 anger_disgust_anxiety\n",
        },
        "MAFW/data/clips/00151.mp4", ("00151", "train", "anger"), 2,
        ("MAFW/Train & Test Set/single/no_caption/set_1/train.txt", "anger", "hatred", "label"),
        ("MAFW/Train & Test Set/single/no_caption/set_1/train.txt", "00151.mp4 anger", "00151.mp4", "row 1: 1 words, needs 2: clip, label"),
    ),
    Fixture(
        "mc_eiu",
        {"MC-EIU/MC-EIU_merged.csv": merged("mode,Subtitle,emotion,intent", "dia_1_utt_2_en,train,Really?,surprise,questioning")},
        "MC-EIU/video/dia_1_utt_2_en.mkv", ("dia_1_utt_2_en", "train", "surprise"), 1,
        ("MC-EIU/MC-EIU_merged.csv", "questioning", "shouting", "intent"),
        ("MC-EIU/MC-EIU_merged.csv", "Subtitle,", "Sub,", "no column 'Subtitle'"),
    ),
    Fixture(
        "cmu_mosi",
        {"MOSI/label.csv": LABELS + "_dI--eQ6qVU,1,SO SAD,-1.8,,,,Negative,train\n81406,2,GOOD,2.0,,,,Positive,valid\n"},
        "MOSI/Raw/_dI--eQ6qVU/1.mp4", ("_dI--eQ6qVU_1", "train", "Negative"), 2,
        ("MOSI/label.csv", "Negative,train", "Awful,train", "annotation"),
        ("MOSI/label.csv", "-1.8", "-8", "row 2, column 'label': -8 is not between -3 and 3"),
    ),
    Fixture(
        "cmu_mosei",
        {"CMU-MOSEI/CMU-MOSEI_label.csv": "video_id,clip_id,mode,text,sentiment_label\n0y022OlZ3W0,4,test,so,Negative\n"},
        "CMU-MOSEI/video/0y022OlZ3W0_4.mp4", ("0y022OlZ3W0_4", "test", "Negative"), 1,
        ("CMU-MOSEI/CMU-MOSEI_label.csv", "so,Negative", "so,Bad", "sentiment_label"),
        ("CMU-MOSEI/CMU-MOSEI_label.csv", "clip_id,", "clip,", "row 2, column 'clip_id': there is no such column"),
    ),
    Fixture(
        "ch_sims_v2_s",
        {"ch-simsv2s/meta.csv": LABELS + "aqgy3_0001,00000,你好,0.6,0.6,0.4,0.8,Positive,train\naqgy3_0001,00001,unlabelled,,,,,,train\n"},
        "ch-simsv2s/Raw/aqgy3_0001/00000.mp4", ("aqgy3_0001_00000", "train", "Positive"), 1,
        ("ch-simsv2s/meta.csv", "Positive,train", "Nice,train", "annotation"),
        ("ch-simsv2s/meta.csv", "Positive,train", "Positive,learn", "row 2, column 'mode': 'learn' is none of"),
    ),
    Fixture(
        "sims",
        {"SIMS/label.csv": "\ufeff" + LABELS + "video_0001,0001,我不想,-0.6,-0.6,-0.4,0.0,Negative,test\n"},
        "SIMS/Raw/video_0001/0001.mp4", ("video_0001_0001", "test", "Negative"), 1,
        ("SIMS/label.csv", "Negative,test", "Bad,test", "annotation"),
        ("SIMS/label.csv", "-0.6,-0.6,-0.4", "-0.6,-0.6", "row 2: 8 cells under 9 columns"),
    ),
    Fixture(
        "bold",
        {"BOLD_public/annotations/train.csv": ",".join(BOLD_ROW) + "\n"},
        "BOLD_public/videos/003/abc.mp4/0007.mp4", ("abc_0007_2", "train", "Anticipation, Happiness"), 1,
        ("BOLD_public/annotations/train.csv", "0.8", "1.8", "Happiness"),
        ("BOLD_public/annotations/train.csv", "003/abc.mp4/", "abc.mp4/", "row 1, column 'video': 'abc.mp4/0007.mp4' is not of the form"),
    ),
    Fixture(
        "merr_coarse",
        {"MERR/MERR_coarse_grained.json": json.dumps({"sample_1": MERR_COARSE}, indent=1)},
        "MERR/video/sample_1.avi", ("sample_1", "train", "surprise"), 1,
        ("MERR/MERR_coarse_grained.json", '"surprise"', '"shock"', "pseu_emotion"),
        ("MERR/MERR_coarse_grained.json", '"caption"', '"title"', "row 1, column 'caption': is missing in sample_1"),
    ),
    Fixture(
        "merr_fine",
        {"MERR/MERR_fine_grained.json": json.dumps({"sample_1": MERR_FINE}, indent=1)},
        "MERR/video/sample_1.avi", ("sample_1", "train", "surprise"), 1,
        ("MERR/MERR_fine_grained.json", '"surprise"', '"shock"', "pseu_emotion"),
        ("MERR/MERR_fine_grained.json", '"0"', '"first"', "row 1, column 'peak_index': 'first' is not a frame number"),
    ),
    Fixture(
        "mer2024_ov",
        {"MER2024-OV/check-openset.csv": "name,openset\nsample_7,\"['excited', 'joyful']\"\nsample_8,[]\n"},
        "MER2024-OV/video/sample_7.mp4", ("sample_7", "test", "excited, joyful"), 2, None,
        ("MER2024-OV/check-openset.csv", "['excited', 'joyful']", "excited; joyful", "row 2, column 'openset': 'excited; joyful' is not a list of words"),
    ),
    Fixture(
        "emer_v1",
        {"EMER/gt-eng.csv": "names,emotions,subtitles,reasons\nsample_6,angry,Stop!,\"He roars, so he is angry.\"\n"},
        "EMER/video/sample_6.mp4", ("sample_6", "test", "angry"), 1,
        ("EMER/gt-eng.csv", "angry,Stop", "livid,Stop", "emotions"),
        ("EMER/gt-eng.csv", "\"He roars, so he is angry.\"", "", "row 2, column 'reasons': is empty"),
    ),
    Fixture(
        "emer_v2",
        {"EMER/final-EMER-reason.csv": "name,chinese,english\nsample_0,他笑,He laughs.\n"},
        "EMER/video/sample_0.mp4", ("sample_0", "test", ""), 1, None,
        ("EMER/final-EMER-reason.csv", "english", "text", "no column 'english'"),
    ),
    Fixture(
        "ov_merd",
        {"OV-MERD/track2_train_ovmerd.csv": "name,openset\nsample_0,['sad']\n", "OV-MERD/track3_train_ovmerd.csv": "name,reason\nsample_0,He cries.\n"},
        "OV-MERD/video/sample_0.mp4", ("sample_0", "train", "sad"), 1, None,
        ("OV-MERD/track2_train_ovmerd.csv", "['sad']", "['sad'", "row 2, column 'openset'"),
    ),
    Fixture(
        "ov_merd+",
        {"ovmerdplus-process/ovlabel.csv": "name,openset\nsample_0,['sad']\n", "ovmerdplus-process/subtitle_eng.csv": "name,sentence\nsample_0,Oh no.\n"},
        "ovmerdplus-process/video/sample_0.mp4", ("sample_0", "test", "sad"), 1, None,
        ("ovmerdplus-process/ovlabel.csv", "sample_0", "", "row 2, column 'name': is empty"),
    ),
    Fixture(
        "crema_d",
        {"CREMA-D/SentenceFilenames.csv": '"Stimulus_Number","Filename"\n1,"1001_IEO_HAP_LO"\n'},
        "CREMA-D/VideoFlash/1001_IEO_HAP_LO.flv", ("1001_IEO_HAP_LO", "unsplit", "happy"), 1,
        ("CREMA-D/SentenceFilenames.csv", "HAP", "JOY", "Filename"),
        ("CREMA-D/SentenceFilenames.csv", '"Filename"', '"File"', "no column 'Filename'"),
    ),
    Fixture(
        "ravdess",
        {"RAVDESS/audio_visual/split01/train.csv": "/x/Actor_01/02-01-03-01-01-01-01 /y/03-01-03-01-01-01-01.wav 2\n"},
        "RAVDESS/Actor_01/02-01-03-01-01-01-01.mp4", ("02-01-03-01-01-01-01", "train", "happy"), 1,
        ("RAVDESS/audio_visual/split01/train.csv", ".wav 2", ".wav 9", "label"),
        ("RAVDESS/audio_visual/split01/train.csv", ".wav 2", ".wav 3", "row 1, column 'label': is 3, the clip's name says 2"),
    ),
    Fixture(
        "ferv39k",
        {"FERV39K/FERV39K_test.txt": "/d/2_ClipsforFaceCrop/Action/Happy/0015 25 0\n"},
        "FERV39K/video/Action_Happy_0015.mp4", ("Action_Happy_0015", "test", "happy"), 1,
        ("FERV39K/FERV39K_test.txt", "25 0", "25 8", "label"),
        ("FERV39K/FERV39K_test.txt", "25 0", "25 1", "row 1, column 'label': is 1 (sad), the path says Happy"),
    ),
    Fixture(
        "java_sed",
        {"java_sed/manifest.csv": "file,actor,sex_by_appearance,sentence_id,repetition,emotion,split,fold\nvideo/01-01-01_01.mp4,1,f,1,1,neutral,train,0\n"},
        "java_sed/video/01-01-01_01.mp4", ("video/01-01-01_01", "train", "neutral"), 1,
        ("java_sed/manifest.csv", "neutral", "calm", "emotion"),
        ("java_sed/manifest.csv", ",train,", ",learn,", "row 2, column 'split': 'learn' is none of"),
    ),
    Fixture(
        "coco_caption",
        {"COCO/coco_karpathy_train.json": json.dumps([{"caption": "A woman eats.", "image": PICTURE, "image_id": "coco_581857"}, {"caption": "A man.", "image": "val2014/COCO_val2014_000000000001.jpg", "image_id": "coco_1"}])},
        f"COCO/{PICTURE}", ("COCO_train2014_000000581857#1", "train", ""), 1, None,
        ("COCO/coco_karpathy_train.json", '"caption": "A woman eats."', '"title": "A woman eats."', "row 1, column 'caption': is missing"),
    ),
    refer("refcoco", "refcoco", "refs(unc).p"),
    refer("refcocop", "refcoco+", "refs(unc).p"),
    refer("refcocog", "refcocog", "refs(umd).p"),
    Fixture(
        "coco_vqa", {"vqav2/vqa_train.json": json.dumps(VQA)},
        "vqav2/val2014/COCO_val2014_000000297147.jpg", ("5", "train", ""), 1, None,
        ("vqav2/vqa_train.json", '["race", "race", "ride"]', "[]", "row 1, column 'answer': is '[]', needs one or more answers"),
    ),
    Fixture(
        "ok_vqa", {"okvqa/okvqa_train.json": json.dumps(VQA)},
        "okvqa/val2014/COCO_val2014_000000297147.jpg", ("5", "train", ""), 1, None,
        ("okvqa/okvqa_train.json", '"What sport?"', '""', "row 1, column 'question': is empty"),
    ),
    Fixture(
        "aok_vqa", {"aokvqa/aokvqa_v1p0_train.json": json.dumps(AOK)},
        "aokvqa/train2014/COCO_train2014_000000461751.jpg", ("22jb", "train", ""), 1, None,
        ("aokvqa/aokvqa_v1p0_train.json", "direct_answers", "answers", "row 1, column 'direct_answers': is missing"),
    ),
    Fixture(
        "gqa", {"gqa/train_balanced_questions.json": json.dumps({"0712": {"imageId": "n161", "question": "Is it red?", "answer": "yes", "fullAnswer": "Yes, it is."}})},
        "gqa/images/n161.jpg", ("0712", "train", ""), 1, None,
        ("gqa/train_balanced_questions.json", '"answer": "yes"', '"answer": 3', "row 1, column 'answer'"),
    ),
)  # fmt: skip


def write_fixture(
    fixture: Fixture, root: Path, clip: bytes | None, change: tuple[str, str, str] | None = None
) -> Path:
    """Writes a fixture; `clip`: bytes of its media file, None leaves it out; `change`: (file, old, new)."""
    for name, content in fixture.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
            continue
        if change and change[0] == name:
            assert change[1] in content, (fixture.name, change)
            content = content.replace(change[1], change[2], 1)
        path.write_text(content, encoding="utf-8")
    if clip is not None:
        path = root / fixture.clip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip)
    return root
