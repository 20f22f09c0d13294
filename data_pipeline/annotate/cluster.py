"""The same work on a Ray cluster: clips are spread by Ray Data, every node sees the output folder (a shared file system).

A node that is lost takes its clips with it; Ray gives them to another, which finds the stored replies. Needs `pip install emojax[cluster]`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from data_pipeline.annotate.describe import Annotation, Annotator, Unfinished
from data_pipeline.annotate.runner import Job
from data_pipeline.llm.budget import BudgetReached
from data_pipeline.schema import ClipRecord

_OPEN = contextlib.ExitStack()  # connections of a worker process, open until it ends


@functools.lru_cache(maxsize=1)
def _annotator(job: bytes) -> Annotator:
    import pickle

    return _OPEN.enter_context(pickle.loads(job).annotator())


def annotate_row(row: dict[str, Any], job: bytes) -> dict[str, Any]:
    """One clip, in a worker process: {found} or {clip, unfinished} or {stopped}, all of them texts."""
    record = ClipRecord.from_json(row["record"])
    out = {"found": "", "clip": record.id, "unfinished": "", "stopped": ""}
    try:
        return out | {"found": _annotator(job).annotate(record, row["media"]).to_json()}
    except Unfinished as error:
        return out | {"unfinished": str(error)}
    except BudgetReached as error:
        return out | {"stopped": str(error)}


def on_cluster(
    *, address: str | None = None, tasks: int | None = None
) -> Callable[[Job, Sequence[tuple[ClipRecord, str]]], Iterator[Annotation | tuple[str, str]]]:
    """What `run.run` takes as `work`.

    Args:
      address: of the cluster, None for one that is started here.  tasks: clips at once, None: one a core.

    Raises:
      ValueError: Ray is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(
            f"Ray is not installed: pip install 'emojax[cluster]' ({error})"
        ) from error

    def work(
        job: Job, missing: Sequence[tuple[ClipRecord, str]]
    ) -> Iterator[Annotation | tuple[str, str]]:
        import pickle

        if not missing:
            return
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = [{"record": r.to_json(), "media": m} for r, m in missing]
        # Few clips a block: a block is what is done again when a node is lost.
        data = ray.data.from_items(rows, override_num_blocks=max(1, len(rows) // 4))
        one: Any = functools.partial(annotate_row, job=pickle.dumps(job))
        options: Any = {
            "max_retries": -1,
            "retry_exceptions": False,
        }  # of a task whose node was lost
        done = data.map(one, concurrency=tasks, **options)
        for row in done.iter_rows():
            if row["stopped"]:
                raise BudgetReached(row["stopped"])
            yield (
                Annotation.from_json(row["found"])
                if row["found"]
                else (row["clip"], row["unfinished"])
            )

    return work
