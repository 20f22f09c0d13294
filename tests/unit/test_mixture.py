"""Which clip comes next: every clip once a pass, shards disjoint, any position at once, any number of workers."""

from collections import Counter

import grain
import numpy as np
import pytest

from data_pipeline.mixture import MixedSource, Mixture
from data_pipeline.pipeline import BatchIterator


def test_positions_count_each_set_without_gaps():
    mixture = Mixture((1.0, 3.0, 2.0), seed=5)
    counts: Counter[int] = Counter()
    for position in range(40_000):  # over the border of two blocks
        chosen, before = mixture.locate(position)
        assert before == counts[chosen]
        counts[chosen] += 1
    assert mixture.locate(40_000_000)[1] > 6_000_000 // 6
    assert Mixture((1.0, 3.0, 2.0), seed=6).locate(7) != () and [
        Mixture((1.0, 3.0), 6).locate(i)[0] for i in range(64)
    ] != [Mixture((1.0, 3.0), 7).locate(i)[0] for i in range(64)]


def test_every_clip_once_a_pass():
    source = MixedSource({"a": (list(range(7)), 1.0), "b": (list(range(100, 104)), 2.0)}, 3, "sample", 4)
    drawn = [source[i] for i in range(3000)]
    for own in (range(7), range(100, 104)):
        mine = [x for x in drawn if x in own]
        passes = [mine[i : i + len(own)] for i in range(0, len(mine) - len(own), len(own))]
        assert all(sorted(p) == list(own) for p in passes) and len({tuple(p) for p in passes}) > 1
    with pytest.raises(ValueError, match="'b' of the mixture holds no clip"):
        MixedSource({"a": ([1], 1.0), "b": ([], 1.0)}, 3, "sample", 4)
    with pytest.raises(ValueError, match="above 0"):
        Mixture((1.0, 0.0), 1)


class Draw(grain.transforms.RandomMap):
    def random_map(self, element: int, rng: np.random.Generator) -> tuple[int, int]:
        return element, int(rng.integers(1 << 30))


def batches(per: str, process: int = 0, count: int = 1, workers: int = 0) -> BatchIterator:
    sources = {"a": (range(64), 1.0), "b": (range(1000, 1064), 1.0)}
    mixed = grain.MapDataset.source(MixedSource(sources, 9, per, 4 * count)).seed(9).random_map(Draw())
    rows = mixed.batch(4, drop_remainder=True, batch_fn=list)
    rows = rows[process::count] if count > 1 else rows
    return BatchIterator(rows, grain.ReadOptions(num_threads=2, prefetch_buffer_size=4), workers)


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_processes_take_their_own_rows_of_each_step(per):
    whole = MixedSource({"a": (range(64), 1.0), "b": (range(1000, 1064), 1.0)}, 9, per, 12)
    parts = [batches(per, p, 3) for p in range(3)]
    for step in range(6):
        rows = [[e for e, _ in next(part)] for part in parts]
        assert sum(rows, []) == [whole[step * 12 + i] for i in range(12)]
        if per == "batch":
            assert len({e >= 1000 for row in rows for e in row}) == 1
    seen = [e for p in range(3) for _, b in zip(range(2), batches("sample", p, 3), strict=False) for e, _ in b]
    assert len(set(seen)) == len(seen) == 24


def test_going_on_with_another_number_of_workers():
    whole = batches("sample")
    expected = [next(whole) for _ in range(9)]
    first = batches("sample", workers=2)
    assert [next(first) for _ in range(4)] == expected[:4]
    state = first.get_state()
    for workers in (0, 1, 3):
        rest = batches("sample", workers=workers)
        rest.set_state(state)
        assert [next(rest) for _ in range(5)] == expected[4:], workers
