"""Annotates clips on a Ray cluster whose nodes share the output folder.

When a node is lost, Ray gives its clips to another node, which reads the stored replies. Needs
`pip install -e '.[cluster]'`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipeline.annotate.annotation import Annotation
from data_pipeline.annotate.describe import Annotator, Unfinished
from data_pipeline.annotate.runner import Job, Work
from data_pipeline.llm.budget import BudgetReached
from data_pipeline.schema import ClipRecord

_CONNECTIONS = contextlib.ExitStack()  # of a worker process, open until it ends
_CLIPS_PER_BLOCK = 4  # few: a block is repeated when its node is lost


@functools.lru_cache(maxsize=1)
def _annotator(pickled_job: bytes) -> Annotator:
    job: Job = pickle.loads(pickled_job)  # noqa: S301 (pickled by `on_cluster`)
    return _CONNECTIONS.enter_context(job.annotator())


def annotate_row(row: dict[str, Any], job: bytes) -> dict[str, Any]:
    """Annotates one clip in a worker process.

    Args:
      row: `record` (JSON) and `media` (hash of its file).
      job: the pickled job.

    Returns:
      `clip` and one of `annotation` (JSON), `unfinished` and `stopped` (why); the others are "".
    """
    record = ClipRecord.from_json(row["record"])
    out = {"annotation": "", "clip": record.id, "unfinished": "", "stopped": ""}
    try:
        annotation = _annotator(job).annotate(record, media=row["media"])
        return out | {"annotation": annotation.to_json()}
    except Unfinished as error:
        return out | {"unfinished": str(error)}
    except BudgetReached as error:
        return out | {"stopped": str(error)}


def on_cluster(*, address: str | None = None, tasks: int | None = None) -> Work:
    """Returns the `work` argument of `runner.run_job` for a Ray cluster.

    Args:
      address: of the cluster, None to start one on this machine.
      tasks: clips to annotate concurrently, None for one per core.

    Raises:
      ValueError: Ray is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(f"Ray is not installed: pip install -e '.[cluster]' ({error})") from error

    def work(
        job: Job, missing: Sequence[tuple[ClipRecord, str]]
    ) -> Iterator[Annotation | tuple[str, str]]:
        if not missing:
            return
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = [{"record": r.to_json(), "media": m} for r, m in missing]
        blocks = max(1, len(rows) // _CLIPS_PER_BLOCK)
        data = ray.data.from_items(rows, override_num_blocks=blocks)
        annotate: Any = functools.partial(annotate_row, job=pickle.dumps(job))
        # Tasks whose node was lost are repeated without limit.
        options: Any = {"max_retries": -1, "retry_exceptions": False}
        for row in data.map(annotate, concurrency=tasks, **options).iter_rows():
            if row["stopped"]:
                raise BudgetReached(row["stopped"])
            if row["annotation"]:
                yield Annotation.from_json(row["annotation"])
            else:
                yield row["clip"], row["unfinished"]

    return work
