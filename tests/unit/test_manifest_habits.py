"""Manifests as people save them: programs, encodings, columns, paths, labels, copies."""

import logging
import os
import unicodedata

import openpyxl
import pytest

from data_pipeline.datasets.labels import is_missing
from data_pipeline.datasets.manifest import ManifestError, read_manifest
from data_pipeline.datasets.manifest_labels import find_label
from data_pipeline.datasets.registry import read_manifest_set
from data_pipeline.media.text_encoding import decode_text

ROWS = [("path", "label", "subtitle"), ("a.mp4", "happy", "café – “yes”"), ("b.mp4", "sad", "no")]


@pytest.fixture
def folder(tmp_path, caplog):
    caplog.set_level(logging.INFO, "emojax")
    for name in "abcd":
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    return tmp_path


def text_of(separator: str) -> str:
    quoted = [[f'"{cell}"' for cell in row] for row in ROWS]
    return "\r\n".join(separator.join(row) for row in quoted) + "\r\n"


def excel(path):
    book = openpyxl.Workbook()
    for row in ROWS:
        book.active.append(row)
    book.create_sheet("more")
    book.save(path)


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("m.csv", text_of(";").encode(), ""),
        ("m.csv", b"sep=;\r\n" + text_of(";").encode(), ""),
        ("m.tsv", text_of("\t").encode("utf-16"), "read as UTF-16"),
        ("m.txt", text_of("|").encode("utf-8-sig"), ""),
        ("m.csv", text_of(",").encode("cp1252"), "read as Windows-1252"),
        ("m.csv", text_of(",").encode("utf-16-le"), "read as UTF-16"),
        ("m.xlsx", None, "2 sheets, only the first one"),
        (
            "m.jsonl",
            "\n".join(
                f'{{"path": "{a}", "label": "{b}", "subtitle": "{c}"}}' for a, b, c in ROWS[1:]
            ).encode(),
            "",
        ),
    ],
)
def test_tables_of_many_programs_are_the_same_manifest(folder, caplog, name, content, note):
    excel(folder / name) if content is None else (folder / name).write_bytes(content)
    found = read_manifest(folder / name, split_of=lambda _: "test")
    assert [(os.path.basename(r.path), r.label, r.subtitle) for r in found] == ROWS[1:]
    assert note in caplog.text and (note or "is not UTF-8" not in caplog.text)


def test_encodings_are_told_apart():
    chinese = "路径,标签\na.mp4,开心\n"
    for text, encoding, name in (
        (chinese, "gb18030", "GB18030"),
        (chinese, "utf-8", "UTF-8"),
        ("naïve café, it’s “fine”…", "cp1252", "Windows-1252"),
        ("x,é", "utf-16-be", "UTF-16"),
        ("x,y", "utf-16-be", "UTF-16"),
        ("ファイル,ラベル\na.mp4,喜び\n", "cp932", "Shift-JIS"),
        ("файл,метка\na.mp4,радость\nb.mp4,грусть\n", "cp1251", "Windows-1251"),
    ):
        assert decode_text(text.encode(encoding)) == (text, name)
    # a table that was joined from two programs
    mixed = "é路,".encode() + "it’s".encode("cp1252")
    assert decode_text(mixed) == ("é路,it’s", "Windows-1252")
    with pytest.raises(ValueError, match="not text"):
        decode_text(b"\x00\x01\x02\x03ab")


