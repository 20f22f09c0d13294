"""Claims found in texts and checked, by hand and on MERR's reasons."""

import json

import pytest

from data_pipeline.annotate.claims import Claim, Evidence, claim_scores, evidence_of, find_claims
from data_pipeline.datasets.registry import read_root
from data_pipeline.schema import ClipRecord
from emojax.cli.main import main

TEXT = (
    "The woman frowns and her inner brows are raised, but she does not smile. "
    "Her voice is trembling and not loud. "
    'She says "leave me alone".'
)


def test_claims_of_a_text():
    assert find_claims(TEXT) == [
        Claim("video", "inner brows are raised", ("AU01",)),
        Claim("video", "frowns", ("AU04",)),
        Claim("audio", "trembling", ("trembling",)),
        Claim("text", "leave me alone", ("leave me alone",)),
    ]
    assert (
        find_claims(
            "The person isn't smiling, she does not frown, and shows no open mouth or clenched jaw."
        )
        == []
    )
    assert [c.phrase for c in find_claims("Instead of smiling, he frowns")] == ["frowns"]
    assert [c.means for c in find_claims("Her voice is not loud at first but then loud.")] == [
        ("loud",)
    ]
    assert find_claims("Nothing can be seen or heard.") == []
    assert find_claims("An angry man enters a calm street.") == []  # no sentence about a voice
    assert [c.means for c in find_claims("his eyebrows are raised")] == [("AU01", "AU02")]


def test_claims_are_checked():
    seen = Evidence(frozenset({"AU04"}), frozenset({"sad"}), "Please leave me alone, will you?")
    assert [seen.check(c) for c in find_claims(TEXT)] == [
        "contradicted",
        "supported",
        "contradicted",
        "supported",
    ]
    nothing = Evidence(None, None, None)
    assert {nothing.check(c) for c in find_claims(TEXT)} == {"unknown"}


def test_scores_by_hand():
    record = ClipRecord(
        id="c",
        dataset="d",
        split="test",
        path="/p",
        label="",
        labels=(),
        subtitle="leave me alone",
        texts={
            "action_units": "AU04, AU15",
            "peak_action_units": "AU01",
            "audio": "speaks with a trembling, sad voice.",
        },
    )
    assert evidence_of(record) == Evidence(
        frozenset({"AU01", "AU04", "AU15"}), frozenset({"trembling", "sad"}), "leave me alone"
    )
    calm = ClipRecord(
        id="c",
        dataset="d",
        split="test",
        path="/p",
        label="",
        labels=(),
        texts={"audio": "not angry and not loud, rather calm"},
    )
    assert evidence_of(calm).tones == {"calm"}
    found = claim_scores([TEXT + " She grins."], [record])
    # grins: neither unit 6 nor 12; recall: 2 of 3 units, 1 of 2 tones
    assert found["precision"] == pytest.approx(4 / 5) and found["recall"] == pytest.approx(3 / 5)
    assert found["by_modality"]["video"]["precision"] == pytest.approx(2 / 3)
    assert found["by_modality"]["text"] == {
        "precision": 1.0,
        "recall": None,
        "claims": 1,
        "unknown": 0,
    }


def test_reasons_of_merr_fit_their_clips_better_than_others(real_data):
    found, _ = read_root(real_data / "annotations" / "merr", names=["merr_fine"], lenient=True)
    records = [r for r in found[0].records if "reason" in r.texts]
    texts = [r.texts["reason"] for r in records]
    own, other = claim_scores(texts, records), claim_scores(texts[7:] + texts[:7], records)
    for modality, least, most in (
        ("video", 0.93, 0.55),
        ("audio", 0.8, 0.25),
        ("text", 0.98, 0.02),
    ):
        assert own["by_modality"][modality]["precision"] > least, modality
        assert other["by_modality"][modality]["precision"] < most, modality
    assert own["claims"] > 7000


def test_the_command(tmp_path, capsys):
    rows = [{"video_id": "a", "response": TEXT}, {"video_id": "z", "response": "x"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    record = ClipRecord(
        id="a",
        dataset="d",
        split="test",
        path="/p",
        label="",
        labels=(),
        texts={"action_units": "AU04"},
    )
    (tmp_path / "records.jsonl").write_text(record.to_json() + "\n")
    command = [
        "judge",
        "--task",
        "clues",
        "--predictions",
        str(tmp_path / "p.jsonl"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main([*command, "--references", str(tmp_path / "records.jsonl")]) == 0
    found = json.loads((tmp_path / "o" / "judge_clues.json").read_text())
    assert (
        found["n"] == 1
        and found["precision"] == 0.5
        and found["unknown"] == 2
        and found["judge"] is None
    )
    clues = {"video": ["lowered brows"], "audio": ["trembling voice"], "text": []}
    drawn = ClipRecord(
        id="a", dataset="d", split="test", path="/p", label="", labels=(), truth={"clues": clues}
    )
    (tmp_path / "records.jsonl").write_text(drawn.to_json() + "\n")
    (tmp_path / "p.jsonl").write_text(
        json.dumps({"video_id": "a", "response": "lowered brows and a loud voice"}) + "\n"
    )
    assert main([*command, "--references", str(tmp_path / "records.jsonl")]) == 0
    found = json.loads((tmp_path / "o" / "judge_clues.json").read_text())
    assert (found["precision"], found["recall"]) == (0.5, 0.5) and found["checked_by"].startswith(
        "what the clips"
    )
    assert main([*command, "--references", str(tmp_path)]) == 2
    assert "has no action units to check clues against" in capsys.readouterr().err
    (tmp_path / "texts.jsonl").write_text('{"clip": "a", "reference": "she smiles"}\n')
    for name, fault in (
        ("texts.jsonl", "has no action units to check clues against: give the records.jsonl"),
        ("nothing.jsonl", "there is no such file or folder"),
    ):
        assert main([*command, "--references", str(tmp_path / name)]) == 2
        assert fault in " ".join(capsys.readouterr().err.split())
