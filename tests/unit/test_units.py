"""Tables of action units: MERR's published ones, votes, and how far they agree with MERR's own records."""

import json
import os
from pathlib import Path

import pytest

from data_pipeline.annotate import units
from data_pipeline.annotate.claims import find_claims

SHARED = Path(os.environ.get("EMOJAX_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
FINE = SHARED / "annotations" / "merr" / "MERR_fine_grained.json"


def test_votes_of_the_figure():
    """MERR's figure: 4 and 5 vote for anger, 4 for sadness, 5 and 26 for surprise, 4, 5 and 20 for fear."""
    table = units.TABLES["merr"]
    for own, label in [
        ((4, 5), "angry"),
        ((4,), "sad"),
        ((5, 26), "surprise"),
        ((4, 5, 20), "fear"),
    ]:
        assert units.count_votes(own, table)[label] == len(own)
    assert units.winners((5, 26), table) == ("surprise", "fear")
    assert units.winners((6, 12), table) == ("happy",) and units.winners((), table) == ("neutral",)
    assert units.winners((9,), table) == ("neutral",) and units.winners(
        (9,), units.TABLES["mmeverse"]
    ) == ("disgust",)


def test_spellings_of_the_training_sets():
    table = units.TABLES["mmeverse"]
    same = {
        "Anger": "angry",
        "joy": "happy",
        "Happiness": "happy",
        "Sadness": "sad",
        "scared": "fear",
        "anxiety": "worried",
    }
    for spelled, label in same.items():
        assert units.units_of(spelled, table) == table[label]
    assert units.units_of("Sympathy", table) is None and units.units_of("neutral", table) == ()


def test_every_phrase_is_read_as_a_claim_of_its_unit():
    for unit, phrases in units.PHRASES.items():
        for phrase in phrases:
            claims = find_claims(f"The face shows {phrase}.")
            assert any(units.unit_code(unit) in c.means for c in claims), (unit, phrase, claims)


def test_strength_in_words():
    assert units.strength_phrases({4: 0.4, 12: 3.0, 6: 1.2}, 5.0) == [
        "strong lip corner puller", "clear cheek raiser", "slight brow lowerer",
    ]  # fmt: skip
    assert units.strength_phrases({12: 0.1}, 1.0) == ["slight lip corner puller"]


@pytest.mark.skipif(not FINE.exists(), reason="the published annotations are not here")
def test_votes_agree_with_merrs_own_records():
    """The record's label is among the winners of its AU_list's votes in 97.5 % of 3,135 clips that are not neutral, and the
    list is exactly the label's units at the peak in 87.9 %."""
    table = units.TABLES["merr"]
    records = [r for r in json.loads(FINE.read_text()).values() if r["pseu_emotion"] != "neutral"]
    own = lambda names: [int(n[2:]) for n in names]
    won = [r["pseu_emotion"] in units.winners(own(r["AU_list"]), table) for r in records]
    assert len(records) == 3135 and sum(won) / len(won) == pytest.approx(0.975, abs=0.001)
    of_peak = [
        set(own(r["AU_list"])) == set(own(r["peak_AU_list"])) & set(table[r["pseu_emotion"]])
        for r in records
    ]
    assert sum(of_peak) / len(of_peak) == pytest.approx(0.879, abs=0.001)
