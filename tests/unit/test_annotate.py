"""Recipes, agents, filters and outputs of annotation, by hand-made clips."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from data_pipeline.annotate import filters, outputs
from data_pipeline.annotate.agents import ClipContext, agent
from data_pipeline.annotate.annotation import Annotation
from data_pipeline.annotate.clip_lists import read_clip_list
from data_pipeline.annotate.data_card import Outcome
from data_pipeline.annotate.describe import coarse_description
from data_pipeline.annotate.peaks import LABEL_UNITS, Peak
from data_pipeline.annotate.recipe import Recipe, builtin_recipes, load_recipe, recipe_text
from data_pipeline.annotate.runner import read_state
from data_pipeline.annotate.verify import check_claims
from data_pipeline.datasets.registry import read_root
from data_pipeline.llm.budget import Spending
from data_pipeline.llm.client import UnusableReply
from data_pipeline.llm.messages import audio_part, image_part
from data_pipeline.media.prosody import Voice
from data_pipeline.schema import read_examples, read_records

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


def test_shipped_recipes_are_those_of_the_papers():
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
        ('name = "x"\ncolour = 3', "no setting colour"),
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


def test_a_changed_recipe_is_another(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(recipe_text("mmeverse").replace("frames = 4", "frames = 2"))
    assert (
        load_recipe(str(path)).frames == 2
        and load_recipe(str(path)).digest() != load_recipe("mmeverse").digest()
    )
    with pytest.raises(ValueError, match="there are merr_coarse, merr_fine, mmeverse"):
        load_recipe("nothing")


def test_what_agents_are_asked():
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
    told = dataclasses.replace(
        KNOWN,
        notes={
            "visual": {"description": "He leans in."},
            "audio": {"description": "A loud voice.", "tone": ""},
        },
    )
    text = agent("reasoning").make(recipe, told)[0]["content"]
    assert (
        "Seen: He leans in." in text
        and "Heard: A loud voice." in text
        and '"one of angry, sad"' in text
    )
    again = dataclasses.replace(told, remark="He does not frown. (round 1)")
    assert (
        "did not agree that it is right. He does not frown."
        in agent("reasoning").make(recipe, again)[0]["content"]
    )


@pytest.mark.parametrize(
    ("who", "reply", "found"),
    [
        ("visual", '{"description": "A man\\nsmiles."}', {"description": "A man smiles."}),
        ("visual", 'Sure:\n```json\n{"description": "ok then"}\n```', {"description": "ok then"}),
        ("audio", '{"description": "soft", "tone": "Calm"}', {"description": "soft", "tone": "calm"}),
        ("audio", '{"description": "soft", "tone": "purple"}', {"description": "soft", "tone": ""}),
        ("reasoning", '{"reason": "a", "short": "b", "label": "ANGRY"}', {"reason": "a", "short": "b", "label": "angry"}),
        ("reasoning", '{"reason": "a", "short": "b", "label": "sad", "words": "he says no"}', {"reason": "a", "short": "b", "label": "sad", "words": "he says no"}),
        ("visual", '<think>{"description": "no"} hm</think> {"a": 1} so {"description": "He nods."}', {"description": "He nods."}),
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
def test_what_agents_answer(who, reply, found):
    if isinstance(found, str):
        with pytest.raises(UnusableReply, match=found):
            agent(who).read(KNOWN, reply)
    else:
        assert agent(who).read(KNOWN, reply) == found


def test_pictures_and_sound_are_sent_small():
    import base64
    import io
    import wave

    from PIL import Image

    url = image_part(np.full((1000, 2000, 3), 200, np.uint8), 512, 512)["image_url"]["url"]
    assert Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size == (512, 256)
    data = audio_part(np.array([0, 0.5, 2.0], np.float32))["input_audio"]["data"]
    with wave.open(io.BytesIO(base64.b64decode(data))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16000, 1, 3)
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [0, 16383, 32767]


def made(clip: str, label: str = "angry", reason: str = "", **fields) -> Annotation:
    reason = (
        reason
        or f"In {clip} the person frowns and says 'how dare you', so it is {label} in the end."
    )
    notes = {
        "visual": {"description": f"A man leans in, {clip}."},
        "audio": {"description": "A loud voice.", "tone": "angry"},
        "reasoning": {"reason": reason, "short": f"A frown: {label}.", "label": label},
    }
    base = dict(
        path=f"/clips/{clip}.mp4", media=clip, label=label, label_from="given", labels=("angry", "happy", "neutral", "sad"),
        units=(4,), peak_units=(4, 25), ever=(4, 25), peak_index=12, peak_time=0.48, peak_by=LABEL_UNITS,
        units_from="openface", words=f"how dare you, {clip}", words_from="given", notes=notes, split="train",
        authors=dict.fromkeys(notes, "agent-1"), dataset="own",
    )  # fmt: skip
    return Annotation(clip=clip, key=f"key of {clip}", **{**base, **fields})


def left(kind, found, **settings):
    recipe = Recipe(name="x", filters=((kind, settings),))
    return filters.apply(recipe, found, check_claims(found))


def test_filters():
    assert left("votes", [made("a"), made("b", units=(), peak_units=(12,))]) == {
        "b": "the action units speak for happy, contempt, the label is angry"
    }
    unmeasured = made("c", ever=None, units=(), peak_units=())
    assert (
        left("votes", [unmeasured]) == {}
        and "no action units" in left("votes", [unmeasured], unmeasured="drop")["c"]
    )
    assert left("votes", [made("d", "neutral", units=(), peak_units=(12,))]) == {}
    other = made("e")
    other.notes["reasoning"]["label"] = "sad"
    assert left("contradiction", [other]) == {
        "e": "the reasoning concludes sad, the label is angry"
    }
    lies = made("f", reason="She smiles and is wide eyed, wide eyes, so it is angry.")
    assert left("contradiction", [made("a"), lies]) == {
        "f": "2 of 2 claims are contradicted by what was measured"
    }
    twin = made("g", media="a", words="how dare you, a")
    assert left("duplicates", [made("a"), twin]) == {"g": "the same as a"}
    spans = [
        made("p", media="a", words="", start=0.0, end=1.0),
        made("q", media="a", words="", start=1.0, end=2.0),
    ]
    assert left("duplicates", spans) == {}
    odd = dataclasses.replace(twin, label="sad")
    assert left("duplicates", [made("a"), odd]) == {
        "g": "the same as a, whose label is angry, not sad"
    }
    same = made("h", reason="He frowns so he is angry.", words="no")
    assert left("duplicates", [same, dataclasses.replace(same, clip="i", media="i")]) == {
        "i": "the same as h"
    }
    assert left("length", [made("j", reason="Angry.")]) == {"j": "the reason has 1 words"}
    chinese = made("m", reason="他皱着眉头，声音很大，所以他很生气")
    assert left("length", [chinese]) == {}
    assert left("length", [made("k", left_out="visual: refusal")]) == {"k": "visual: refusal"}


def test_balance_and_neutral_clips():
    many = (
        [made(f"a{i}") for i in range(20)]
        + [made(f"s{i}", "sad") for i in range(2)]
        + [made("h0", "happy")]
    )
    gone = left("balance", many, times=3.0)  # the median label has 2 clips
    assert (
        len(gone) == 14
        and all(c.startswith("a") for c in gone)
        and gone == left("balance", many[::-1], times=3.0)
    )
    neutral = [made(f"n{i}", "neutral") for i in range(30)] + [made(f"a{i}") for i in range(7)]
    assert len(left("neutral", neutral, share=0.3)) == 27  # 3 of 10 are left


def test_claims_are_held_against_face_voice_and_words():
    voices = [Voice(loudness=-30.0, pitch=150.0, pitch_range=2.0, voiced=0.8, rate=4.0)] * 4
    quiet = [made(f"q{i}", voice=v, speaker="x") for i, v in enumerate(voices)]
    loud = made("l", voice=Voice(loudness=-20.0, pitch=150.0, pitch_range=2.0, voiced=0.8, rate=4.0), speaker="x",
                reason="He frowns, smiles, speaks in a loud, high-pitched voice and says 'how dare you'. He says 'never mind'.")  # fmt: skip
    found = {(c.modality, c.phrase): c.verdict for c in check_claims([*quiet, loud])["l"]}
    assert found == {
        ("video", "frowns"): "supported", ("video", "smiles"): "contradicted", ("audio", "loud"): "supported",
        ("audio", "high-pitched"): "contradicted", ("text", "how dare you"): "supported",
        ("text", "never mind"): "contradicted",
    }  # fmt: skip
    blind = dataclasses.replace(loud, ever=None, voice=None, words="")
    assert {c.verdict for c in check_claims([blind])["l"]} == {"unknown"}


def test_the_coarse_template():
    assert coarse_description(made("a")) == (
        'A man leans in, a. The face shows lowered brows. The tone of voice is angry. The person says: "how dare you, a".'
    )
    assert (
        coarse_description(made("b", notes={}, ever=(), units=(), peak_units=(), words=""))
        == "The face is at rest."
    )


def write_outputs(tmp_path, found, name="CAER", label="emotion_label", text="text_whisper"):
    recipe = load_recipe("merr_fine")
    out = tmp_path / "out"
    out.mkdir()
    checks = check_claims(found)
    gone, spent = (
        filters.apply(recipe, found, checks),
        Spending(money=0.5, tokens_in=100, tokens_out=20, requests=3, lost=1),
    )
    outcome = Outcome(
        recipe=recipe,
        annotations=found,
        left_out=gone,
        unfinished={"z": "visual: timeout"},
        checks=checks,
        spending=spent,
    )
    outputs.write_all(
        out, outputs.OutputSettings(name=name, text=text, label=label, licence="CC0"), outcome, {}
    )
    return out


def test_our_readers_read_what_is_written(tmp_path):
    found = [
        dataclasses.replace(
            made(c, "anger", labels=("anger", "happy")), coarse=f"coarse {c}", units=(4, 7)
        )
        for c in ("v1", "v2", "v3")
    ]
    out = write_outputs(tmp_path, found)
    root = tmp_path / "root"
    for folder, names in {
        "CAER": ["CAER_merged.csv", "CAER_peak.json"],
        "AU_gpt": ["CAER_AU_gpt.csv"],
    }.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).write_bytes((out / name).read_bytes())
    (root / "CAER" / "video").mkdir()
    for a in found:
        (root / "CAER" / "video" / f"{a.clip}.mp4").write_bytes(b"x")
    (back,), _ = read_root(root, names=["caer"])
    assert [r.id for r in back.records] == ["v1", "v2", "v3"]
    first = back.records[0]
    assert (first.label, first.subtitle, first.peak_index, first.split) == (
        "anger",
        "how dare you, v1",
        12,
        "train",
    )
    assert (
        first.texts["reason"] == found[0].reason and first.texts["image"] == "A man leans in, v1."
    )
    assert first.texts["audio"] == "A loud voice."


def test_merr_files_come_back(tmp_path):
    found = [
        dataclasses.replace(made(c), coarse=f"coarse {c}", units=(4,))
        for c in ("sample_1", "sample_2")
    ]
    out = write_outputs(tmp_path, found)
    root = tmp_path / "root" / "MERR"
    (root / "video").mkdir(parents=True)
    for ours, theirs in {
        "merr_fine.json": "MERR_fine_grained.json",
        "merr_coarse.json": "MERR_coarse_grained.json",
    }.items():
        (root / theirs).write_bytes((out / ours).read_bytes())
    for a in found:
        (root / "video" / f"{a.clip}.mp4").write_bytes(b"x")
    for name in ("merr_fine", "merr_coarse"):
        (back,), _ = read_root(tmp_path / "root", names=[name])
        first = back.records[0]
        assert (first.id, first.label, first.peak_index) == ("sample_1", "angry", 12)
        assert (
            first.texts["action_units"] == "AU04"
            and first.texts["peak_action_units"] == "AU04, AU25"
        )
        assert (
            first.texts["image"] == "lowered brows"
            and first.texts["audio"] == "the tone sounds angry."
        )
        assert first.texts["reason"] == (
            "A frown: angry." if name == "merr_fine" else "coarse sample_1"
        )


def test_records_examples_and_the_card(tmp_path):
    found = [
        made("a"),
        made("b", units=(), peak_units=(12,)),
        made("c", left_out="visual: refusal"),
    ]
    out = write_outputs(tmp_path, found)
    (record,) = read_records(out / "records.jsonl")
    assert (
        record.id == "a"
        and record.provenance["reason"] == "agent-1"
        and record.provenance["emotion"] == "given"
    )
    span = outputs.record_of(dataclasses.replace(made("s"), start=1.5, end=2.5))
    assert (span.start, span.end) == (1.5, 2.5)
    tasks = {e.task: e for e in read_examples(out / "examples.jsonl")}
    assert set(tasks) == {"emotion", "audio", "image", "reason_v2", "think"}
    assert tasks["image"].answer == "a man leans in, a" and tasks["audio"].streams == ("audio",)
    rows = list(csv.reader((out / "left_out.csv").read_text().splitlines()))
    assert [r[0] for r in rows] == ["clip", "b", "c"] and rows[2][2] == "visual: refusal"
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["clips"], summary["kept"], summary["peak_index_base"]) == (4, 1, 0)
    assert summary["left_out"] == {"visual: refusal": 1, "the action units speak for": 1}
    card = (out / "card.md").read_text()
    assert (
        "1 of 4 clips kept" in card
        and "CC0" in card
        and "agent-1 (1)" in card
        and "money: 0.5000" in card
    )


def test_an_annotation_comes_back_from_its_line():
    whole = made(
        "a",
        voice=Voice(loudness=-20.0, pitch=None, pitch_range=None, voiced=0.5, rate=4.0),
        remarks=("r",),
        votes={"angry": 1},
    )
    assert Annotation.from_json(whole.to_json()) == whole
    with pytest.raises(ValueError):
        Annotation.from_json('{"version": 0}')


def test_a_line_that_was_cut_off_is_cut_away(tmp_path):
    path = tmp_path / "annotations.jsonl"
    path.write_text(made("a").to_json() + "\n" + made("b").to_json()[:50])
    before = path.read_bytes()
    assert list(read_state(path)) == ["a"] and path.read_bytes() == before, (
        "who only looks changes nothing"
    )
    assert list(read_state(path, repair=True)) == ["a"]
    with path.open("a") as file:
        file.write(made("c").to_json() + "\n")
    assert list(read_state(path)) == ["a", "c"]


def test_clips_of_folders_and_lists(tmp_path):
    for name in ("a.mp4", "sub/b.webm", "sub/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = read_clip_list(tmp_path, labels=["happy", "sad"])
    assert [(r.id, r.label, r.split) for r in found] == [
        ("a", "", "unsplit"),
        ("sub/b", "", "unsplit"),
    ]
    (tmp_path / "list.csv").write_text("path,subtitle\na.mp4,hello\nsub/b.webm,\n")
    assert [
        (r.id, r.subtitle) for r in read_clip_list(tmp_path / "list.csv", labels=["happy"])
    ] == [
        ("a", "hello"),
        ("b", ""),
    ]
    (tmp_path / "labelled.csv").write_text("path,label\na.mp4,happy\nsub/b.webm,sad\n")
    assert [(r.id, r.label) for r in read_clip_list(tmp_path / "labelled.csv")] == [
        ("a", "happy"),
        ("b", "sad"),
    ]
    (tmp_path / "spans.csv").write_text(
        "\ufeffPath,label,start,end,split\na.mp4,happy,0,0.5,dev\na.mp4,,0.5,1,\n"
    )
    found = read_clip_list(tmp_path / "spans.csv", labels=["happy", "sad"])
    assert [(r.label, r.start, r.end, r.split) for r in found] == [
        ("happy", 0, 0.5, "val"),
        ("", 0.5, 1, "unsplit"),
    ]
    assert [r.id for r in found] == ["a_0-0.5", "a_0.5-1"]
    # a row before them changes no id; what is alike to the letter has the number of its row
    (tmp_path / "spans.csv").write_text(
        "path,start,end\na.mp4,1.25,\na.mp4,0,0.5\nsub/b.webm,,\na.mp4,0.5,1\n"
    )
    assert [r.id for r in read_clip_list(tmp_path / "spans.csv")] == [
        "a_1.25-end",
        "a_0-0.5",
        "b",
        "a_0.5-1",
    ]
    (tmp_path / "twice.csv").write_text("path,start,end\na.mp4,,\na.mp4,,\na.mp4,2,3\n")
    assert [r.id for r in read_clip_list(tmp_path / "twice.csv")] == ["a#2", "a#3", "a_2-3"]
    (tmp_path / "said.csv").write_text(
        "path,subtitle\na.mp4,one\u2028line\x85only\nsub/b.webm,x\n", encoding="utf-8"
    )
    assert [r.subtitle for r in read_clip_list(tmp_path / "said.csv")] == [
        "one\u2028line\x85only",
        "x",
    ]
    for text, fault in [
        ("path,label\na.mp4,glad\n", "'glad' is not one of"), ("path,split\na.mp4,x\n", "none of train"),
        ("path,start,end\na.mp4,2,1\n", "row 2: the span"), ("path\n", "no clip"), ("path,start\na.mp4,1;5\n", "row 2, column 'start': '1;5' is not a number of seconds"),
        ("path,label\na.mp4,glad\nno.mp4,sad\na.mp4,sad\n", "(?s)row 2, column 'label'.*\n.*row 3, column 'path'.*no.mp4'$"),
        ("path\n" + "no.mp4\n" * 13, "(?s)row 11,.*and 3 rows more$"),
    ]:  # fmt: skip
        (tmp_path / "f.csv").write_text(text)
        with pytest.raises(ValueError, match=fault):
            read_clip_list(tmp_path / "f.csv", labels=["happy", "sad"])
    (tmp_path / "bad.csv").write_text("file\na.mp4\n")
    with pytest.raises(ValueError, match="needs a column 'path'"):
        read_clip_list(tmp_path / "bad.csv")
    (tmp_path / "gone.csv").write_text("path\nnone.mp4\n")
    with pytest.raises(ValueError, match="row 2, column 'path': there is no file"):
        read_clip_list(tmp_path / "gone.csv")
