"""All eighteen sets of MMEVerse-Bench with synthetic clips, in their own layout.

The layout is `<SET>_label.csv` and `<SET>/video/`.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.embedded.clues import EMOTION_AUS
from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig

# folder -> {column: text, with {i} for the number of the clip, or one text per clip}
SETS: dict[str, dict[str, str | Sequence[str]]] = {
    "MER2024": {
        "video_id": "sample_{i}",
        "MER2023_mode": ("test1", "test1", "test1", "test2", "other", "other", "other"),
        "MER2024_mode": ("", "", "", "", "test_semi", "test_semi", "test_semi"),
        "chinese": "words {i}",
        "emotion_label": ("angry", "neutral", "sad", "happy", "worried", "surprise", "neutral"),
    },
    "MELD": {
        "video_id": "dia{i}_utt0",
        "mode": ("test", "test", "dev", "test"),
        "text": "words {i}",
        "Emotion": ("joy", "neutral", "fear", "anger"),
        "Sentiment": ("Positive", "Neutral", "Negative", "Negative"),
    },
    "IEMOCAP": {
        "video_id": (
            "Ses05F_impro01_F000",
            "Ses05F_impro01_M001",
            "Ses05M_impro02_F000",
            "Ses05M_impro02_M003",
        ),
        "session": "Session5",
        "text": "words {i}",
        "official_label": ("anger", "excited", "neutral", "sadness"),
    },
    "OV-MERD+": {"video_id": "sample_{i}", "sentence": "words {i}"},
    "CMU-MOSI": {
        "video_id": ("aaa_1", "aaa_2", "bbb_1"),
        "mode": "test",
        "text": "words {i}",
        "sentiment_label": ("Positive", "Neutral", "Negative"),
    },
    "CMU-MOSEI": {
        "video_id": ("ccc", "ccc", "ddd"),
        "clip_id": ("1", "2", "1"),
        "mode": ("test", "test", "valid"),
        "text": "words {i}",
        "sentiment_label": ("Positive", "Negative", "Negative"),
    },
    "CH-SIMS_v2_s": {
        "video_id": ("v_1", "v_2", "w_1"),
        "mode": "test",
        "text": "words {i}",
        "annotation": ("Positive", "Neutral", "Negative"),
    },
    "SIMS": {
        "video_id": ("x_1", "x_2"),
        "english": "words {i}",
        "val_label": ("Positive", "Negative"),
    },
    "CAER": {
        "video_id": "test_Anger_000{i}",
        "mode": "test",
        "text_whisper": "words {i}",
        "emotion_label": ("anger", "fear", "neutral"),
    },
    "DFEW": {
        "video_id": "0000{i}",
        "mode": "test",
        "sentence": "words {i}",
        "label": ("happy", "sad", "disgust"),
    },
    "E3": {
        "video_id": "e{i}",
        "mode": "test",
        "conversation": "words {i}",
        "person": "person_{i}",
        "emotion": ("shy", "sarcastic", "happy"),
    },
    "MAFW": {
        "video_id": "0000{i}",
        "mode": "test",
        "text_whisper": "words {i}",
        "single_label": ("anger", "contempt", "helplessness"),
        "multi_label": ("anger,contempt", "", "helplessness,sadness"),
    },
    "MC-EIU": {
        "video_id": "m{i}",
        "mode": ("test", "test", "validation"),
        "Subtitle": "words {i}",
        "emotion": ("happy", "anger", "fear"),
        "intent": ("agreeing", "wishing", "neutral"),
    },
    "BOLD": {
        "video_id": "b{i}",
        "mode": "val",
        "text_whisper": "words {i}",
        "Emotion_label": ("Happiness;Pleasure", "Anger;Annoyance", "Doubt/Confusion"),
    },
}
OPEN_WORDS = (
    "['happy', 'amused']",
    "['worried']",
    "['neutral']",
    "['angry', 'complaining', 'sad']",
)
COUNT = {"OV-MERD+": len(OPEN_WORDS)}


def drawn_clips() -> list[Path]:
    """A few clips of the embedded corpus."""
    corpus = make_corpus(config=CorpusConfig(train=len(EMOTION_AUS), val=0, test=12))
    return [Path(r.path) for r in load_corpus(corpus) if r.split == "test"]


def write_suite(root: Path) -> Path:
    """Writes all sets and returns the root."""
    clips = drawn_clips()
    number = 0
    for folder, columns in SETS.items():
        count = COUNT.get(folder) or max(len(v) for v in columns.values() if not isinstance(v, str))
        rows = []
        for i in range(count):
            row = {k: (v.format(i=i) if isinstance(v, str) else v[i]) for k, v in columns.items()}
            rows.append(row)
            name = f"{row['video_id']}_{row['clip_id']}" if "clip_id" in row else row["video_id"]
            place = root / folder / "video" / f"{name}.mp4"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clips[number % len(clips)], place)
            number += 1
        with (root / folder / f"{folder}_label.csv").open(
            "w", encoding="utf-8", newline=""
        ) as file:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows(rows)
    with (root / "OV-MERD+" / "check-result-openset-chi-translate.csv").open(
        "w", encoding="utf-8", newline=""
    ) as file:
        writer = csv.writer(file)
        writer.writerow(["name", "openset"])
        writer.writerows([f"sample_{i}", words] for i, words in enumerate(OPEN_WORDS))
    return root
