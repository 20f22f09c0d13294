"""The list of faults for `make test-mutants` fits the code."""

from mutants import ROOT, read_list


def test_every_fault_can_be_made():
    """Each old text occurs exactly once; names are unique; the tests that should turn red exist."""
    mutants = read_list()
    assert len(mutants) >= 48 and len({m.name for m in mutants}) == len(mutants)
    for mutant in mutants:
        assert mutant.tests, mutant.name
        for test in mutant.tests:
            file, *names = test.split("::")
            text = (ROOT / file).read_text(encoding="utf-8")
            assert all(f"def {n.partition('[')[0]}(" in text for n in names), test