def test_columns_of_other_names(folder):
    path = folder / "m.csv"
    path.write_text("File,Emotion,from,label\na.mp4,happy,0:01.5,x\nb.mp4,sad,1:02:03,y\n")
    columns = {"path": "file", "label": "Emotion", "start": "from"}
    first, second = read_manifest(path, columns=columns)
    assert (first.label, first.start, second.start) == ("happy", 1.5, 3723.0)
    for given, message in (
        ({"path": "file", "label": "emotions"}, "no column 'emotions' among .* mean 'emotion'"),
        ({"pth": "file"}, "no column of a manifest 'pth'; did you mean 'path'. There are path, l"),
        ({}, "no column 'path' among file, emotion.*--columns path=file$"),
    ):
        with pytest.raises(ManifestError, match=message):
            read_manifest(path, columns=given)
    path.write_text("video_id;target class\na.mp4;x\n")
    with pytest.raises(ManifestError, match="--columns path=video_id,label=target class"):
        read_manifest(path)
    path.write_text("file,emotion,label,label\na.mp4,x,,\nb.mp4,y,,\n")
    with pytest.raises(ManifestError, match="'label' occurs twice"):
        read_manifest(path, columns={"path": "file"})
    assert len(read_manifest(path, columns={"path": "file", "label": "emotion"})) == 2


def test_paths_as_other_systems_write_them(folder, monkeypatch):
    (folder / "sub").mkdir()
    name = unicodedata.normalize("NFD", "café.mp4")
    (folder / "sub" / name).write_bytes(b"e")
    lines = [
        "sub\\" + unicodedata.normalize("NFC", "café.mp4"),
        "'a.mp4'",
        (folder / "b.mp4").as_uri(),
        ".\\c.mp4",
        "d.mp4",
    ]
    (folder / "sub" / "m.csv").write_text(
        "path,label\n"
        + "".join(f'"..\\{x}",{i % 2}\n' for i, x in enumerate(lines[:1]))
        + "".join(f"{x},{i % 2}\n" for i, x in enumerate(lines[1:]))
    )
    monkeypatch.chdir(folder)  # the last four are relative to the working folder
    found = [r.path for r in read_manifest(folder / "sub" / "m.csv", labels=("0", "1"))]
    assert [os.path.basename(p) for p in found] == [name, "a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    for text, message in (
        ("A.MP4", "there is no file '.*A.MP4'; did you mean 'a.mp4'"),
        ("a", "did you mean 'a.mp4'"),
        ("C:\\data\\a.mp4", "a path of Windows; write it relative"),
        ("sub", "is a folder"),
        ("gone/x.mp4", "relative paths count from the folder of the manifest"),
    ):
        (folder / "m.csv").write_text(f"path,label\n{text},x\nb.mp4,y\n")
        with pytest.raises(ManifestError, match=message):
            read_manifest(folder / "m.csv")


@pytest.mark.parametrize(
    "word", ["nan", "NaN", "None", "null", "N/A", "NA", "<NA>", "#N/A", "-", "?"]
)
def test_words_of_an_empty_cell_are_no_labels(folder, word):
    assert is_missing(word)
    (folder / "m.csv").write_text(f"path,label\na.mp4,happy\nb.mp4,{word}\nc.mp4,sad\n")
    with pytest.raises(
        ManifestError, match=r"row 3, column 'label': .* empty cell and is not a label"
    ):
        read_manifest(folder / "m.csv")


def test_declared_labels_and_ordinary_words_are_labels(folder):
    assert not any(map(is_missing, ("neutral", "no emotion", "unknown", "0", "other", "ナン")))
    (folder / "m.csv").write_text("path,label\na.mp4,happy\nb.mp4,none\nc.mp4,sad\n")
    labels = ("happy", "sad", "none")
    assert [r.label for r in read_manifest(folder / "m.csv", labels=labels)][1] == "none"


def test_spellings_of_one_label(folder, caplog):
    path = folder / "m.csv"
    path.write_text("path,label\na.mp4,Happy\nb.mp4,sad\nc.mp4,happy\nd.mp4,happy.\n")
    assert {r.label for r in read_manifest(path)} == {"happy", "sad"}
    assert "label 'Happy' (1 row) is read as 'happy'" in caplog.text
    path.write_text("path,label\na.mp4,Anger\nb.mp4,sadness\n")
    found = read_manifest(path, labels=("angry", "sad"))
    assert [r.label for r in found] == ["angry", "sad"]
    path.write_text("path,label\na.mp4,hapy\nb.mp4,sad\n")
    with pytest.raises(
        ManifestError, match="'hapy' is not one of happy, sad; did you mean 'happy'"
    ):
        read_manifest(path, labels=("happy", "sad"))


