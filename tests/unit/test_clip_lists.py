"""Lists of clips to annotate: folders, manifests, records."""

import pytest

from data_pipeline.annotate.clip_lists import read_clip_list


def test_clips_of_folders_and_lists(tmp_path):
    for name in ("a.mp4", "sub/b.webm", "sub/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = read_clip_list(tmp_path, labels=["happy", "sad"])
    assert [(r.id, r.label, r.split) for r in found] == [
        ("a", "", "unsplit"),
        ("sub/b", "", "unsplit"),
    ]
    (tmp_path / "list.csv").write_text("path,subtitle\na.mp4,hello\nsub/b.webm,\n")
    assert [
        (r.id, r.subtitle) for r in read_clip_list(tmp_path / "list.csv", labels=["happy"])
    ] == [
        ("a", "hello"),
        ("b", ""),
    ]
    (tmp_path / "labelled.csv").write_text("path,label\na.mp4,happy\nsub/b.webm,sad\n")
    assert [(r.id, r.label) for r in read_clip_list(tmp_path / "labelled.csv")] == [
        ("a", "happy"),
        ("b", "sad"),
    ]
    (tmp_path / "spans.csv").write_text(
        "\ufeffPath,label,start,end,split\na.mp4,happy,0,0.5,dev\na.mp4,,0.5,1,\n"
    )
    found = read_clip_list(tmp_path / "spans.csv", labels=["happy", "sad"])
    assert [(r.label, r.start, r.end, r.split) for r in found] == [
        ("happy", 0, 0.5, "val"),
        ("", 0.5, 1, "unsplit"),
    ]
    assert [r.id for r in found] == ["a_0-0.5", "a_0.5-1"]
    # ids do not depend on earlier rows; identical rows have the number of their row
    (tmp_path / "spans.csv").write_text(
        "path,start,end\na.mp4,1.25,\na.mp4,0,0.5\nsub/b.webm,,\na.mp4,0.5,1\n"
    )
    assert [r.id for r in read_clip_list(tmp_path / "spans.csv")] == [
        "a_1.25-end",
        "a_0-0.5",
        "b",
        "a_0.5-1",
    ]
    (tmp_path / "twice.csv").write_text("path,start,end\na.mp4,,\na.mp4,,\na.mp4,2,3\n")
    assert [r.id for r in read_clip_list(tmp_path / "twice.csv")] == ["a#2", "a#3", "a_2-3"]
    (tmp_path / "words.csv").write_text(
        "path,subtitle\na.mp4,one\u2028line\x85only\nsub/b.webm,x\n", encoding="utf-8"
    )
    assert [r.subtitle for r in read_clip_list(tmp_path / "words.csv")] == [
        "one\u2028line\x85only",
        "x",
    ]
    for text, fault in [
        ("path,label\na.mp4,glad\n", "'glad' is not one of"),
        ("path,split\na.mp4,x\n", "not one of train"),
        ("path,start,end\na.mp4,2,1\n", "row 2, column 'end': 1 is not after start 2"),
        ("path\n", "no rows"),
        (
            "path,start\na.mp4,1;5\n",
            "row 2, column 'start': '1;5' is not a number of seconds",
        ),
        (
            "path,label\na.mp4,glad\nno.mp4,sad\na.mp4,sad\n",
            "(?s)row 2, column 'label'.*\n.*row 3, column 'path'.*no.mp4'$",
        ),
        ("path\n" + "no.mp4\n" * 23, "(?s)row 21,.*and 3 more$"),
    ]:
        (tmp_path / "f.csv").write_text(text)
        with pytest.raises(ValueError, match=fault):
            read_clip_list(tmp_path / "f.csv", labels=["happy", "sad"])
    (tmp_path / "bad.csv").write_text("file\na.mp4\n")
    with pytest.raises(ValueError, match="no column 'path'"):
        read_clip_list(tmp_path / "bad.csv")
    (tmp_path / "blank.csv").write_text("path,subtitle\na.mp4,one  two\n,\n\na.mp4,x\n")
    assert [(r.id, r.subtitle) for r in read_clip_list(tmp_path / "blank.csv")] == [
        ("a#2", "one  two"),  # as it is written: the key of an annotation depends on it
        ("a#5", "x"),
    ]
    (tmp_path / "gone.csv").write_text("path\nnone.mp4\n")
    with pytest.raises(ValueError, match="row 2, column 'path': there is no file"):
        read_clip_list(tmp_path / "gone.csv")
