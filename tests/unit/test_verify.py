"""Agreement between annotators: published examples, marks."""

import json

import pytest

from data_pipeline.annotate import verify
from data_pipeline.annotate.verify import (
    Marks,
    agreement,
    cohen_kappa,
    krippendorff_alpha,
    read_marks,
)
from emojax.reports.agreement_plot import agreement_chart

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): examples A and C
BINARY = ([0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0])
FOUR = (
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
)  # fmt: skip


def test_alpha_of_the_published_examples():
    assert krippendorff_alpha(BINARY) == pytest.approx(0.095, abs=5e-4)
    assert krippendorff_alpha(FOUR) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha([[True, True], [True, True]]) is None  # nothing varies
    assert krippendorff_alpha([[True, False], [True, False]]) == 1.0


def test_kappa_by_hand():
    """Cohen: 7 of 10 agree, by chance 0.6 x 0.5 + 0.4 x 0.5 = 0.5."""
    first = [True] * 6 + [False] * 4
    second = [True] * 4 + [False] * 2 + [True] + [False] * 3
    assert cohen_kappa(first, second) == pytest.approx((0.7 - 0.5) / 0.5)
    assert cohen_kappa([True, None, False], [True, False, False]) == 1.0
    assert cohen_kappa([True], [True]) is None


def marks(**rows):
    return {c: dict(zip(verify.ASPECTS, row, strict=True)) for c, row in rows.items()}


def test_agreement_of_two_annotators():
    anna = Marks(
        "anna", marks(a=[True, True, True, True, True], b=[True, False, None, False, True])
    )
    ben = Marks(
        "ben",
        marks(a=[True, True, True, False, True], b=[True, False, True, False, True]),
        {"b": "no smile"},
    )
    found = agreement([anna, ben])
    assert found["aspects"]["visual"] == {
        "agreed": 0.5,
        "marks": 4,
        "alpha": 1.0,
        "kappa": {"anna and ben": 1.0},
    }
    assert (
        found["aspects"]["reasoning"]["agreed"] == 0.25 and found["aspects"]["text"]["marks"] == 3
    )
    assert found["differ"] == {"a": ["reasoning"]} and found["sent_back"] == {"b": "no smile"}
    assert agreement_chart(found, "mine").startswith(b"\x89PNG")


def test_all_remarks_are_kept_and_marks_belong_to_one_text(tmp_path):
    people = [
        Marks("anna", marks(a=[True] * 5), {"a": "no frown"}),
        Marks("ben", marks(a=[True] * 5), {"a": ""}),
    ]
    assert agreement(people)["sent_back"] == {"a": "no frown"}
    (tmp_path / verify.MARKS).mkdir()
    line = {"clip": "a", "of": "old", "marks": dict.fromkeys(verify.ASPECTS, True), "again": None}
    (tmp_path / verify.MARKS / "anna.jsonl").write_text(json.dumps(line) + "\n")
    assert read_marks(tmp_path, digests={"a": "new"})[0].marks == {} and read_marks(
        tmp_path, digests={"a": "old"}
    )[0].marks.keys() == {"a"}


def test_the_last_mark_counts_and_incomplete_lines_do_not(tmp_path):
    folder = tmp_path / verify.MARKS
    folder.mkdir()
    yes, no = (dict.fromkeys(verify.ASPECTS, v) for v in (True, False))
    lines = [
        json.dumps({"clip": "a", "marks": yes, "again": "wrong"}),
        json.dumps({"clip": "a", "marks": no, "again": None}),
        '{"clip": "b", "mar',
    ]
    (folder / "anna.jsonl").write_text("\n".join(lines))
    (found,) = read_marks(tmp_path)
    assert found.annotator == "anna" and found.marks == {"a": no} and found.again == {}
