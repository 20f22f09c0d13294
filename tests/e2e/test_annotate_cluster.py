"""A Ray cluster of two nodes, one of which is killed, makes the same records as threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from annotators import Faulty, chat
from chat_server import serve

from data_pipeline.embedded.generate import make_corpus
from data_pipeline.embedded.truth import CorpusConfig

JOB = Path(__file__).parents[1] / "cluster_job.py"
CLIPS = 40


def records(out):
    """The annotations, which do not depend on the order of replies."""
    return [json.loads(x) for x in (out / "annotations.jsonl").read_text().splitlines()]


def test_two_nodes_one_killed(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[cluster]'")
    corpus = make_corpus(
        config=CorpusConfig(train=0, val=0, test=CLIPS, size=64), folder=tmp_path / "corpus"
    )
    outs, counts = {}, {}
    for name in ("local", "cluster"):
        faulty = Faulty(every=10**9)
        with serve(chat(faulty)) as server:
            # the same models: an annotation depends on who is asked
            command = [
                sys.executable,
                str(JOB),
                str(corpus),
                str(tmp_path / name),
                server.url,
                name,
            ]
            env = os.environ | {
                "JAX_PLATFORMS": "cpu",
                "RAY_USAGE_STATS_ENABLED": "0",
                "PYTHONWARNINGS": "ignore",
            }
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        outs[name], counts[name] = records(tmp_path / name), faulty
        if name == "cluster":
            assert "killed a node" in done.stdout
    assert len(outs["local"]) == CLIPS
    for own, other in zip(outs["local"], outs["cluster"], strict=True):
        assert {k: v for k, v in own.items() if k != "key"} == {
            k: v for k, v in other.items() if k != "key"
        }
    assert len(counts["cluster"].good) == len(counts["local"].good)
