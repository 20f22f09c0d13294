"""E3: emotions in first-person videos.

The columns of its own Excel files are not published, so it is read through MMEVerse's CSV files,
whose `person` column names the speaker.
"""

from __future__ import annotations

from data_pipeline.datasets.dataset import DataSet
from data_pipeline.datasets.mmeverse import Label, Table

# Nine of ten released prompts say `anger` instead of `angry`.
EMOTIONS = ("angry", "disgusted", "happy", "sad", "sarcastic", "scared", "shy", "surprised")

TABLE = Table(
    dataset="e3",
    folder="E3",
    text="conversation",
    labels={"emotion": Label("emotion", EMOTIONS)},
    reasons={"reason": "gpt-4o-mini_Emotion"},
    person="person",
)
SET = DataSet(
    name="e3",
    title="E3 (Exploring Embodied Emotion)",
    folders=("E3",),
    sources=TABLE.sources(),
    request="https://github.com/Exploring-Embodied-Emotion-official/E3 (open download)",
    terms="CC BY-NC-SA 4.0",
)
