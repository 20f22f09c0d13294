import wave

"""Manifests: every fault is reported with row and column."""

import csv

import pytest

from data_pipeline.datasets.manifest import (
    ManifestError,
    read_manifest,
    read_manifest_table,
    speakers_in_common,
)


@pytest.fixture
def folder(tmp_path):
    for name in "abcdef":
        (tmp_path / f"{name}.mp4").write_bytes(b"x")
    return tmp_path


def write(folder, text: str):
    path = folder / "m.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_manifest(folder):
    path = write(
        folder,
        "Path,label,subtitle,split,speaker,start,end\n"
        'a.mp4,happy,"hi, you",train,p1,,\n'
        f"{folder}/b.mp4,sad,,dev,p2,1.5,3\n",
    )
    first, second = read_manifest(path)
    assert (first.path, first.label, first.labels) == (
        str(folder / "a.mp4"),
        "happy",
        ("happy", "sad"),
    )
    assert (first.subtitle, first.split, first.start, first.end) == ("hi, you", "train", None, None)
    assert (second.split, second.start, second.end, second.speaker) == ("val", 1.5, 3.0, "p2")


def test_without_a_split_column_whole_speakers_are_held_out(folder):
    rows = "".join(f"{n}.mp4,{'x' if i % 2 else 'y'},p{i // 2}\n" for i, n in enumerate("abcdef"))
    records = read_manifest(write(folder, "path,label,speaker\n" + rows))
    assert {r.split for r in records} == {"train", "val"} and not speakers_in_common(records)
    again = read_manifest(write(folder, "path,label\n" + "a.mp4,x\nb.mp4,y\nc.mp4,x\n"))
    assert sorted(r.split for r in again) == ["train", "train", "val"]


def test_blank_rows_and_line_breaks_of_spreadsheets(folder):
    text = (
        'path,label,subtitle\r\na.mp4,x,"first line\nsecond\u2028third"\r\n,,\r\n\r\nb.mp4,y,\r\n'
    )
    path = folder / "m.csv"
    path.write_bytes(text.encode("utf-8-sig"))
    first, second = read_manifest(path, split_of=lambda _: "test")
    assert first.subtitle == "first line second third" and (first.id, second.id) == ("a#2", "b#5")
    assert first.split == second.split == "test"


def test_cells_may_be_long(folder):
    limit = csv.field_size_limit()
    text = f"path,label,subtitle\na.mp4,x,{'word ' * 40_000}\nb.mp4,y,\n"
    assert len(read_manifest(write(folder, text))[0].subtitle) == 199_999
    assert csv.field_size_limit() == limit


def test_ignored_columns_are_listed(folder):
    path = write(folder, "path,label,age,Speaker,note\na.mp4,x,3,p,\nb.mp4,y,4,q,\n")
    assert read_manifest_table(path).ignored == ["age", "note"]
    assert read_manifest(path)[0].speaker == "p"


def test_speakers_in_train_and_test_are_listed(folder):
    text = "path,label,split,speaker\na.mp4,x,train,p\nb.mp4,y,train,q\nc.mp4,y,test,p\n"
    assert speakers_in_common(read_manifest(write(folder, text))) == {"test": ["p"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("path,label\n", "no rows"),
        ("path,emotion\na.mp4,x\n", "no column 'label'"),
        ("path,label,subtitel\na.mp4,x,\n", "did you mean 'subtitle'"),
        ("path,path,label\na.mp4,a.mp4,x\n", "'path' occurs twice"),
        ("path,label\na.mp4,x,y\n", "row 2: 3 cells under 2 columns"),
        ("path,label\na.mp4,Happy\nb.mp4,happy\n", "every row has 'happy'"),
        ("path,label\na.mp4,x\nb.mp4,!!\n", "'!!' contains no word"),
        ("path,label\na.mp4,x\nb.mp4,<VideoHere>\n", "'<VideoHere>' contains no word"),
        (
            "path,label\na.mp4," + "x" * 17_000_000 + "\nb.mp4,y\n",
            "not readable CSV .*field larger",
        ),
        ("path,label\nnone.mp4,x\nb.mp4,y\n", "row 2, column 'path': there is no file"),
        ("path,label\na.mp4,\nb.mp4,y\nc.mp4,x\n", "row 2, column 'label': is empty"),
        (
            "path,label,split\na.mp4,x,traim\nb.mp4,y,train\n",
            "row 2, column 'split': 'traim' is not one of train, val, test; did you mean 'train'",
        ),
        (
            "path,label,start\na.mp4,x,one\nb.mp4,y,\n",
            "row 2, column 'start': 'one' is not a number",
        ),
        ("path,label,start\na.mp4,x,-1\nb.mp4,y,\n", "row 2, column 'start'"),
        (
            "path,label,start,end\na.mp4,x,3,2\nb.mp4,y,,\n",
            "row 2, column 'end': 2 is not after start 3",
        ),
        ("path,label\na.mp4,x\na.mp4,y\n", "row 3, column 'path': the same clip is in row 2"),
        ("path,label\na.mp4,x\nb.mp4,x\n", "every row has 'x'"),
    ],
)
def test_faults(folder, text, message):
    with pytest.raises(ManifestError, match=message):
        read_manifest(write(folder, text))


def test_all_faults_at_once_and_a_models_label_space(folder):
    text = "path,label,split\nnone.mp4,x,train\na.mp4,z,tra\n"
    with pytest.raises(ManifestError) as caught:
        read_manifest(write(folder, text), labels=("x", "y"))
    assert len(str(caught.value).splitlines()) == 3 and "'z' is not one of x, y" in str(
        caught.value
    )
    with pytest.raises(ManifestError, match="no manifest"):
        read_manifest(folder / "gone.csv")
    (folder / "m.csv").write_bytes(b"path,label\na.mp4,\x81\n")
    with pytest.raises(ManifestError, match="not Windows-1252 text .*save it as CSV in UTF-8"):
        read_manifest(folder / "m.csv")


def test_a_span_after_the_end_is_reported_with_the_other_faults(tmp_path):
    """Known before anything is decoded; a second that starts within the file is a span of it."""
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 8000))  # 1 s
    path = tmp_path / "m.csv"
    path.write_text("path,label,start,end\na.wav,x,0.5,9\na.wav,y,5,6\na.wav,,0,1\n")
    with pytest.raises(ManifestError) as refusal:
        read_manifest(path)
    first, second = str(refusal.value).splitlines()
    assert "row 3, column 'start': 5 is not before the end of 'a.wav', which lasts 1.00 s" in first
    assert "row 4, column 'label'" in second
