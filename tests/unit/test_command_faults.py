"""What a command says when it cannot go on, and its exit code: typing errors, disks, Ctrl-C."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, run_command
from etils import epath

from emojax.cli import corpus_cmd
from emojax.cli.faults import file_fault
from emojax.cli.interrupts import Interrupts
from emojax.cli.main import main
from emojax.train.run_folder import describe_progress, open_run_folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predcit", "a.mp4"], "there is no command 'predcit'; did you mean 'predict'? There are"),
        (["Train"], "did you mean 'train'?"),
        (["version"], "did you mean --version?"),
        (["weights", "improt", "x"], "there is no action 'improt'; did you mean 'import'?"),
        (
            ["predict", "a.mp4", "--lable-only"],
            "no option --lable-only; did you mean --label-only?",
        ),
        (["predict", "a.mp4", "--modle=m"], "no option --modle; did you mean --model?"),
        (["predict", "a.mp4", "-json"], "there is no option -json; did you mean --json?"),
        (["train", "--manifst=m.csv"], "there is no option --manifst; did you mean --manifest?"),
        (["train", "--manifest", "m.csv"], "--out is missing"),
        (["predict"], "missing: PATH"),
        (["weights"], "missing: action, one of list, show, verify, import"),
        (["plan"], "missing: what, one of weights, train"),
        (["weights", "show", "emotion-lama"], "no folder 'emotion-lama'; there is no model 'em"),
        (["weights", "show", "emotion-lama"], "did you mean 'emotion-llama'?"),
        (["weights", "show", "/"], "/ has no manifest.json: it is not an imported model; models"),
        (["predict", "a.mp4", "--embed", "alwyas"], "not one of auto, always, never; did you mean"),
        (["predict", "a.mp4", "--shard", "3/2"], "'3/2' is not a part: give I/N"),
        (["suites", "-qqqq"], "there is no option -qqqq\n"),
        (
            ["train", "--preset=tiny:poeple", "--manifest=m", "--out=o"],
            "did you mean 'tiny:people'?",
        ),
        (
            ["demo", "--config.optim.rl=1"],
            "no field config.optim.rl; did you mean config.optim.lr?",
        ),
        (["plan", "weights", "--preset=v2:stage3"], "did you mean 'v2:stage2'?"),
        (
            ["train", "--config.optim.lr", "x", "--config=tiny:test"],
            "config.optim.lr is 'x'; it must",
        ),
        (["train", "--config=tiny:test", "--sets=a", "--cache=c"], "--cache needs --data"),
        (["sweep", "run", "fusoin", "--out=o"], "no sweep 'fusoin'; did you mean 'fusion'?"),
        (["predict", "a.mp4", "--timeline", "--formats=jsn"], "'jsn' is not one of json, csv"),
        (["data", "list", "x"], "not understood: x"),
        (["annotate", "c", "--leave-out=max_token"], "is not one of temperature"),
        (["annotate", "c", "--leave-out=max_token"], "did you mean 'max_tokens'?"),
        (["annotate", "c", "--rename=sede=s"], "did you mean 'seed'?"),
    ],
)
def test_wrong_words_are_answered_on_stderr_with_the_right_ones(tmp_path, words, message):
    done = run_command(tmp_path, *words, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and not done.stdout
    assert [p.name for p in tmp_path.iterdir()] in ([], ["cache"]), "nothing is left behind"


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("emojax 0.1.0 (jax 0.")


def fail(error: BaseException):
    """A command that ends with an exception."""

    def run(*_):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "OUT: the disk is full; free some"),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), "/x/y: the file system is read-on"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: permission denied; change"),
        (FileNotFoundError(errno.ENOENT, "No such file", "m.csv"), "m.csv: there is no such file"),
        (FileExistsError(errno.EEXIST, "File exists", "o"), "o exists already and is a file"),
        (OSError(errno.ENOSPC, "full", "a", None, "b"), "b: the disk is full"),
        # of safetensors and of TensorStore
        (RuntimeError("I/O error: No space left on device (os error 28)"), "OUT: the disk is full"),
        (ValueError("no preset"), "no preset"),
    ],
)
def test_faults_of_disks_are_one_sentence(tmp_path, monkeypatch, error, says):
    monkeypatch.setattr(corpus_cmd, "run", fail(error))
    done = run_command(tmp_path, "corpus", "--out", "OUT")
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and lines[0].startswith(f"emojax corpus: {says}")
    assert len(lines) == (1 if type(error) is ValueError else 2)


def test_only_full_disks_are_looked_for_behind_an_error():
    saving, reading = RuntimeError("cannot save"), ValueError("there is no manifest 'x'")
    saving.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    reading.__cause__ = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x")
    assert "the disk is full" in file_fault(saving) and file_fault(reading) == ""


def test_other_exceptions_are_not_hidden(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_cmd, "run", fail(AttributeError("a fault of the program")))
    with pytest.raises(AttributeError, match="a fault of the program"):
        main(["corpus"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has it")
def test_output_into_a_full_disk():
    command = [sys.executable, "-m", "emojax.cli", "suites", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.startswith("emojax suites: the output: the disk is")
    assert len(done.stderr.splitlines()) == 1


INTERRUPTED = """
import os, signal, sys
from emojax.cli import corpus_cmd, main
def run(*_):
    {body}
