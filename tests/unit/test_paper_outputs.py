"""What papers need: plots as PNG, SVG and PDF with numbers on their axes, tables as LaTeX."""

import json
import re

import pytest
from commands import run_command

from emojax.reports.latex_tables import latex_table


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    for name, wrong in (("one", 3), ("two", 4)):
        rows = [
            {"video_id": f"c{i}", "answer": truth, "response": truth if i % wrong else "a&b_$"}
            | {"probabilities": {"happy": 0.5 + i / 100, "a&b_$": 0.5 - i / 100}}
            for i, truth in enumerate(["happy", "a&b_$"] * 10)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
        out = run_command(
            folder, "evaluate", "--predictions", str(folder / f"{name}.jsonl"),
            *("--metric", "single", "--resamples", "50", "--out", str(folder / name)),
            *(("--plots", "svg,pdf", "--latex") if name == "one" else ()),
        )  # fmt: skip
        assert out.returncode == 0, out.stdout
    return folder


def test_plots_are_of_the_named_kinds(evaluated):
    heads = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF-"}
    found = sorted((evaluated / "one").glob("*_predictions.*"))
    assert {p.stem for p in found} == {"confusion_predictions", "reliability_predictions"}
    assert len(found) == 6 and all(p.read_bytes().startswith(heads[p.suffix[1:]]) for p in found)
    confusion = (evaluated / "one" / "confusion_predictions.svg").read_text()
    assert confusion.count(">happy<") == 2 and ">predicted<" in confusion
    axis = (evaluated / "one" / "reliability_predictions.svg").read_text()
    assert axis.count(">0.4<") == 2 and ">accuracy<" in axis
    again = (evaluated / "one" / "report.html").read_text()
    assert re.findall(r'class="tick"[^>]*>([\d.]+)<', again) == [
        x for tick in ("0", "0.25", "0.5", "0.75", "1") for x in (tick, tick)
    ]


def test_tables_are_latex(evaluated):
    text = (evaluated / "one" / "evaluation.tex").read_text()
    assert r"a\&b\_\$ & 10 &" in text and text.count(r"\begin{tabular}") == 2
    out = run_command(
        evaluated, "compare", str(evaluated / "one"), str(evaluated / "two"), "--latex",
        *("--permutations", "20", "--out", str(evaluated / "c")),
    )  # fmt: skip
    assert out.returncode == 0 and "comparison.tex" in out.stdout
    assert "p < 0.05" in (evaluated / "c" / "comparison.tex").read_text()
    row = latex_table(["a", "b"], [["50 %", "~x^{2}\\"]], caption="c").splitlines()[7]
    assert row == r"50 \% & \textasciitilde{}x\textasciicircum{}\{2\}\textbackslash{} \\"


def test_other_kinds_are_refused(evaluated):
    words = ("--predictions", "x.jsonl", "--out", "o", "--plots", "jpg")
    out = run_command(evaluated, "evaluate", *words)
    assert out.returncode == 2 and "'jpg' is not one of" in out.stderr
