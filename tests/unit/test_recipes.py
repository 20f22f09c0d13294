"""Recipes, and the agents' prompts and replies."""

import base64
import dataclasses
import io
import wave

import numpy as np
import pytest
from PIL import Image

from data_pipeline.annotate.agents import ClipContext, agent
from data_pipeline.annotate.peaks import LABEL_UNITS, Peak
from data_pipeline.annotate.recipe import builtin_recipes, load_recipe, recipe_text
from data_pipeline.llm.client import UnusableReply
from data_pipeline.llm.messages import audio_part, image_part

PEAK = Peak(
    index=12,
    time=0.48,
    by=LABEL_UNITS,
    units=(4, 7),
    all_units=(4, 7, 25),
    intensities={4: 3.0, 7: 1.2, 25: 0.6},
)
KNOWN = ClipContext(
    label="angry",
    labels=("angry", "sad"),
    words="how dare you",
    peak=PEAK,
    scale=5.0,
    frames=[np.zeros((8, 8, 3), np.uint8)] * 3,
    sound=np.zeros(16000),
)


def test_builtin_recipes_are_those_of_the_papers():
    assert builtin_recipes() == ("merr_coarse", "merr_fine", "mmeverse")
    coarse_one, fine, mmeverse = map(load_recipe, builtin_recipes())
    assert (
        coarse_one.template and "reasoning" not in coarse_one.agents and not coarse_one.label_guided
    )
    assert fine.label_guided and [k for k, _ in fine.filters] == [
        "votes", "contradiction", "duplicates", "length", "balance", "neutral",
    ]  # fmt: skip
    assert (
        mmeverse.agents == ("visual", "audio", "audio_2", "reasoning")
        and mmeverse.audio_for_reason == "draw"
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('table = "merr"', "needs a name"),
        ('name = "x"\ntable = "facs"', "table is 'facs'"),
        ('name = "x"\nagents = ["smell"]', "agents is 'smell'"),
        ('name = "x"\ncolour = 3', "there is no setting 'colour'"),
        ('name = "x"\nframes = "many"', "frames is 'many', needs int"),
        ('name = "x"\nlabel = "model"', "label = 'model' needs"),
        ('name = "x"\n[[filter]]\nkind = "contradiction"\nmost = "x"', "needs a number"),
        ('name = "x"\n[[filter]]\nkind = "neutral"\nshare = 1', "below 1"),
        ('name = "x"\n[[filter]]\nkind = "votes"\nunmeasured = "foo"', "unmeasured is 'foo'"),
        ('name = "x"\nfilter = 3', "needs a kind"),
        ('name = "x"\nagents = []', "at least one"),
        ('name = "x"\nagents = ["reasoning", "visual"]', "comes last"),
        ('name = "x"\n[[filter]]\nleast = 3', "needs a kind"),
        ('name = "x"\n[[filter]]\nkind = "length"\nmax = 3', "has no setting max"),
        ("name = ", "not valid TOML"),
    ],
)
def test_faults_of_a_recipe_are_named(tmp_path, text, fault):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=fault):
        load_recipe(str(path))


def test_a_changed_recipe_has_another_digest(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(recipe_text("mmeverse").replace("frames = 4", "frames = 2"))
    assert (
        load_recipe(str(path)).frames == 2
        and load_recipe(str(path)).digest() != load_recipe("mmeverse").digest()
    )
    with pytest.raises(ValueError, match="there are merr_coarse, merr_fine, mmeverse"):
        load_recipe("nothing")


def test_prompts_of_agents():
    recipe = load_recipe("mmeverse")
    content = agent("visual").make(recipe, KNOWN)[0]["content"]
    assert [p["type"] for p in content] == ["text"] + ["image_url"] * 3
    assert "shows: angry." in content[0]["text"] and "strong brow lowerer" in content[0]["text"]
    blind = dataclasses.replace(KNOWN, label="", words="")
    assert "angry" not in agent("visual").make(recipe, blind)[0]["content"][0]["text"]
    sound = agent("audio").make(recipe, KNOWN)[0]["content"]
    assert (
        sound[1]["type"] == "input_audio"
        and "dismissive" in sound[0]["text"]
        and "how dare you" in sound[0]["text"]
    )
    with_notes = dataclasses.replace(
        KNOWN,
        notes={
            "visual": {"description": "He leans in."},
            "audio": {"description": "A loud voice.", "tone": ""},
        },
    )
    text = agent("reasoning").make(recipe, with_notes)[0]["content"]
    assert (
        "Seen: He leans in." in text
        and "Heard: A loud voice." in text
        and '"one of angry, sad"' in text
    )
    again = dataclasses.replace(with_notes, remark="He does not frown. (round 1)")
    assert (
        "did not agree that it is right. He does not frown."
        in agent("reasoning").make(recipe, again)[0]["content"]
    )


@pytest.mark.parametrize(
    ("who", "reply", "expected"),
    [
        ("visual", '{"description": "A man\\nsmiles."}', {"description": "A man smiles."}),
        ("visual", 'Sure:\n```json\n{"description": "ok then"}\n```', {"description": "ok then"}),
        (
            "audio",
            '{"description": "soft", "tone": "Calm"}',
            {"description": "soft", "tone": "calm"},
        ),
        ("audio", '{"description": "soft", "tone": "purple"}', {"description": "soft", "tone": ""}),
        (
            "reasoning",
            '{"reason": "a", "short": "b", "label": "ANGRY"}',
            {"reason": "a", "short": "b", "label": "angry"},
        ),
        (
            "reasoning",
            '{"reason": "a", "short": "b", "label": "sad", "words": "he says no"}',
            {"reason": "a", "short": "b", "label": "sad", "words": "he says no"},
        ),
        (
            "visual",
            '<think>{"description": "no"} hm</think> {"a": 1} so {"description": "He nods."}',
            {"description": "He nods."},
        ),
        ("visual", '{"description": "I’m sorry, but I can’t help with that."}', "refusal"),
        ("visual", '{"description": "Unfortunately I cannot identify people."}', "refusal"),
        ("visual", '{"description": "..."}', "no 'description'"),
        ("visual", "", "empty"),
        ("visual", "I'm sorry, I can't identify people.", "refusal"),
        ("visual", '{"description": "I cannot describe people"}', "refusal"),
        ("visual", "A man smiles.", "no JSON object"),
        ("visual", '{"description": ', "no JSON object"),
        ("visual", '["a"]', "no JSON object"),
        ("visual", '{"text": "a"}', "no 'description'"),
        ("visual", '{"description": 3}', "no 'description'"),
        ("reasoning", '{"reason": "a", "short": "b", "label": "glad"}', "not offered"),
        ("reasoning", '{"reason": "a", "label": "sad"}', "no 'short'"),
    ],
)  # fmt: skip
def test_replies_of_agents(who, reply, expected):
    if isinstance(expected, str):
        with pytest.raises(UnusableReply, match=expected):
            agent(who).read(KNOWN, reply)
    else:
        assert agent(who).read(KNOWN, reply) == expected


def test_images_and_audio_are_reduced():
    picture = np.full((1000, 2000, 3), 200, np.uint8)
    url = image_part(picture, width=512, height=512)["image_url"]["url"]
    assert Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size == (512, 256)
    data = audio_part(np.array([0, 0.5, 2.0], np.float32))["input_audio"]["data"]
    with wave.open(io.BytesIO(base64.b64decode(data))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16000, 1, 3)
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [0, 16383, 32767]