def test_notes_on_labels(folder, caplog):
    (folder / "m.csv").write_text(
        "path,label,split\na.mp4,happy,train\nb.mp4,sad,train\nc.mp4,hapy,test\nd.mp4,sad,test\n"
    )
    read_manifest(folder / "m.csv")
    assert "label 'hapy' is only in test (1 clip), not in train; is it 'happy'?" in caplog.text
    assert "label 'happy' is only in train (1 clip), not in test" in caplog.text
    assert "'sad'" not in caplog.text
    (folder / "m.csv").write_text("path,label\na.mp4,anger\nb.mp4,angry\nc.mp4,unknown\n")
    read_manifest(folder / "m.csv")
    assert "labels 'anger' and 'angry' mean the same" in caplog.text
    assert "label 'unknown' of 1 clip is used as a class" in caplog.text


def test_the_same_clip_under_another_name(folder, caplog):
    (folder / "again.mp4").write_bytes(b"a")
    (folder / "link.mp4").symlink_to("b.mp4")
    os.link(folder / "c.mp4", folder / "hard.mp4")
    path = folder / "m.csv"
    path.write_text(
        "path,label,split,start,end\na.mp4,x,train,,\nb.mp4,x,train,,\nc.mp4,y,train,0,5\n"
        "again.mp4,y,test,,\nlink.mp4,x,test,,\nhard.mp4,y,test,4,6\nc.mp4,y,val,5,6\n"
    )
    read_manifest(path)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    both, val, labels = warnings
    assert "3 clips of train are also in test (rows 2 and 5: " in both
    assert "rows 3 and 6: " in both and "rows 4 and 7: " in both
    assert "1 clip of val is also in test (rows 8 and 7" in val
    assert "the same clip has two labels: rows 2 'x' and 5 'y'" in labels
    caplog.clear()
    windows = "".join(f"a.mp4,x,train,{i},{i + 2}\n" for i in range(4))
    path.write_text(f"path,label,split,start,end\n{windows}b.mp4,y,train,,\n")
    read_manifest(path)  # windows that overlap in one split are no copies
    assert not caplog.records
    path.write_text("path,label\na.mp4,x\nb.mp4,x\nagain.mp4,x\nc.mp4,y\n")
    for seed in range(8):  # a copy is never held out without its original
        split = {os.path.basename(r.path): r.split for r in read_manifest(path, seed=seed)}
        assert split["a.mp4"] == split["again.mp4"]


def test_a_manifest_is_checked_as_a_data_set(folder):
    (folder / "m.csv").write_text("file,label\na.mp4,x\nb.mp4,y\n")
    contents, files = read_manifest_set(folder / "m.csv", columns={"path": "file"})
    assert [c.dataset.name for c in contents] == ["m"] and files.has(folder / "a.mp4")


def test_columns_under_other_names_are_noted_with_the_option_that_reads_them(folder, caplog):
    caplog.set_level("INFO")
    (folder / "m.csv").write_text("path,label,Actor,age\na.mp4,x,p,3\nb.mp4,y,q,4\n")
    read_manifest(folder / "m.csv")
    assert "columns that are not read: actor, age (to read: --columns speaker=actor)" in caplog.text
    read_manifest(folder / "m.csv", columns={"speaker": "actor"})
    assert "columns that are not read: age\n" in caplog.text


@pytest.mark.parametrize(
    ("native", "expected"),
    [("Anger", "angry"), ("HAPPY.", "happy"), ("neutral", "Neutral"), ("bored", None)],
)
def test_labels_are_found_in_the_spelling_of_a_model(native, expected):
    assert find_label(native, ("angry", "happy", "Neutral")) == expected
