"""Answers that a stopped run of `predict` continues, and parts for several machines."""

import json

import pytest

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
    whole, file = tmp_path / "whole.jsonl", tmp_path / "r.jsonl"
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
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["r.jsonl", "whole.jsonl"]


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


def test_answers_of_another_model_and_a_second_writer_are_refused(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"path": "a", "model": "v2@/models/one"}) + "\n")
    file = AnswerFile(path)
    file.check_model("v2@/models/one")
    with pytest.raises(ValueError, match="answers of another model, v2@/models/one: choose"):
        file.check_model("v2@/models/two")
    with (
        file.writing(),
        pytest.raises(ValueError, match="another process writes into"),
        AnswerFile(path).writing(),
    ):
        pass
