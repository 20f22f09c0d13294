"""Annotation files: pickles that execute nothing, JSON repaired by line, Excel sheets."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from dataset_further_sets import MERR_FINE

from data_pipeline.datasets.registry import read_root
from data_pipeline.datasets.repair import repair_json
from data_pipeline.datasets.unpickle import load_object_npz, load_plain_pickle


def read(root: Path, name: str, lenient: bool = False):
    found, files = read_root(root, names=[name], lenient=lenient)
    return found[0], files


# --- pickles ---


class _Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/emojax_was_here",)


def test_pickles_execute_nothing(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array({"a": _Evil()}, dtype=object))
    with pytest.raises(ValueError, match="it uses posix.system"):
        load_object_npz(tmp_path / "a.npz")
    (tmp_path / "b.p").write_bytes(pickle.dumps([{"a": _Evil()}]))
    with pytest.raises(ValueError, match="it uses posix.system"):
        load_plain_pickle(tmp_path / "b.p")
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match="not a readable npz file"):
        load_object_npz(tmp_path / "c.npz")
    assert not Path("/tmp/emojax_was_here").exists()


def test_objects_of_both_numpy_generations(tmp_path):
    value = {"a": {"emo": "happy", "val": np.float32(1.5), "more": np.arange(3)}}
    np.savez(tmp_path / "new.npz", c=np.array(value, dtype=object))
    out = load_object_npz(tmp_path / "new.npz")["c"]
    assert out["a"]["val"] == 1.5 and list(out["a"]["more"]) == [0, 1, 2]
    data = pickle.dumps(value, protocol=2).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "old.p").write_bytes(data)
    assert load_plain_pickle(tmp_path / "old.p")["a"]["emo"] == "happy"


# --- hand-edited JSON ---


def test_repair_reports_lines():
    text = '{\n // why\n "a": "x\n   y", /* no */ "b": [1, 2,],\n}\n'
    fixed, found = repair_json(text)
    assert json.loads(fixed) == {"a": "x y", "b": [1, 2]}
    assert found == [
        (2, "a comment"),
        (3, "a line break inside a text"),
        (4, "a comment"),
        (4, "a comma before ']'"),
        (5, "a comma before '}'"),
    ]
    plain = json.dumps({"a": "// no comment, really", "b": "\\"})
    assert repair_json(plain) == (plain, [])


def test_names_that_occur_twice(tmp_path):
    (tmp_path / "MERR").mkdir()
    entry = json.dumps(MERR_FINE)
    (tmp_path / "MERR" / "MERR_fine_grained.json").write_text(f'{{"s_1": {entry}, "s_1": {entry}}}')
    found, _ = read(tmp_path, "merr_fine")
    assert "the name 's_1' occurs twice" in found.annotation_files[0].fault_lines()[0]
    found, _ = read(tmp_path, "merr_fine", lenient=True)
    assert len(found.records) == 1 and len(found.annotation_files[0].repaired) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [("12", "contains '12', needs a list or an object"), ("[" * 99_999, "cannot be read")],
)
def test_json_that_is_not_a_table(text, message, tmp_path):
    (tmp_path / "MERR_fine_grained.json").write_text(text)
    for lenient in (False, True):
        found, _ = read(tmp_path, "merr_fine", lenient)
        file = found.annotation_files[0]
        assert file.refused and message in file.fault_lines()[0]


def test_unreadable_files_are_refused_even_when_lenient(tmp_path):
    (tmp_path / "MER2024_merged.csv").write_text("video_id;MER2023_mode;english\n1;train;x\n")
    found, _ = read(tmp_path, "mer2023", lenient=True)
    line = found.annotation_files[0].fault_lines()[0]
    assert found.annotation_files[0].refused
    assert "no column 'response_AudioReasoner' among video_id" in line
    (tmp_path / "label-disdim.csv").write_text("name,discrete,discrete\na,happy,sad\n")
    found, _ = read(tmp_path, "mer2024")
    assert "column 'discrete' occurs twice" in found.annotation_files[0].fault_lines()[0]
    (tmp_path / "label-disdim.csv").write_text("name,discrete\na\0b,happy\n")
    found, _ = read(tmp_path, "mer2024")
    line = found.annotation_files[0].fault_lines()[0]
    assert "it is not text (byte 15 is NUL)" in line


def test_rows_excluded_by_rule_are_not_faults(tmp_path):
    folder = tmp_path / "IEMOCAP" / "Session1" / "dialog" / "EmoEvaluation"
    folder.mkdir(parents=True)
    (folder / "Ses01F_impro01.txt").write_text(
        "[6.2901 - 8.2357]\tSes01F_impro01_M000\txxx\t[2.5, 2.5, 2.5]\n"
    )
    found, _ = read(tmp_path, "iemocap")
    assert not found.annotation_files[0].faults and found.annotation_files[0].excluded == {
        "no majority of the annotators": 1
    }
    (folder / "Ses01F_impro01.txt").write_text(
        "[6.2901 - 8.2357]\tSes01F_impro01_M000\tang\t[2.5, 2.5, 2.5]\n"
    )
    [record] = read(tmp_path, "iemocap")[0].records
    assert record.subtitle == "" and record.provenance == {"emotion": "human", "valence": "human"}


def test_folders_of_caer_in_any_case_and_dangling_links(tmp_path):
    for name in ("Train/Sad/3.avi", "valid/Sad/1.avi"):
        (tmp_path / "CAER" / name).parent.mkdir(parents=True)
        (tmp_path / "CAER" / name).write_bytes(b"x")
    (tmp_path / "CAER" / "Train" / "Sad" / "4.avi").symlink_to(tmp_path / "gone.avi")
    found, files = read(tmp_path, "caer")
    assert {(r.id, r.split) for r in found.records} == {
        ("train_Sad_3", "train"), ("train_Sad_4", "train"), ("valid_Sad_1", "val"),
    }  # fmt: skip
    assert [files.has(Path(r.path)) for r in sorted(found.records, key=lambda r: r.id)] == [
        True,
        False,
        True,
    ]
    (tmp_path / "CAER" / "round").symlink_to(tmp_path)  # cyclic folders are read once
    assert len(read(tmp_path, "caer")[0].records) == 3


# --- Excel ---


def sheet(path: Path, *rows: tuple) -> None:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def test_the_multi_label_sheet_of_mafw(tmp_path):
    """Classes are numbered from 1 in the set's order; the sheet names no split."""
    sheet(
        tmp_path / "MAFW" / "Labels" / "multi-set.xlsx",
        ("clip", "anger", "multi_label"),
        (151, 0.5, "1,2,9"),
        ("00019.mp4", 0, "4,6"),
    )
    found, _ = read(tmp_path, "mafw")
    assert {
        r.id: (r.split, r.target("multi-label").label, r.target("multi-label").native)
        for r in found.records
    } == {
        "00151": ("unsplit", "anger, disgust, anxiety", "1,2,9"),
        "00019": ("unsplit", "happiness, sadness", "4,6"),
    }
    sheet(tmp_path / "MAFW" / "Labels" / "multi-set.xlsx", ("clip", "multi_label"), (151, "1,12"))
    found, _ = read(tmp_path, "mafw")
    assert (
        "row 2, column 'multi_label': '1,12' contains a class outside 1 to 11"
        in found.annotation_files[0].fault_lines()[0]
    )
    (tmp_path / "MAFW" / "Labels" / "multi-set.xlsx").write_bytes(b"no sheet")
    found, _ = read(tmp_path, "mafw")
    assert "is not a readable Excel file" in found.annotation_files[0].fault_lines()[0]


def test_the_english_table_of_mc_eiu(tmp_path):
    text = (
        "Dia_No,Utt_No,speaker,video_name,Season,Episode,emotion,intent,Subtitle\n"
        "3,1,Monica,Friends,1,2,happy,wishing,I wish\n3,2,Ross,Friends,1,2,happy,sympathizing,Oh\n"
    )
    (tmp_path / "EnglishDialogues.csv").write_text(text)
    found, _ = read(tmp_path, "mc_eiu")
    [record] = found.records
    assert (record.id, record.split, record.speaker) == (
        "dia_3_utt_1_en",
        "unsplit",
        "Friends Monica",
    )
    assert record.target("intent").label == "wishing" and found.annotation_files[0].excluded == {
        "intent 'sympathizing'": 1
    }
