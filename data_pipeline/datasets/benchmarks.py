"""The eighteen sets of MMEVerse-Bench: which clips are answered, which are scored, and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from data_pipeline.datasets import bold, caer, e3, mafw, mc_eiu, mer
from data_pipeline.datasets.dataset import DatasetContents
from data_pipeline.datasets.labels import concept
from data_pipeline.schema import ClipRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One set of MMEVerse-Bench.

    Attributes:
      name: of its prediction file in MMEVerse.
      dataset: the data set of its clips.
      task: the label task that is scored.
      labels: of its prompt, in their order.
      modes: parts that are answered, as the data set names them.
      scored_modes: parts that are scored.
      metric: hit_rate, open_vocabulary, two_class, single or multi_label.
      included_labels: only clips of these labels take part; () includes all.
      scored_as: (label, label that it is scored as).
      tag: of the prompt, when it is not the task.
    """

    name: str
    dataset: str
    task: str
    labels: tuple[str, ...]
    modes: tuple[str, ...]
    scored_modes: tuple[str, ...]
    metric: str
    included_labels: tuple[str, ...] = ()
    scored_as: tuple[tuple[str, str], ...] = ()
    tag: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkClip:
    """A clip of a benchmark.

    Attributes:
      record: the clip.
      truth: its label, in the spelling of the prompt if the prompt has it.
      raw: its label in the spelling of its file, which the released evaluation writes as answer.
      scored: whether the clip is scored, or only answered.
    """

    record: ClipRecord
    truth: str
    raw: str
    scored: bool


_SENTIMENTS = ("Neutral", "Negative", "Positive")
_OPEN = ("angry", "happy", "joyful", "dissatisfied", "worry", "positive", "excited", "surprised",
         "concern", "relaxed", "sad", "serious", "nervous", "pleasant", "accusation", "concerned",
         "warning", "confused", "delighted")  # fmt: skip
_ALL_MODES = ("test", "val", "valid", "validation", "dev")


def _emotions(
    name: str, dataset: str, labels: tuple[str, ...], *, metric: str = "single"
) -> Benchmark:
    """A set with one emotion per clip: test and validation parts are answered, test is scored."""
    return Benchmark(
        name=name,
        dataset=dataset,
        task="emotion",
        labels=labels,
        modes=_ALL_MODES,
        scored_modes=("test",),
        metric=metric,
    )


def _sentiments(
    name: str,
    dataset: str,
    *,
    labels: tuple[str, ...] = _SENTIMENTS,
    modes: tuple[str, ...] = ("test",),
    metric: str = "two_class",
) -> Benchmark:
    """A set with one sentiment per clip."""
    return Benchmark(
        name=name,
        dataset=dataset,
        task="sentiment",
        labels=labels,
        modes=modes,
        scored_modes=("test",),
        metric=metric,
    )


def _multi_label(name: str, dataset: str, labels: tuple[str, ...], *, mode: str) -> Benchmark:
    """A set with several emotions per clip; one part is answered and scored."""
    return Benchmark(
        name=name,
        dataset=dataset,
        task="multi-label",
        labels=labels,
        modes=(mode,),
        scored_modes=(mode,),
        metric="multi_label",
    )


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="mer2023",
            dataset="mer2023",
            task="emotion",
            labels=mer.EMOTIONS,
            modes=("test1", "test2", "test3"),
            scored_modes=("test1",),
            metric="hit_rate",
        ),
        # In MMEVerse's file the scored rows are those whose MER2023_mode is `other`; the
        # challenge's own files contain only scored rows.
        Benchmark(
            name="mer2024_semi",
            dataset="mer2024",
            task="emotion",
            labels=mer.EMOTIONS,
            modes=("test_semi", "other", "test1", "test2", "test3"),
            scored_modes=("test_semi", "other"),
            metric="hit_rate",
        ),
        _emotions(
            "meld_emotion",
            "meld",
            ("anger", "disgust", "fear", "joy", "neutral", "sad", "surprise"),
            metric="hit_rate",
        ),
        Benchmark(
            name="iemocap",
            dataset="iemocap",
            task="emotion",
            labels=("Anger", "Sadness", "Happiness"),
            modes=("Session5",),
            scored_modes=("Session5",),
            metric="hit_rate",
            included_labels=("Anger", "Neutral", "Sadness", "Happiness", "Excited"),
            scored_as=(("Excited", "Happiness"),),
        ),
        Benchmark(
            name="ov_merd+",
            dataset="ov_merd+",
            task="open-vocabulary",
            labels=_OPEN,
            modes=("test",),
            scored_modes=("test",),
            metric="open_vocabulary",
            tag="multi-label",
        ),
        _sentiments("cmu_mosi", "cmu_mosi", modes=_ALL_MODES),
        _sentiments("cmu_mosei", "cmu_mosei", modes=_ALL_MODES),
        _sentiments("ch_sims_v2_s", "ch_sims_v2_s"),
        _sentiments("sims", "sims", labels=("Positive", "Negative")),
        _emotions("caer", "caer", caer.EMOTIONS),
        _emotions(
            "dfew", "dfew", ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
        ),
        _emotions("e3", "e3", e3.EMOTIONS),
        Benchmark(
            name="mafw",
            dataset="mafw",
            task="emotion",
            labels=mafw.EMOTIONS,
            modes=("test",),
            scored_modes=("test",),
            metric="single",
        ),
        _sentiments("meld_sentiment", "meld", modes=_ALL_MODES, metric="single"),
        _emotions("mc_eiu_emotion", "mc_eiu", mc_eiu.EMOTIONS),
        Benchmark(
            name="mc_eiu_intent",
            dataset="mc_eiu",
            task="intent",
            labels=mc_eiu.INTENTS,
            modes=_ALL_MODES,
            scored_modes=("test",),
            metric="single",
        ),
        _multi_label("mafw_multi", "mafw", mafw.EMOTIONS, mode="test"),
        _multi_label("bold", "bold", bold.EMOTIONS, mode="val"),
    )
}


def benchmark_clips(
    benchmark: Benchmark, contents: DatasetContents, *, fold: str | None = None
) -> Iterator[BenchmarkClip]:
    """Clips of one benchmark.

    Args:
      benchmark: the benchmark.
      contents: its data set.
      fold: of a data set with folds; None uses the first one.
    """
    folds = sorted({r.fold for r in contents.records if r.split != "unsplit"})
    selected = fold if fold is not None else (folds[0] if folds else "")
    scored_as = dict(benchmark.scored_as)
    for record in contents.records:
        target = record.target(benchmark.task)
        if record.fold != selected or record.mode not in benchmark.modes:
            continue
        if target is None or not target.label:
            continue
        if benchmark.included_labels and target.label not in benchmark.included_labels:
            continue
        truth = scored_as.get(target.label, target.label)
        in_prompt = next((x for x in benchmark.labels if concept(x) == concept(truth)), truth)
        yield BenchmarkClip(
            record=record,
            truth=in_prompt,
            raw=truth if target.label in scored_as else target.native,
            scored=record.mode in benchmark.scored_modes,
        )
