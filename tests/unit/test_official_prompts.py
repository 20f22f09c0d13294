"""Questions of released models, parsed from files in the form of the official repositories."""

import pytest

from data_pipeline.loader import prompts
from emojax.config import load_config, resolve
from emojax.weights.official_prompts import read_official

# The form of the official file; the wordings are made up here.
EVALUATION = """
import torch  # not installed where the file is read

class MEREvalDataset(Dataset):
    def __init__(self):
        self.audio_instruction_pool = ["What is heard?"]

class MER2023EvalDataset(MEREvalDataset):
    def __init__(self):
        super().__init__()
        self.emotion_instruction_pool = [
            "One of: angry, happy, neutral, sad, surprise, worried. Only these."
        ]
        self.task_pool = ["emotion"]

class MELDSentimentEvalDataset(MEREvalDataset):
    def __init__(self):
        self.sentiment_instruction_pool = ["Feeling: Neutral, Negative, Positive?"]

class MAFWMultiEvalDataset(MEREvalDataset):
    def __init__(self):
        self.emotion_multi_label_instruction_pool = ["Several?"]

class OVMERDEvalDataset(MEREvalDataset):
    def __init__(self):
        self.instruction_pool = ["Any?",]
        self.limit = os.environ["never run"]
"""
V1 = """
class FeatureFaceDataset:
    def __init__(self):
        self.emotion_instruction_pool = [
            "Determine the emotion label: happy, sad, neutral.",
            # "an older wording",
        ]
        self.reason_instruction_pool = ["Why?", "What shows it?"]
"""


def read(folder, text):
    path = folder / "official.py"
    path.write_text(text)
    return read_official(path)


def test_questions_of_v2(tmp_path):
    assert read(tmp_path, EVALUATION) == {
        "emotion": ["One of: {labels}. Only these."],
        "mer2023/emotion": ["One of: angry, happy, neutral, sad, surprise, worried. Only these."],
        "meld/sentiment": ["Feeling: Neutral, Negative, Positive?"],
        "mafw/multi-label": ["Several?"],
        "ov_merd+/multi-label": ["Any?"],
    }


def test_questions_of_v1(tmp_path):
    assert read(tmp_path, V1) == {
        "emotion": ["Determine the emotion label: {labels}."],
        "reason": ["Why?", "What shows it?"],
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [("class Other: pass", "has no questions"), ("<html>", "is not a Python file")],
)
def test_other_files_are_refused(tmp_path, text, fault):
    with pytest.raises(ValueError, match=fault):
        read(tmp_path, text)


def test_a_set_has_its_own_question(tmp_path):
    config = load_config("tiny:test")
    config.data.questions.update(read(tmp_path, EVALUATION))
    custom = resolve(config).data.questions
    asked = {
        name: prompts.question("emotion", ("a", "b"), custom=custom, dataset=name)
        for name in ("mer2023", "caer")
    }
    assert asked["caer"] == "One of: a, b. Only these."
    assert asked["mer2023"].startswith("One of: angry, happy, neutral")
    config.data.questions["mer2023/feeling"] = ("x",)
    with pytest.raises(ValueError, match="names tasks .'mer2023/feeling'."):
        resolve(config)
