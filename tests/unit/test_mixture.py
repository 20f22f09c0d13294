"""Mixture and batches: every clip once per epoch, disjoint shards, any number of workers."""

from collections import Counter

import grain
import numpy as np
import pytest

from data_pipeline.loader.batches import BatchIterator, train_iterator
from data_pipeline.loader.length_bucketing import LazyRecords
from data_pipeline.loader.mixture import MixedSource, Mixture
from data_pipeline.loader.samples import NAMES, RowConfig
from data_pipeline.loader.tasks import StageTasks
from data_pipeline.loader.tokens import SmallTokenizer
from data_pipeline.media.views import ViewConfig, Views
from data_pipeline.schema import ClipRecord


def test_positions_count_each_set_without_gaps():
    mixture = Mixture(weights=(1.0, 3.0, 2.0), seed=5)
    counts: Counter[int] = Counter()
    for position in range(40_000):  # across the border of two blocks
        chosen, before = mixture.locate(position)
        assert before == counts[chosen]
        counts[chosen] += 1
    assert mixture.locate(40_000_000)[1] > 6_000_000 // 6
    assert Mixture(weights=(1.0, 3.0, 2.0), seed=6).locate(7) != () and [
        Mixture(weights=(1.0, 3.0), seed=6).locate(i)[0] for i in range(64)
    ] != [Mixture(weights=(1.0, 3.0), seed=7).locate(i)[0] for i in range(64)]


def test_every_clip_once_per_epoch():
    source = MixedSource(
        {"a": (range(70), 1.0), "b": (range(100, 140), 2.0)},
        seed=3,
        per="sample",
        batch=4,
    )
    drawn = [source[i] for i in range(3000)]
    for clips in (range(70), range(100, 140)):
        of_set, n = [x for x in drawn if x in clips], len(clips)
        epochs = [of_set[i : i + n] for i in range(0, len(of_set) - n, n)]
        assert all(sorted(e) == list(clips) for e in epochs) and len({tuple(e) for e in epochs}) > 1
    with pytest.raises(ValueError, match="'b' of the mixture contains no clip"):
        MixedSource({"a": ([1], 1.0), "b": ([], 1.0)}, seed=3, per="sample", batch=4)
    with pytest.raises(ValueError, match="must be positive"):
        Mixture(weights=(1.0, 0.0), seed=1)


class Draw(grain.transforms.RandomMap):
    def random_map(self, element: int, rng: np.random.Generator) -> tuple[int, int]:
        return element, int(rng.integers(1 << 30))


def batches(per: str, process: int = 0, count: int = 1, workers: int = 0) -> BatchIterator:
    sources = {"a": (range(64), 1.0), "b": (range(1000, 1064), 1.0)}
    mixed = (
        grain.MapDataset.source(MixedSource(sources, seed=9, per=per, batch=4 * count))
        .seed(9)
        .random_map(Draw())
    )
    rows = mixed.batch(4, drop_remainder=True, batch_fn=list)
    rows = rows[process::count] if count > 1 else rows
    return BatchIterator(rows, grain.ReadOptions(num_threads=2, prefetch_buffer_size=4), workers)


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_processes_take_their_own_rows_of_each_step(per):
    whole = MixedSource(
        {"a": (range(64), 1.0), "b": (range(1000, 1064), 1.0)}, seed=9, per=per, batch=12
    )
    parts = [batches(per, p, 3) for p in range(3)]
    for step in range(6):
        rows = [[e for e, _ in next(part)] for part in parts]
        assert [e for row in rows for e in row] == [whole[step * 12 + i] for i in range(12)]
        if per == "batch":
            assert len({e >= 1000 for row in rows for e in row}) == 1
    seen = [
        e
        for p in range(3)
        for _, b in zip(range(2), batches("sample", p, 3), strict=False)
        for e, _ in b
    ]
    assert len(set(seen)) == len(seen) == 24


def test_resuming_with_another_number_of_workers():
    whole = batches("sample")
    expected = [next(whole) for _ in range(9)]
    first = batches("sample", workers=2)
    assert [next(first) for _ in range(4)] == expected[:4]
    state = first.get_state()
    for workers in (0, 3):
        resumed = batches("sample", workers=workers)
        resumed.set_state(state)
        assert [next(resumed) for _ in range(5)] == expected[4:], workers


