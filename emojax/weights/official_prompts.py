"""The questions that released models were evaluated with, read from their projects' own files.

This project does not contain them: their wording is part of the other repositories. The files are
parsed, never run.
"""

from __future__ import annotations

import ast
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_pipeline.datasets.benchmarks import BENCHMARKS, Benchmark
from data_pipeline.io import cache_root
from data_pipeline.progress import Progress, no_progress
from emojax.weights.fetch import download

logger = logging.getLogger(__name__)

_RAW = "https://raw.githubusercontent.com"
# {family of models: address of the file, at one commit}.
ADDRESSES = {
    "v2": f"{_RAW}/ooochen-30/Emotion-LLaMA-v2/6d88b83618dc7f4fe88f414f3d5a1f7e791926dd"
    "/minigpt4/datasets/datasets/mer_eval_datasets.py",
    "v1": f"{_RAW}/ZebangCheng/Emotion-LLaMA/2172ee452d56d41bb8380e65d11570a0e6928c68"
    "/minigpt4/datasets/datasets/first_face.py",
}
# Pool of an official class -> task; a class with one task may leave its name out.
_POOL = re.compile(r"(?:(?:emotion_)?([a-z_]+)_)?instruction_pool")
_TASKS = {"multi_label": "multi-label", None: ""}
_V1_CLASS = "FeatureFaceDataset"
_LISTED = "mer2023"  # the set of v2 whose wording serves clips of no set

Questions = dict[str, list[str]]


def official_file(family: str) -> Path:
    """The place of a family's official file in the cache, whether the file exists or not."""
    return cache_root() / "prompts" / family / Path(ADDRESSES[family]).name


def fetch_official(family: str, *, progress: Progress = no_progress) -> Path | None:
    """Downloads the official file of a family of models, unless it is in the cache.

    $EMOJAX_PROMPTS can name the address of a mirror, which has FAMILY/FILE below it.

    Args:
      family: a key of ADDRESSES.
      progress: gets the task "fetch prompts".

    Returns:
      The file; None if it cannot be downloaded, which a warning reports.
    """
    path, mirror = official_file(family), os.environ.get("EMOJAX_PROMPTS")
    address = f"{mirror.rstrip('/')}/{family}/{path.name}" if mirror else ADDRESSES[family]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        download(address, path, task="fetch prompts", progress=progress)
    except OSError as error:
        logger.warning(
            "the official questions cannot be downloaded (%s: %s); this project's own are used, "
            "and scores can differ: repeat the command, or give the file with --questions",
            address,
            error,
        )
        return None
    return path


def read_official(path: Path) -> Questions:
    """The questions in an official file.

    Args:
      path: `mer_eval_datasets.py` of Emotion-LLaMAv2 or `first_face.py` of Emotion-LLaMA.

    Returns:
      {key: wordings} for `config.data.questions`: DATASET/TASK for the sets of v2, and TASK for
      other clips, with `{labels}` in the place of the label list.

    Raises:
      ValueError: it is not such a file.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is not a Python file ({error})") from error
    pools = {c.name: dict(_pools(c)) for c in ast.walk(tree) if isinstance(c, ast.ClassDef)}
    questions = _v1(pools) or _v2(pools)
    if not questions:
        raise ValueError(f"{path} has no questions of Emotion-LLaMA or Emotion-LLaMAv2")
    return questions


def _pools(node: ast.ClassDef) -> Iterator[tuple[str, list[str]]]:
    """(task, wordings) of every `self.X_instruction_pool = [texts]` in a class."""
    for child in ast.walk(node):
        if not isinstance(child, ast.Assign) or not isinstance(child.targets[0], ast.Attribute):
            continue
        pool = _POOL.fullmatch(child.targets[0].attr)
        try:
            texts = ast.literal_eval(child.value) if pool else None
        except ValueError:
            continue
        if pool and isinstance(texts, list) and texts and all(isinstance(t, str) for t in texts):
            yield _TASKS.get(pool[1], pool[1]), texts


def _v1(pools: Mapping[str, Mapping[str, list[str]]]) -> Questions:
    """The questions of Emotion-LLaMA; its list of labels comes after the only colon."""
    own = pools.get(_V1_CLASS, {})
    questions = {task: list(own[task]) for task in ("emotion", "reason") if task in own}
    if "emotion" in questions:
        questions["emotion"] = [
            re.sub(r": [^:.]+\.?$", ": {labels}.", text) for text in questions["emotion"]
        ]
    return questions


def _v2(pools: Mapping[str, Mapping[str, list[str]]]) -> Questions:
    """The questions of Emotion-LLaMAv2, one class per set of MMEVerse-Bench."""
    questions: Questions = {}
    for benchmark in BENCHMARKS.values():
        for texts in _of_set(pools, benchmark):
            questions[f"{benchmark.dataset}/{benchmark.tag or benchmark.task}"] = texts
            if benchmark.name == _LISTED:
                listed = ", ".join(benchmark.labels)
                questions["emotion"] = [t.replace(listed, "{labels}") for t in texts]
    return questions


def _of_set(
    pools: Mapping[str, Mapping[str, list[str]]], benchmark: Benchmark
) -> Iterator[list[str]]:
    """The wordings of one set: class `MER2024SEMIEvalDataset` belongs to `mer2024_semi`."""
    wanted = re.sub("[^a-z0-9]", "", benchmark.name)
    for name, own in pools.items():
        texts = own.get(benchmark.tag or benchmark.task) or own.get("")
        if name.lower() == f"{wanted}evaldataset" and texts:
            yield list(texts)
