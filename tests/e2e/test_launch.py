"""launch_tpu.sh against a stand-in for gcloud that records calls and answers them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAIN = ["--", "--config=configs/v2.py:stage1_pod", "--out=gs://bucket/a run"]


@pytest.fixture
def cloud(tmp_path):
    """(home of the stand-in, function that runs the launcher)."""
    bin_folder, home = tmp_path / "bin", tmp_path / "cloud"
    bin_folder.mkdir(), home.mkdir()
    (bin_folder / "gcloud").write_text(
        f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/fake_gcloud.py "$@"\n'
    )
    (bin_folder / "gcloud").chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "FAKE": str(home),
        "POLL": "0",
    }
    env.pop("PORT", None)

    def launch(*words: str) -> subprocess.CompletedProcess:
        command = ["bash", str(ROOT / "launch_tpu.sh"), *words]
        return subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
        )

    return home, launch


def calls(home: Path) -> list[list[str]]:
    return [json.loads(line) for line in (home / "calls.jsonl").read_text().splitlines()]


def verbs(home: Path) -> list[str]:
    return [c[3] + (":train" if any("emojax.train" in w for w in c) else "") for c in calls(home)]


def test_create_push_run_teardown_is_what_the_dry_run_prints(cloud):
    home, launch = cloud
    dry = launch("--dry-run", "pod", "us-west4-a", "v5litepod-16", *TRAIN)
    assert dry.returncode == 0 and not (home / "calls.jsonl").exists(), dry.stderr
    done = launch("pod", "us-west4-a", "v5litepod-16", *TRAIN)
    assert done.returncode == 0, done.stderr
    assert "step 1  loss 1.0" in done.stdout
    assert verbs(home) == ["describe", "create", "scp", "ssh", "ssh:train", "delete"]
    import shlex

    printed = [shlex.split(line)[1:] for line in dry.stdout.splitlines()]
    assert printed == [c for c in calls(home) if c[3] != "describe"]
    create = calls(home)[1]
    assert "--accelerator-type=v5litepod-16" in create and "--version=v2-alpha-tpuv5-lite" in create
    assert all("--zone=us-west4-a" in c for c in calls(home))
    train = calls(home)[4]
    assert "--worker=all" in train and "--out=gs://bucket/a\\ run" in train[-1]
    assert "EMOJAX_DISTRIBUTED=auto" in train[-1] and not (home / "state").exists()


def test_an_existing_slice_is_used_again_and_kept(cloud):
    home, launch = cloud
    (home / "state").write_text("READY")
    assert launch("pod", "z", "v6e-16", "--keep", *TRAIN).returncode == 0
    assert verbs(home) == ["describe", "scp", "ssh", "ssh:train"]
    assert (home / "state").exists()


@pytest.mark.parametrize(
    ("then", "again"), [("PREEMPTED", ["delete", "create"]), ("gone", ["create"])]
)
def test_after_preemption_the_slice_is_created_again(cloud, then, again):
    home, launch = cloud
    (home / "script").write_text(json.dumps([{"code": 255, "then": then}, {"code": 0}]))
    done = launch("pod", "z", "v5p-8", "--spot", *TRAIN)
    assert done.returncode == 0, done.stderr
    assert "restarting from the last checkpoint" in done.stderr
    first = ["describe", "create", "scp", "ssh", "ssh:train", "describe"]
    assert verbs(home) == [*first, "describe", *again, "scp", "ssh", "ssh:train", "delete"]
    assert "--preemptible" in calls(home)[1] and "--version=v2-alpha-tpuv5" in calls(home)[1]


def test_a_worker_that_saved_and_stopped_is_restarted_but_not_after_an_error(cloud):
    home, launch = cloud
    (home / "script").write_text(json.dumps([{"code": 143}, {"code": 2}, {"code": 0}]))
    done = launch("pod", "z", "v4-16", *TRAIN)
    assert done.returncode == 2 and "training on pod failed with exit code 2" in done.stderr
    assert verbs(home).count("ssh:train") == 2 and verbs(home)[-1] == "delete"


def test_retries_end(cloud):
    home, launch = cloud
    (home / "script").write_text(json.dumps([{"code": 255, "then": "gone"}] * 5))
    done = launch("pod", "z", "v4-16", "--retries", "2", *TRAIN)
    assert done.returncode == 255 and "gave up after 2 restarts" in done.stderr
    assert verbs(home).count("ssh:train") == 3


@pytest.mark.parametrize(
    ("codes", "more", "code", "says"),
    [
        ([1], [], 1, "installing the code on pod failed with exit code 1"),
        ([1], ["--keep"], 1, "pod is kept and will be used"),
        ([255, 0], [], 0, "exit code 255); restarting"),
        ([255] * 3 + [0], [], 255, "installing the code on pod failed with exit code 255"),
    ],
)
def test_a_failed_installation_is_named(cloud, codes, more, code, says):
    home, launch = cloud
    (home / "install").write_text(json.dumps(codes))
    done = launch("pod", "z", "v4-16", *more, *TRAIN)
    assert done.returncode == code and says in done.stderr
    assert verbs(home).count("ssh") == len(codes) - (code == 255)
    assert ("ssh:train" in verbs(home)) == (code == 0)
    assert (verbs(home)[-1] == "delete") == (not more)
    assert code == 0 or "run the same command again" in done.stderr


def test_a_slice_that_cannot_be_created(cloud):
    home, launch = cloud
    (home / "no_quota").write_text("")
    done = launch("pod", "z", "v4-16", *TRAIN)
    assert done.returncode == 1 and "creating pod failed with exit code 1" in done.stderr
    assert "QUOTA_EXCEEDED" in done.stderr and "scp" not in verbs(home)


def test_queued_slices(cloud):
    home, launch = cloud
    done = launch("pod", "z", "v5litepod-16", "--slices", "2", "--project", "p", *TRAIN)
    assert done.returncode == 0, done.stderr
    create = next(c for c in calls(home) if c[3] == "create")
    assert (
        create[2] == "queued-resources"
        and "--node-count=2" in create
        and "--node-prefix=pod" in create
    )
    assert [c[4] for c in calls(home) if any("emojax.train" in w for w in c)] and all(
        "--project=p" in c for c in calls(home)
    )
    assert sorted(c[4] for c in calls(home) if any("emojax.train" in w for w in c)) == [
        "pod-0",
        "pod-1",
    ]


def test_down_and_wrong_arguments(cloud):
    home, launch = cloud
    (home / "state").write_text("READY")
    assert launch("pod", "z", "v4-8", "--down").returncode == 0 and verbs(home) == ["delete"]
    assert (
        launch("pod").returncode == 2 and launch("--what", "pod", "z", "t", *TRAIN).returncode == 2
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pod", "z", "v99", *TRAIN], "is not a valid type of slice"),
        (["my pod;x", "z", "v4-8", *TRAIN], "the name of a slice"),
        (["pod", "z", "v4-8", "--", "--config=configs/tiny.py"], "would be lost with the slice"),
        (
            ["pod", "z", "v4-8", "--", "--config=configs/tiny.py", "--out=runs/x"],
            "would be lost with the slice",
        ),
        (
            ["pod", "z", "v4-8", "--", "--confg=configs/tiny.py", "--out=gs://b/x"],
            "--config=FILE is missing",
        ),
        (
            ["pod", "z", "v4-8", "--", "--config=configs/nope.py", "--out=gs://b/x"],
            "there is no configuration",
        ),
        (["pod", "z", "v4-8", "--slices", "0", *TRAIN], "--slices must be a whole number"),
        (["--local"], "--local must be a whole number"),
        (["--local", "x", *TRAIN], "--local must be a whole number"),
    ],
)
def test_refused_before_anything_is_paid_for(cloud, words, says):
    home, launch = cloud
    done = launch(*words)
    assert done.returncode == 2 and says in done.stderr and not (home / "calls.jsonl").exists()


def test_bash_can_parse_it():
    assert (
        shutil.which("bash")
        and subprocess.run(["bash", "-n", str(ROOT / "launch_tpu.sh")]).returncode == 0
    )
