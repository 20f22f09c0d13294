"""LLM judges: clue and label overlap (EMER), open vocabulary (MER2024-OV), reasoning.

A result records the judge (the requested model, and the one that the server reports), the hashes of
the prompts and the seed. Scores of two judges are never mixed: if several models answered under one
name, each has its own mean, and there is no overall mean. Unusable replies are counted and left
out; each mean comes with its number of clips.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from data_pipeline.llm.client import ChatClient
from data_pipeline.llm.endpoint import prompt_hash
from data_pipeline.progress import Progress, no_progress
from emojax.evaluate import statistics
from emojax.evaluate.judge_prompts import TASKS
from emojax.evaluate.judge_tasks import JudgedClip, task_function
from emojax.evaluate.predictions import Prediction
from emojax.evaluate.sufficient_statistics import SufficientStatistics


def judge(
    task: str,
    rows: Sequence[Prediction],
    references: Mapping[str, str],
    client: ChatClient,
    *,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Judges predictions; an interrupted run continues from the stored replies.

    Args:
      task: one of `judge_prompts.TASKS`.
      rows: the predictions.
      references: reference text by clip; for `ov` the true words.
      client: queries the judge.
      progress: reports the questions that are answered.

    Returns:
      task, judge, n, scored, not_scored (by reason), server_says (by reason, the server's words),
      scores ({name: {mean, interval}}, None unless exactly one model answered), by_model, faults,
      requests, tokens (with the number of replies whose tokens are `estimated`) and cost (of all
      replies that were used), this_run (tokens and cost of this run), and clips.

    Raises:
      ValueError: the task is unknown, there are no rows, or a clip has no reference.
      EndpointError: the endpoint cannot be used.
    """
    if task not in TASKS:
        raise ValueError(f"there is no task '{task}'; tasks: {', '.join(TASKS)}")
    if without := next((r.clip for r in rows if not references.get(r.clip)), None):
        raise ValueError(f"clip '{without}' has no reference to compare with")
    if not rows:
        raise ValueError("there is no clip to judge")
    judged = task_function(task)(
        rows, references, client, lambda _, done, total: progress(f"judge {task}", done, total)
    )
    by_model = _means_by_model(rows, judged)
    one = next(iter(by_model.values())) if len(by_model) == 1 else None
    return {
        "task": task,
        "judge": _judge_facts(client, task, sorted(by_model)),
        "n": len(rows),
        "scored": sum(bool(j.scores) for j in judged),
        "not_scored": dict(Counter(j.fault for j in judged if not j.scores)),
        "server_says": {j.fault: j.message for j in judged if not j.scores and j.message},
        "scores": {k: v for k, v in one.items() if k != "n"} if one else None,
        "by_model": by_model,
        "faults": dict(sorted(client.faults.items())),
        "requests": client.requests_sent,
        **_costs(client),
        "clips": [_clip_entry(j) for j in judged],
    }


def _costs(client: ChatClient) -> dict[str, Any]:
    prompt, reply = client.tokens_used
    estimated = {"estimated": client.estimated} if client.estimated else {}
    paid_prompt, paid_reply = client.tokens_paid
    return {
        "tokens": {"prompt": prompt, "reply": reply, **estimated},
        "cost": client.cost(client.tokens_used),
        "this_run": {
            "prompt": paid_prompt,
            "reply": paid_reply,
            "cost": client.cost(client.tokens_paid),
        },
    }


def _clip_entry(judged: JudgedClip) -> dict[str, Any]:
    faults = {"fault": judged.fault, "server_says": judged.message}
    return {
        "video_id": judged.clip,
        **judged.scores,
        **{key: text for key, text in faults.items() if text},
    }


def _judge_facts(client: ChatClient, task: str, answered: list[str]) -> dict[str, Any]:
    return {
        "asked_for": client.endpoint.model,
        "answered": answered,
        "url": client.endpoint.url,
        "temperature": client.endpoint.temperature,
        "seed": client.endpoint.seed,
        **({"left_out": list(left_out)} if (left_out := client.endpoint.left_out) else {}),
        "prompts": [prompt_hash(p) for p in TASKS[task]],
    }


def _means_by_model(
    rows: Sequence[Prediction], judged: Sequence[JudgedClip]
) -> dict[str, dict[str, Any]]:
    groups = {r.clip: r.group for r in rows}
    by_model: dict[str, dict[str, Any]] = {}
    for model in sorted({j.model for j in judged if j.scores}):
        clips = [j for j in judged if j.scores and j.model == model]
        clip_groups = [groups[j.clip] for j in clips]
        by_model[model] = {"n": len(clips)} | {
            name: mean_with_interval([j.scores[name] for j in clips], clip_groups)
            for name in clips[0].scores
        }
    return by_model


def mean_with_interval(values: Sequence[float], groups: Sequence[str]) -> dict[str, Any]:
    """{mean, interval} of one value per clip, resampled over speakers or videos."""
    per_clip = scipy.sparse.csr_matrix(
        np.stack([np.ones(len(values)), np.asarray(values, float)], axis=1)
    )
    sums = SufficientStatistics(
        per_clip, lambda s: {"mean": s[..., 1] / np.maximum(s[..., 0], 1e-12)}, "mean"
    )
    return {
        "mean": float(np.mean(values)),
        "interval": statistics.intervals(sums, groups).get("mean"),
    }


def judge_agreement(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """How far two judges agree on the same clips.

    Args:
      first: result of `judge`.
      second: result of `judge` with another judge.

    Returns:
      judges, n, and for each score: spearman, quadratic_kappa, mean_difference and
      mean_absolute_difference.

    Raises:
      ValueError: the tasks differ, or no clip was scored by both.
    """
    from scipy import stats

    if first["task"] != second["task"]:
        raise ValueError(f"the judges did different tasks: {first['task']} and {second['task']}")
    a, b = ({c["video_id"]: c for c in j["clips"] if "fault" not in c} for j in (first, second))
    both = sorted(set(a) & set(b))
    if not both:
        raise ValueError("no clip was scored by both judges")
    out: dict[str, Any] = {
        "judges": [j["judge"]["answered"] for j in (first, second)],
        "n": len(both),
        "scores": {},
    }
    values: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for clip in both:
        for name in a[clip]:
            if name != "video_id" and name in b[clip]:
                values[name][0].append(a[clip][name])
                values[name][1].append(b[clip][name])
    for name, (x, y) in values.items():
        constant = len(set(x)) < 2 or len(set(y)) < 2
        integers = all(float(v).is_integer() for v in (*x, *y))
        out["scores"][name] = {
            "spearman": None if constant else float(stats.spearmanr(x, y).statistic),
            "quadratic_kappa": _quadratic_kappa(x, y) if integers and not constant else None,
            "mean_difference": float(np.mean(np.subtract(y, x))),
            "mean_absolute_difference": float(np.mean(np.abs(np.subtract(y, x)))),
        }
    return out


def _quadratic_kappa(x: Sequence[float], y: Sequence[float]) -> float:
    """Cohen's kappa with quadratic weights over the whole scale, including unused scores."""
    from sklearn.metrics import cohen_kappa_score

    scale = list(range(int(min(*x, *y)), int(max(*x, *y)) + 1))
    return float(
        cohen_kappa_score(
            [int(v) for v in x], [int(v) for v in y], labels=scale, weights="quadratic"
        )
    )