corpus_cmd.run = run
sys.argv[1:] = ["corpus"]
sys.exit(main.main())
"""
LOST = """
    import gc, time
    def lose(*_):
        gc.callbacks.remove(lose)
        os.kill(os.getpid(), signal.SIGINT)
    gc.callbacks.append(lose)
    gc.collect()
    time.sleep(20)
"""
CONVERTED = """
    try:
        os.kill(os.getpid(), signal.SIGINT)
        import time; time.sleep(20)
    except KeyboardInterrupt:
        raise ImportError("numpy could not be imported") from None
"""


@pytest.mark.parametrize("body", [LOST, CONVERTED], ids=["lost", "converted"])
def test_ctrl_c_counts_wherever_it_arrives(body):
    """In a callback of a library the exception is lost, in an import it becomes another one."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(body=body.strip())],
        cwd=ROOT, capture_output=True, text=True, timeout=15,
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    expected = (
        "emojax corpus: stopped; the corpus is incomplete; run the same command again to make"
    )
    assert done.stderr.strip().startswith(expected) and "Traceback" not in done.stderr


class Fails:
    """An exception that Python cannot raise, as those of TensorStore's threads."""

    def __init__(self, text: str):
        self.text = text

    def __del__(self):
        raise RuntimeError(self.text)


def test_late_writes_of_a_failed_checkpoint_are_not_printed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    with Interrupts():
        Fails("Event loop is closed")
        assert capsys.readouterr().err == ""
        Fails("a fault of the program")
        assert "RuntimeError: a fault of the program" in capsys.readouterr().err
    assert sys.unraisablehook is sys.__unraisablehook__


@pytest.mark.parametrize(
    ("options", "file", "kept"),
    [
        (["--resume", "r.jsonl"], "r.jsonl", "answers are kept in r.jsonl"),
        (["--timeline", "--out", "o"], "o/a.unfinished.jsonl", "answered segments are kept"),
        (["--timeline"], "a-emotions/a.unfinished.jsonl", "answered segments are kept"),
        (["--report", "p/a.html"], "p/a.unfinished.jsonl", "answered segments are kept"),
    ],
)
def test_ctrl_c_says_what_is_kept_and_nothing_else(tmp_path, monkeypatch, options, file, kept):
    monkeypatch.setattr("emojax.cli.predict_cmd.run", fail(KeyboardInterrupt()))
    done = run_command(tmp_path, "predict", "a.mp4", *options, cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "emojax predict: stopped\n"
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("{}\n")
    done = run_command(tmp_path, "predict", "a.mp4", *options, cwd=tmp_path)
    assert done.stderr == f"emojax predict: stopped; {kept}; run the same command again to go on\n"


@pytest.mark.parametrize(
    ("words", "file", "what"),
    [
        (["judge"], "o/replies/a.json", "replies are kept in o/replies"),
        (["evaluate", "--endpoint", "http://a/v1"], "o/a.jsonl", "answers are kept in o"),
        (["annotate"], "o/a.jsonl", "what is annotated is kept in o"),
        (["data", "check", "r"], "o/a.jsonl", "what is finished is kept in o"),
    ],
)
def test_only_files_that_exist_are_said_to_be_kept(tmp_path, monkeypatch, words, file, what):
    monkeypatch.setattr(f"emojax.cli.{words[0]}_cmd.run", fail(KeyboardInterrupt()))
    done = run_command(tmp_path, *words, "--out", "o", cwd=tmp_path)
    assert "stopped; nothing was written; run the same" in done.stderr
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("{}\n")
    done = run_command(tmp_path, *words, "--out", "o", cwd=tmp_path)
    assert f"stopped; {what}; run the same command again to go on" in done.stderr


def test_what_a_run_has_saved(tmp_path):
    tmp_path = epath.Path(tmp_path)
    assert describe_progress(tmp_path).startswith(
        "no checkpoint is saved yet; run the same command"
    )
    for stage, step in (("perception", 8), ("cognition", 4)):
        (tmp_path / "checkpoints" / stage / str(step)).mkdir(parents=True)
        os.utime(tmp_path / "checkpoints" / stage / str(step), (step == 4, step == 4))
    (tmp_path / "checkpoints" / "cognition" / "6.orbax-checkpoint-tmp").mkdir()
    assert "step 4 of stage cognition is saved" in describe_progress(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    assert "is trained and saved; run the same command again to score it" in describe_progress(
        tmp_path
    )


def test_folders_that_were_made_in_vain_are_removed(tmp_path):
    (tmp_path / "there").mkdir()
    for name, left in (("there/a/b", False), ("there", True)):
        with pytest.raises(KeyError), open_run_folder(str(tmp_path / name)):
            raise KeyError
        assert (tmp_path / name).exists() == left
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    with pytest.raises(KeyError), open_run_folder(str(tmp_path / "used")) as folder:
        (folder / "log.jsonl").write_text("{}\n")
        raise KeyError
    assert (tmp_path / "used" / "log.jsonl").exists()
