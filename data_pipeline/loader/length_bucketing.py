"""Groups rows of similar length into batches, before any media are read.

The rows of a window of several steps are drawn at once (task, question and tokens, no media),
sorted by length and divided into batches, which come in random order. Every process draws the whole
window, so all of them agree on the rows and the compiled size of each step.
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


class LazyRecords:
    """The records of a source without a list of them; each is read from its element once."""

    def __init__(self, source: Any):
        self._source, self._records = source, dict[int, ClipRecord]()

    def __getitem__(self, index: int) -> ClipRecord:
        if index not in self._records:
            element = self._source[index]
            self._records[index] = (
                element[0]
                if isinstance(element, tuple)
                else ClipRecord.from_json(bytes(element["record"]))
            )
        return self._records[index]


class BucketedRows:
    """An infinite source: position -> (example, row, bucket of its batch, stored element).

    Args:
      mixed: chooses the clips; the `records` of each of its data sets are the records of its
        elements, in the same order.
      draw_row: (record, generator) -> (example, row); draws a task and tokenizes it.
      batch: number of rows of a step on all processes.
      steps: number of steps in a window.
      buckets: compiled sizes (row length, answer length).
      seed: of the draws.

    Raises:
      ValueError: the mixture draws one data set per step, but a window mixes steps.
    """

    def __init__(
        self,
        mixed: MixedSource,
        draw_row: Any,
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
        self.mixed, self.draw_row, self.batch, self.steps = mixed, draw_row, batch, steps
        self.buckets, self.seed = tuple(buckets), seed
        self.records = [getattr(s, "records", None) or LazyRecords(s) for s in mixed.sets]
        self._prepare()

    def _prepare(self) -> None:
        self._lock = threading.Lock()  # several reading threads may need the same window
        self._plan = functools.lru_cache(maxsize=32)(self._make_plan)

    def __len__(self) -> int:
        return len(self.mixed)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_plan", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def _draw(self, position: int) -> tuple[Example, Row]:
        chosen, index = self.mixed.locate(position)
        rng = np.random.Generator(np.random.Philox(key=[self.seed, position]))
        example, row = self.draw_row(self.records[chosen][index], rng)
        return example, row

    def _make_plan(
        self, window: int
    ) -> tuple[np.ndarray, list[tuple[int, int]], list[tuple[Example, Row]]]:
        """Plans the batches of a window.

        Returns:
          (int[n] drawn position in the window of each row in order, bucket of each batch, what was
          drawn at each position in the window).
        """
        size = self.batch * self.steps
        drawn = [self._draw(window * size + i) for i in range(size)]
        lengths = [(len(row.ids), len(row.ids) - row.prompt) for _, row in drawn]

        def bucket(i: int) -> tuple[int, int]:
            return pick_bucket(lengths[i][0], lengths[i][1], self.buckets)

        order = np.arange(size)
        if self.steps > 1:
            order = np.array(sorted(range(size), key=lambda i: (bucket(i), lengths[i], i)))
        batches = order.reshape(self.steps, self.batch)
        rng = np.random.Generator(np.random.Philox(key=[self.seed ^ 0x5EED, window]))
        batches = batches[rng.permutation(self.steps)]
        buckets = [
            pick_bucket(max(lengths[i][0] for i in b), max(lengths[i][1] for i in b), self.buckets)
            for b in batches
        ]
        return batches.ravel(), buckets, drawn

    def __getitem__(self, position: Any) -> tuple[Example, Row, tuple[int, int], Any]:
        size = self.batch * self.steps
        window, offset = divmod(int(position), size)
        with self._lock:
            order, buckets, drawn = self._plan(window)
        row = int(order[offset])
        chosen, index = self.mixed.locate(window * size + row)
        return (*drawn[row], buckets[offset // self.batch], self.mixed.sets[chosen][index])
