"""Answers that a stopped run of `predict` continues, and parts for several machines."""

import contextlib
import json
import os
import threading
from pathlib import Path

import pytest

from data_pipeline.datasets.table_files import read_table
from data_pipeline.io import try_lock
from emojax.cli.faults import file_fault
from emojax.workflows.answer_file import AnswerFile, Todo, part_of

FILES = [f"clip{i}.wav" for i in range(7)]


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 9])
def test_parts_are_equal_and_in_order(parts):
    found = [part_of(FILES, (i, parts)) for i in range(1, parts + 1)]
    sizes = [len(part) for part in found]
    assert [name for part in found for name in part] == FILES and max(sizes) - min(sizes) <= 1
    assert part_of([], (1, parts)) == []


def answer(todo: Todo, *, most: int) -> None:
    """Answers at most this many of the files."""
    with todo.writing():
        for path in todo.missing[:most]:
            error = "damaged" if path == "clip2.wav" else None
            todo.add({"path": path, "label": "happy \N{SNOWMAN}", "error": error})


def test_a_stopped_run_goes_on(tmp_path):
    """One line a file, in the order of a run that was not stopped."""
    whole, file = tmp_path / "new" / "whole.jsonl", tmp_path / "r.jsonl"
    answer(Todo.of(FILES, part=None, resume=str(whole)), most=9)
    answer(Todo.of(FILES, part=None, resume=str(file)), most=3)
    with file.open("ab") as damaged:
        damaged.write(b'{"path": "clip3.wav", "label": "hap')
    todo = Todo.of(FILES, part=None, resume=str(file))
    assert todo.missing == FILES[3:] and todo.refused == 1
    answer(todo, most=9)
    assert todo.refused == 1 and file.read_bytes() == whole.read_bytes()
    again = Todo.of([*FILES, "new.wav", "new.wav"], part=None, resume=str(file))
    assert again.missing == ["new.wav"] and again.refused == 1
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["new", "r.jsonl"]


def test_without_a_file_everything_is_answered(tmp_path):
    todo = Todo.of(FILES, part=(2, 2), resume=None)
    answer(todo, most=9)
    assert todo.missing == todo.part == FILES[3:] and todo.refused == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["my notes", "a,b\n1,2\n", '{"x": 1}\n', '[{"path": "a"}]\n'])
def test_other_files_are_refused_and_stay(tmp_path, text):
    (tmp_path / "notes.txt").write_text(text)
    with pytest.raises(ValueError, match="line 1: this is not an answer of `emojax predict --json"):
        AnswerFile(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == text


CLIP = {"path": "a", "model": "v2@/models/one", "probabilities": {"happy": 0.9, "sad": 0.1}}
TRACK = {"schema": 1, "path": "a", "model": "v2@/models/one", "labels": ["sad"], "segments": []}


@pytest.mark.parametrize(
    ("row", "question", "says"),
    [
        (CLIP, {}, ""),
        (CLIP, {"labels": ["sad", "happy"]}, ""),
        ({"path": "a", "error": "damaged", "probabilities": {}}, {}, ""),
        (CLIP, {"model": "v2@/models/two"}, "answers of another model, v2@/models/one"),
        (CLIP, {"labels": ["happy", "angry"]}, "answers with the labels happy, sad"),
        (CLIP, {"is_recording": True}, "single answers"),
        (TRACK, {}, "emotion tracks"),
        (TRACK, {"is_recording": True, "labels": ["sad"]}, ""),
        (TRACK, {"is_recording": True}, "answers with the labels sad"),
    ],
)
def test_answers_to_another_question_are_refused(tmp_path, row, question, says):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(row) + "\n")
    same = {"model": "v2@/models/one", "labels": ["happy", "sad"], "is_recording": False}
    refusal = pytest.raises(ValueError, match=f"r.jsonl holds {says}.*: choose another file for")
    with refusal if says else contextlib.nullcontext():
        AnswerFile(path).check_question(**(same | question))


def test_a_second_writer_is_refused(tmp_path):
    path = tmp_path / "r.jsonl"
    first, second = AnswerFile(path), AnswerFile(path)
    with first.writing():
        first.add(CLIP)
        with pytest.raises(ValueError, match="another process writes into"), second.writing():
            pass
    with pytest.raises(ValueError, match="has written into .*r.jsonl meanwhile"), second.writing():
        pass
    assert json.loads(path.read_text()) == CLIP
    assert [f.name for f in tmp_path.iterdir()] == ["r.jsonl"]  # no lock file is left


def test_what_is_not_a_file_is_refused_at_once(tmp_path):
    """A device may never end, and nobody may ever write into a pipe."""
    os.mkfifo(tmp_path / "pipe")
    for place, kind in (
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a pipe or a device"),
        (Path("/dev/full"), "a pipe or a device"),
    ):
        with pytest.raises(ValueError, match=f"{place} is {kind}: give a file for --resume"):
            AnswerFile(place)


def test_a_file_that_cannot_be_made_is_named():
    """Not said to be in use by another process."""
    file = AnswerFile(Path("/proc/r.jsonl"))
    with pytest.raises(FileNotFoundError, match="/proc/r.jsonl"), file.writing():
        pass
    with pytest.raises(FileNotFoundError):
        try_lock(Path("/proc/.lock"), "in use")


def test_devices_are_not_read_as_input(tmp_path):
    link = tmp_path / "units.csv"
    link.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="device") as error:
        read_table(link)
    assert file_fault(error.value) == f"{link} is a device, where a file is expected"
    link.unlink()
    os.mkfifo(link)
    threading.Thread(target=link.write_text, args=("name,label\na,sad\n",)).start()
    assert read_table(link).rows == [(2, ["a", "sad"])]
