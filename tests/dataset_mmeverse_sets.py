"""Small folders of the data sets that MMEVerse trains on, and of CH-SIMS and MER2024."""

from __future__ import annotations

from dataset_layouts import Fixture, merged, one_file

BOLD_ROW = (
    ["003/abc.mp4/0007.mp4", "2", "0", "90"]
    + ["0.0"] * 26
    + ["5.1", "4.0", "6.0", "Male", "Adult", "White", "0.9"]
)
BOLD_ROW[4 + 6] = "0.8"  # Happiness
BOLD_ROW[4 + 3] = "0.6"  # Anticipation
LABELS = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode\n"


MMEVERSE_SETS = (
    one_file(
        "mer2023",
        "MER2024/MER2024_merged.csv",
        merged(
            "MER2023_mode,english,emotion_label",
            "sample_01,train,hello,angry",
            "sample_02,test1,hi,sad",
        ),
        clip="MER2024/video/sample_01.mp4",
        first=("sample_01", "train", "angry"),
        unknown=("hello,angry", "hello,furious", "emotion_label"),
        malformed=("sample_01,train", "sample_01,x,train", "row 2: 8 cells under 7 columns"),
    ),
    one_file(
        "mer2024",
        "MER2024/label-disdim.csv",
        "name,discrete,valence\nsamplenew3_1,happy,1.5\nsamplenew3_2,worried,-2\n",
        clip="MER2024/video-labeled/samplenew3_1.mp4",
        first=("samplenew3_1", "train", "happy"),
        count=2,
        unknown=("happy", "joyous", "discrete"),
        malformed=("1.5", "high", "row 2, column 'valence': 'high' is not a number"),
    ),
    one_file(
        "meld",
        "MELD/train/train_sent_emo.csv",
        (
            "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,"
            "Utterance_ID,Season,Episode,StartTime,EndTime\n"
            '1,"Hi, you",Ross,sadness,negative,0,3,8,21,"00:16:16,059",'
            '"0:16:21,731"\n'
        ),
        clip="MELD/train/train_splits/dia0_utt3.mp4",
        first=("train_dia0_utt3", "train", "sad"),
        unknown=("sadness", "gloom", "Emotion"),
        malformed=("00:16:16,059", "sixteen", "row 2, column 'StartTime': 'sixteen' is not a time"),
    ),
    Fixture(
        name="iemocap",
        files={
            "IEMOCAP_full_release/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": (
                "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"
                "\n"
                "[6.2901 - 8.2357]\tSes01F_impro01_M000\texc\t[2.5000, 2.5000, "
                "2.5000]\n"
                "C-E2:\tNeutral;\t()\n"
                "[8.2357 - 9.0]\tSes01F_impro01_F001\txxx\t[2.5000, 2.5000, 2.5000]\n"
            ),
            "IEMOCAP_full_release/Session1/dialog/transcriptions/Ses01F_impro01.txt": (
                "Ses01F_impro01_M000 [006.2901-008.2357]: Excuse me.\n"
            ),
        },
        clip="IEMOCAP_full_release/Session1/dialog/avi/DivX/Ses01F_impro01.avi",
        first=("Ses01F_impro01_M000", "train", "Excited"),
        unknown=("\texc\t", "\tbored\t", "emotion"),
        malformed=("[6.2901 - 8.2357]", "[6.2901]", "row 3: is not a turn"),
    ),
    one_file(
        "caer",
        "CAER/CAER_merged.csv",
        merged("mode,text_whisper,emotion_label", "train_Anger_0002,train,no!,anger"),
        clip="CAER/train/Anger/0002.avi",
        first=("train_Anger_0002", "train", "anger"),
        unknown=("no!,anger", "no!,rage", "emotion_label"),
        malformed=("mode,", "part,", "no column 'mode'"),
    ),
    one_file(
        "e3",
        "E3/E3_merged.csv",
        merged("mode,conversation,emotion,person", "v1_3,train,look!,anger,A woman"),
        clip="E3/video/v1_3.mp4",
        first=("v1_3", "train", "angry"),
        unknown=(",anger,", ",cross,", "emotion"),
        malformed=("v1_3,train", ",train", "row 2, column 'video_id': is empty"),
    ),
    one_file(
        "dfew",
        "DFEW/EmoLabel_DataSplit/train(single-labeled)/set_1.csv",
        "video_name,label\n22,4\n02536,7\n",
        clip="DFEW/Clip/original/00022.mp4",
        first=("00022", "train", "anger"),
        count=2,
        unknown=("22,4", "22,0", "label"),
        malformed=("22,4", "x22,4", "row 2, column 'video_name': 'x22' is not a whole number"),
    ),
    Fixture(
        name="mafw",
        files={
            "MAFW/Train & Test Set/single/no_caption/set_1/train.txt": (
                "00151.mp4 anger\n00019.mp4 fear\n"
            ),
            "MAFW/Train & Test Set/compound/no_caption/set_1/train.txt": (
                "00151.mp4 anger_disgust_anxiety\n"
            ),
        },
        clip="MAFW/data/clips/00151.mp4",
        first=("00151", "train", "anger"),
        count=2,
        unknown=("anger", "hatred", "label"),
        malformed=("00151.mp4 anger", "00151.mp4", "row 1: 1 words, needs 2: clip, label"),
    ),
    one_file(
        "mc_eiu",
        "MC-EIU/MC-EIU_merged.csv",
        merged("mode,Subtitle,emotion,intent", "dia_1_utt_2_en,train,Really?,surprise,questioning"),
        clip="MC-EIU/video/dia_1_utt_2_en.mkv",
        first=("dia_1_utt_2_en", "train", "surprise"),
        unknown=("questioning", "shouting", "intent"),
        malformed=("Subtitle,", "Sub,", "no column 'Subtitle'"),
    ),
    one_file(
        "cmu_mosi",
        "MOSI/label.csv",
        LABELS
        + ("_dI--eQ6qVU,1,SO SAD,-1.8,,,,Negative,train\n81406,2,GOOD,2.0,,,,Positive,valid\n"),
        clip="MOSI/Raw/_dI--eQ6qVU/1.mp4",
        first=("_dI--eQ6qVU_1", "train", "Negative"),
        count=2,
        unknown=("Negative,train", "Awful,train", "annotation"),
        malformed=("-1.8", "-8", "row 2, column 'label': -8 is not between -3 and 3"),
    ),
    one_file(
        "cmu_mosei",
        "CMU-MOSEI/CMU-MOSEI_label.csv",
        "video_id,clip_id,mode,text,sentiment_label\n0y022OlZ3W0,4,test,so,Negative\n",
        clip="CMU-MOSEI/video/0y022OlZ3W0_4.mp4",
        first=("0y022OlZ3W0_4", "test", "Negative"),
        unknown=("so,Negative", "so,Bad", "sentiment_label"),
        malformed=("clip_id,", "clip,", "row 2, column 'clip_id': there is no such column"),
    ),
    one_file(
        "ch_sims_v2_s",
        "ch-simsv2s/meta.csv",
        LABELS
        + (
            "aqgy3_0001,00000,你好,0.6,0.6,0.4,0.8,Positive,train\n"
            "aqgy3_0001,00001,unlabelled,,,,,,train\n"
        ),
        clip="ch-simsv2s/Raw/aqgy3_0001/00000.mp4",
        first=("aqgy3_0001_00000", "train", "Positive"),
        unknown=("Positive,train", "Nice,train", "annotation"),
        malformed=("Positive,train", "Positive,learn", "row 2, column 'mode': 'learn' is none of"),
    ),
    one_file(
        "sims",
        "SIMS/label.csv",
        "\ufeff" + LABELS + "video_0001,0001,我不想,-0.6,-0.6,-0.4,0.0,Negative,test\n",
        clip="SIMS/Raw/video_0001/0001.mp4",
        first=("video_0001_0001", "test", "Negative"),
        unknown=("Negative,test", "Bad,test", "annotation"),
        malformed=("-0.6,-0.6,-0.4", "-0.6,-0.6", "row 2: 8 cells under 9 columns"),
    ),
    one_file(
        "bold",
        "BOLD_public/annotations/train.csv",
        ",".join(BOLD_ROW) + "\n",
        clip="BOLD_public/videos/003/abc.mp4/0007.mp4",
        first=("abc_0007_2", "train", "Anticipation, Happiness"),
        unknown=("0.8", "1.8", "Happiness"),
        malformed=(
            "003/abc.mp4/",
            "abc.mp4/",
            "row 1, column 'video': 'abc.mp4/0007.mp4' is not of the form",
        ),
    ),
)