class Spoken:
    """A source whose clips differ only in the length of their transcripts."""

    def __init__(self, count: int):
        rng = np.random.default_rng(0)
        views = Views(
            image=np.zeros((4, 4, 3), np.uint8),
            frames=np.zeros((1, 4, 4, 3), np.uint8),
            sound=np.zeros((8, 2), np.float32),
            audio_frames=0,
            has_video=True,
            has_audio=True,
        )
        self.views = views
        self.records = [
            ClipRecord(
                id=f"c{i}",
                dataset="d",
                split="train",
                path="/c.mp4",
                label="sad",
                labels=("sad", "happy"),
                subtitle="word " * int(rng.integers(1, 60)),
            )
            for i in range(count)
        ]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index):
        return self.records[int(index)], self.views


def spoken(window: int, process: int = 0, count: int = 1, batch: int = 8) -> BatchIterator:
    rows = RowConfig(
        views=ViewConfig(image_size=4, frame_size=4, num_frames=1, mels=2, seconds=0.08),
        placeholders=(("<VideoHere>", 4),),
        buckets=((64, 8), (128, 8), (256, 8), (400, 8)),
        max_answer=8,
        max_subtitle=300,
    )
    tokenizer = SmallTokenizer.train(
        ["word sad happy The person in video says: [emotion] Name the emotion"], 300
    )
    stage = StageTasks(style="perception", tasks=("emotion",))
    return train_iterator(
        {"d": (Spoken(96), 1.0)},
        stage,
        tokenizer,
        config=rows,
        batch=batch,
        seed=1,
        threads=1,
        prefetch=2,
        shard=(process, count),
        window=window,
    )


def waste(batches: list[dict]) -> float:
    return 1 - sum(b["row_tokens"].sum() for b in batches) / sum(b["ids"].size for b in batches)


def test_sorting_by_length_wastes_less_and_loses_nothing():
    plain, sorted_ = spoken(1), spoken(12)
    one, other = [next(plain) for _ in range(12)], [next(sorted_) for _ in range(12)]
    assert (
        sorted(n for b in other for n in b[NAMES])
        == sorted(n for b in one for n in b[NAMES])
        == sorted(f"d/c{i}" for i in range(96))
    )
    assert waste(other) < 0.65 * waste(one), (waste(other), waste(one))
    lengths = [int(b["row_tokens"].mean()) for b in other]
    assert lengths != sorted(lengths)  # short rows do not all come first
    again = spoken(12)
    again.set_state({"next_index": 7})
    assert [next(again)[NAMES] for _ in range(5)] == [b[NAMES] for b in other[7:]]


@pytest.mark.parametrize("window", [1, 4])
def test_all_processes_have_the_same_size_in_a_step(window):
    parts = [spoken(window, p, 3) for p in range(3)]  # 4 steps of 24 rows: one epoch
    names = []
    for _ in range(4):
        step = [next(part) for part in parts]
        assert len({b["ids"].shape for b in step}) == 1
        names += [n for b in step for n in b[NAMES]]
    assert len(set(names)) == 96


def test_the_rows_of_a_step_do_not_depend_on_the_number_of_processes():
    alone, parts = spoken(1, 0, 1, batch=24), [spoken(1, p, 3) for p in range(3)]
    for _ in range(3):
        whole, step = next(alone), [next(part) for part in parts]
        assert whole[NAMES] == [n for b in step for n in b[NAMES]]
        np.testing.assert_array_equal(whole["ids"], np.concatenate([b["ids"] for b in step]))


def test_records_of_a_source_without_a_list_are_read_from_its_elements():
    record = ClipRecord(
        id="c1", dataset="d", split="train", path="/c1.mp4", label="a", labels=("a", "b")
    )
    read = LazyRecords(
        [(record, None), {"record": np.frombuffer(record.to_json().encode(), np.uint8)}]
    )
    assert read[0] is record and read[1] == record and read[1] is read[1]
