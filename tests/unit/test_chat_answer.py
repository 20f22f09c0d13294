"""Chat answers are about what the clip has, as those of `predict` are."""

from types import SimpleNamespace

import numpy as np
import pytest

from emojax.infer.grounding import Grounds
from emojax.serve import chat

REASON = "the sound has a low pitch, the person says words of unease, so it is sad"
VOICE = Grounds(modalities=("audio",), signs=("speech",))


class Letters:
    """A tokenizer with a token for each character."""

    def decode(self, ids):
        return "".join(map(chr, ids))

    def encode(self, text):
        return list(map(ord, text))


@pytest.fixture
def write(monkeypatch):
    """Calls `write_answer` of a model that writes a given text; returns the answer and its starts.

    None is the text of a model that was trained on labels only.
    """

    def write(text, grounds):
        bundle = SimpleNamespace(
            tokenizer=Letters(), reason_task="reason", can_reason=text is not None
        )
        encoded = SimpleNamespace(records=[SimpleNamespace(labels=("sad", "happy"))])
        sample = SimpleNamespace(row=SimpleNamespace(ids=range(9)))

        def answer_questions(*args, on_ids, **kwargs):
            ids = Letters().encode(text)
            for n in range(len(ids) if on_ids else 0):
                on_ids(0, ids[: n + 1])
            return [ids]

        monkeypatch.setattr(chat, "make_samples", lambda *args, **kwargs: ([sample], None))
        monkeypatch.setattr(chat, "answer_questions", answer_questions)
        monkeypatch.setattr(
            chat, "label_probabilities", lambda *args, **kwargs: np.array([[0.7, 0.3]])
        )
        starts, sampler = [], SimpleNamespace(max_tokens=500)
        answer = chat.write_answer(
            bundle, encoded, "What is it?", sampler, grounds=grounds, on_text=starts.append
        )
        return answer, starts

    return write


def test_words_that_nobody_said_are_neither_sent_nor_streamed(write):
    answer, starts = write(REASON, VOICE)
    assert answer.text == "the sound has a low pitch, so it is sad"
    assert "described words" in answer.notes[0]
    assert all(answer.text.startswith(start) for start in starts) and any(starts)
    answer, _ = write(REASON, Grounds(modalities=("audio", "text"), signs=("speech", "words")))
    assert answer.text == REASON and answer.notes == ()


@pytest.mark.parametrize("text", [REASON, "happy", None])
def test_no_answer_where_nobody_is(write, text):
    answer, starts = write(text, Grounds(modalities=("video", "audio"), signs=()))
    assert answer.text == "cannot tell" and not any(starts)
    assert answer.finish_reason == "stop"


def test_an_answer_about_nothing_that_the_clip_has(write):
    answer, _ = write("the person says 'no'.", VOICE)
    assert answer.text == "cannot tell" and "described words" in answer.notes[0]
    answer, _ = write(None, VOICE)
    assert answer.text == "sad" and answer.notes == ()
