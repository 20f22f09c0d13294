"""Rows of like length in one batch: what is asked is drawn before any picture is read, and sorted by length.

A window of some steps is drawn at once (task, question, tokens; no media); if it is longer than one, its rows are sorted
into batches and the batches come in a drawn order. Every process draws the whole window, so all agree which rows, and which compiled size, a step has.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.loader.mixture import MixedSource
from data_pipeline.loader.tokens import Row, pick_bucket
from data_pipeline.schema import ClipRecord, Example


class ReadRecords:
    """The records of a source that has no list of them, read once each from its elements."""

    def __init__(self, source: Any):
        self._source, self._known = source, dict[int, ClipRecord]()

    def __getitem__(self, index: int) -> ClipRecord:
        if index not in self._known:
            element = self._source[index]
            found = (
                element[0]
                if isinstance(element, tuple)
                else ClipRecord.from_json(bytes(element["record"]))
            )
            self._known[index] = found
        return self._known[index]


class GroupedRows:
    """Position -> (example, row, bucket of its batch, element of its source); a random-access source without end.

    Args:
      mixed: which clip comes next; of its sets, `records` is what is annotated of each clip, in their own order.
      ask: (record, generator) -> (example, row): draws a task and makes its tokens.
      batch: rows of a step on all processes.  steps: of a window.
      buckets: (row length, answer length) that are compiled.  seed: of the draws.
    """

    def __init__(
        self,
        mixed: MixedSource,
        ask: Any,
        batch: int,
        *,
        steps: int,
        buckets: Sequence[tuple[int, int]],
        seed: int,
    ):
        if steps > 1 and mixed.mixture.per == "batch" and len(mixed.sets) > 1:
            raise ValueError(
                "config.data.window mixes the rows of several steps: set config.data.draw to sample"
            )
        self.mixed, self.ask, self.batch, self.steps = mixed, ask, batch, steps
        self.buckets, self.seed = tuple(buckets), seed
        self.records = [getattr(s, "records", None) or ReadRecords(s) for s in mixed.sets]
        self._prepare()

    def _prepare(self) -> None:
        self._lock = threading.Lock()  # reading threads ask for the same window at once
        self._plan = functools.lru_cache(maxsize=32)(self._make_plan)

    def __len__(self) -> int:
        return len(self.mixed)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_plan", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def _draw(self, position: int) -> tuple[ClipRecord, Example, Row]:
        chosen, index = self.mixed.place(position)
        record = self.records[chosen][index]
        example, row = self.ask(
            record, np.random.Generator(np.random.Philox(key=[self.seed, position]))
        )
        return record, example, row

    def _make_plan(
        self, window: int
    ) -> tuple[np.ndarray, list[tuple[int, int]], list[tuple[Example, Row]]]:
        """(position in the window of each row to come, bucket of each of its batches, what was drawn by position)."""
        size = self.batch * self.steps
        drawn = [self._draw(window * size + i)[1:] for i in range(size)]
        lengths = [(len(row.ids), len(row.ids) - row.prompt) for _, row in drawn]

        def bucket(i: int) -> tuple[int, int]:
            return pick_bucket(lengths[i][0], lengths[i][1], self.buckets)

        order = np.arange(size)
        if self.steps > 1:
            order = np.array(sorted(range(size), key=lambda i: (bucket(i), lengths[i], i)))
        batches = order.reshape(self.steps, self.batch)
        rng = np.random.Generator(np.random.Philox(key=[self.seed ^ 0x5EED, window]))
        batches = batches[rng.permutation(self.steps)]
        own = [
            pick_bucket(max(lengths[i][0] for i in b), max(lengths[i][1] for i in b), self.buckets)
            for b in batches
        ]
        return batches.ravel(), own, drawn

    def __getitem__(self, position: Any) -> tuple[Example, Row, tuple[int, int], Any]:
        size = self.batch * self.steps
        window, place = divmod(int(position), size)
        with self._lock:
            order, buckets, drawn = self._plan(window)
        row = int(order[place])
        chosen, index = self.mixed.place(window * size + row)
        return (*drawn[row], buckets[place // self.batch], self.mixed.sets[chosen][index])
