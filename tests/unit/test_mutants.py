"""The list of faults for `make test-mutants` fits the code."""

import re

import mutants
import pytest
from mutants import ROOT, read_list


@pytest.fixture(scope="module")
def faults() -> list[mutants.Mutant]:
    return read_list()


def test_every_fault_can_be_made(faults):
    """Reading the list checks that each changes the code; the tests that it names exist."""
    assert len(faults) >= 90 and len({m.name for m in faults}) == len(faults)
    for fault in faults:
        assert fault.file.startswith(("emojax/", "data_pipeline/")) and fault.tests, fault.name
        for test in fault.tests:
            file, *names = test.split("::")
            text = (ROOT / file).read_text(encoding="utf-8")
            assert all(f"def {n.partition('[')[0]}(" in text for n in names), test


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("ROOT", "PLACE", "occurs [0-9]+ times"),
        ("import ast\n", "import ast  # a comment\n", "changes nothing"),
        ("import ast\n", "import\n", "cannot be parsed"),
    ],
)
def test_a_fault_that_is_none_is_reported(old, new, error, monkeypatch):
    fault = {"name": "f", "file": "scripts/mutants.py", "old": old, "new": new, "tests": ["t"]}
    monkeypatch.setattr(mutants.tomllib, "loads", lambda text: {"mutant": [fault]})
    with pytest.raises(ValueError, match=error):
        read_list()


def test_the_page_lists_every_fault_in_order(faults):
    table = mutants.PAGE.read_text(encoding="utf-8").partition(mutants.BEGIN)[2]
    rows = re.findall(r"^\| (.+?) \| `(.+?)` \| .* \| red \|$", table, re.M)
    assert rows == [(m.name, m.file) for m in faults]
