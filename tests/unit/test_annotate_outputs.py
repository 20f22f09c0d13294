"""Outputs of annotation: read back by our readers of MERR and MMEVerse, records, summary, card."""

import csv
import dataclasses
import json

from annotators import made

from data_pipeline.annotate import filters, outputs
from data_pipeline.annotate.data_card import Outcome
from data_pipeline.annotate.recipe import load_recipe
from data_pipeline.annotate.verify import check_claims
from data_pipeline.datasets.registry import read_root
from data_pipeline.llm.budget import Spending
from data_pipeline.schema import Example, read_records


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


def test_our_readers_read_mmeverse_files(tmp_path):
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


def test_our_readers_read_merr_files(tmp_path):
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
    lines = (out / "examples.jsonl").read_text().splitlines()
    tasks = {e.task: e for e in map(Example.from_json, lines)}
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
