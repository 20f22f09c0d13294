"""Small folders of MERR, the open-vocabulary sets, CREMA-D, RAVDESS, FERV39k and Java-SED."""

from __future__ import annotations

import json

from dataset_layouts import Fixture, one_file

MERR_FINE = {
    "AU_list": ["AU05", "AU26"],
    "visual_prior_list": ["Eyes widened"],
    "audio_prior_list": "excited voice.",
    "peak_index": "0",
    "peak_AU_list": ["AU05", "AU26"],
    "pseu_emotion": "surprise",
    "text": "Oh my.",
    "smp_reason_caption": "She is surprised.",
}
MERR_COARSE = {k: v for k, v in MERR_FINE.items() if k not in ("text", "smp_reason_caption")} | {
    "caption": "Eyes widened."
}


def merr(grain: str, row: dict, fault: tuple[str, str, str]) -> Fixture:
    """MERR with one row; the fault's text names a column."""
    old, new, text = fault
    return one_file(
        f"merr_{grain}",
        f"MERR/MERR_{grain}_grained.json",
        json.dumps({"sample_1": row}, indent=1),
        clip="MERR/video/sample_1.avi",
        first=("sample_1", "train", "surprise"),
        unknown=('"surprise"', '"shock"', "pseu_emotion"),
        malformed=(old, new, f"row 1, column {text}"),
    )


FURTHER_SETS = (
    merr("coarse", MERR_COARSE, ('"caption"', '"title"', "'caption': is missing in sample_1")),
    merr("fine", MERR_FINE, ('"0"', '"first"', "'peak_index': 'first' is not a frame number")),
    one_file(
        "mer2024_ov",
        "MER2024-OV/check-openset.csv",
        "name,openset\nsample_7,\"['excited', 'joyful']\"\nsample_8,[]\n",
        clip="MER2024-OV/video/sample_7.mp4",
        first=("sample_7", "test", "excited, joyful"),
        count=2,
        malformed=(
            "['excited', 'joyful']",
            "excited; joyful",
            "row 2, column 'openset': 'excited; joyful' is not a list of words",
        ),
    ),
    one_file(
        "emer_v1",
        "EMER/gt-eng.csv",
        'names,emotions,subtitles,reasons\nsample_6,angry,Stop!,"He roars, so he is angry."\n',
        clip="EMER/video/sample_6.mp4",
        first=("sample_6", "test", "angry"),
        unknown=("angry,Stop", "livid,Stop", "emotions"),
        malformed=('"He roars, so he is angry."', "", "row 2, column 'reasons': is empty"),
    ),
    one_file(
        "emer_v2",
        "EMER/final-EMER-reason.csv",
        "name,chinese,english\nsample_0,他笑,He laughs.\n",
        clip="EMER/video/sample_0.mp4",
        first=("sample_0", "test", ""),
        malformed=("english", "text", "no column 'english'"),
    ),
    Fixture(
        name="ov_merd",
        files={
            "OV-MERD/track2_train_ovmerd.csv": "name,openset\nsample_0,['sad']\n",
            "OV-MERD/track3_train_ovmerd.csv": "name,reason\nsample_0,He cries.\n",
        },
        clip="OV-MERD/video/sample_0.mp4",
        first=("sample_0", "train", "sad"),
        malformed=("['sad']", "['sad'", "row 2, column 'openset'"),
    ),
    Fixture(
        name="ov_merd+",
        files={
            "ovmerdplus-process/ovlabel.csv": "name,openset\nsample_0,['sad']\n",
            "ovmerdplus-process/subtitle_eng.csv": "name,sentence\nsample_0,Oh no.\n",
        },
        clip="ovmerdplus-process/video/sample_0.mp4",
        first=("sample_0", "test", "sad"),
        malformed=("sample_0", "", "row 2, column 'name': is empty"),
    ),
    one_file(
        "crema_d",
        "CREMA-D/SentenceFilenames.csv",
        '"Stimulus_Number","Filename"\n1,"1001_IEO_HAP_LO"\n',
        clip="CREMA-D/VideoFlash/1001_IEO_HAP_LO.flv",
        first=("1001_IEO_HAP_LO", "unsplit", "happy"),
        unknown=("HAP", "JOY", "Filename"),
        malformed=('"Filename"', '"File"', "no column 'Filename'"),
    ),
    one_file(
        "ravdess",
        "RAVDESS/audio_visual/split01/train.csv",
        "/x/Actor_01/02-01-03-01-01-01-01 /y/03-01-03-01-01-01-01.wav 2\n",
        clip="RAVDESS/Actor_01/02-01-03-01-01-01-01.mp4",
        first=("02-01-03-01-01-01-01", "train", "happy"),
        unknown=(".wav 2", ".wav 9", "label"),
        malformed=(
            ".wav 2",
            ".wav 3",
            "row 1, column 'label': is 3, by the name of the clip it is 2",
        ),
    ),
    one_file(
        "ferv39k",
        "FERV39K/FERV39K_test.txt",
        "/d/2_ClipsforFaceCrop/Action/Happy/0015 25 0\n",
        clip="FERV39K/video/Action_Happy_0015.mp4",
        first=("Action_Happy_0015", "test", "happy"),
        unknown=("25 0", "25 8", "label"),
        malformed=("25 0", "25 1", "row 1, column 'label': is 1 (sad), by the path it is Happy"),
    ),
    one_file(
        "java_sed",
        "java_sed/manifest.csv",
        (
            "file,actor,sex_by_appearance,sentence_id,repetition,emotion,"
            "split,fold\n"
            "video/01-01-01_01.mp4,1,f,1,1,neutral,train,0\n"
        ),
        clip="java_sed/video/01-01-01_01.mp4",
        first=("video/01-01-01_01", "train", "neutral"),
        unknown=("neutral", "calm", "emotion"),
        malformed=(",train,", ",learn,", "row 2, column 'split': 'learn' is none of"),
    ),
)
