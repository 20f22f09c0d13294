"""Benchmark suites: the sets of each, how they are asked and scored, and the suite's one figure.

The eighteen sets of MMEVerse-Bench and their selection rules are in
data_pipeline/datasets/benchmarks.py. This file groups them and adds the sets that other papers
score.
"""

from __future__ import annotations

import dataclasses

from data_pipeline.datasets.benchmarks import BENCHMARKS, Benchmark
from data_pipeline.suggestions import nearest

# metric -> the official score that represents a set
PRIMARY = {
    "hit_rate": "hit_rate",
    "open_vocabulary": "f_s",
    "two_class": "weighted_f1",
    "single": "weighted_f1",
    "multi_label": "f1_micro",
    "last_word": "weighted_f1",
    "none": "",
}
# metric -> the strict score that represents a set
STRICT_PRIMARY = {
    "hit_rate": "uar",
    "open_vocabulary": "f_s",
    "two_class": "weighted_f1",
    "single": "uar",
    "multi_label": "f1_micro",
    "last_word": "weighted_f1",
}
METRICS = tuple(m for m in PRIMARY if m != "none")
# metric -> folder of a set's predictions in the layout that the official script reads
FOLDERS = {
    "hit_rate": "MERUniBench-ht",
    "open_vocabulary": "MERUniBench-ht",
    "two_class": "MERUniBench-nn",
    "multi_label": "Multi",
    "single": "Single",
}


@dataclasses.dataclass(frozen=True)
class Member:
    """One set of a suite.

    Attributes:
      benchmark: selection, question and metric.
      fold: the fold of a set with folds; None is its first.
      primary: (mode, score) that enters the suite's figure; the mode is `released` or `strict`, and
        an empty score is the metric's own.
    """

    benchmark: Benchmark
    fold: str | None = None
    primary: tuple[str, str] = ("released", "")

    @property
    def name(self) -> str:
        """The name in files and tables."""
        return self.benchmark.name + (f"_{self.fold}" if self.fold else "")

    @property
    def folder(self) -> str:
        """Folder of its predictions below `predictions/`."""
        return FOLDERS.get(self.benchmark.metric, "Other")

    @property
    def primary_score(self) -> tuple[str, str]:
        """(mode, score) that enters the suite's figure."""
        mode, score = self.primary
        return mode, score or PRIMARY[self.benchmark.metric]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """A named benchmark.

    Attributes:
      name: what `--suite` takes.
      title: the name in papers.
      members: its sets.
      figure: description of the suite's figure, the unweighted mean of its sets' primary scores.
      note: what to know before comparing the figure.
    """

    name: str
    title: str
    members: tuple[Member, ...]
    figure: str
    note: str = ""


_SIX = BENCHMARKS["mer2023"].labels


def _last_word(name: str, dataset: str, *modes: str) -> Benchmark:
    """A set that is scored by the last word of each answer."""
    return Benchmark(
        name=name,
        dataset=dataset,
        task="emotion",
        labels=_SIX,
        modes=modes,
        scored_modes=modes,
        metric="last_word",
    )


OTHER_SETS: dict[str, Benchmark] = {
    b.name: b
    for b in (
        _last_word("mer2023_semi", "mer2023", "test3"),
        _last_word("mer2024_semi_waf", "mer2024", "test_semi", "other"),
        _last_word("mer2024_noise", "mer2024", "test_noise"),
        Benchmark(
            name="mer2024_ov",
            dataset="mer2024_ov",
            task="open-vocabulary",
            labels=BENCHMARKS["ov_merd+"].labels,
            modes=("test",),
            scored_modes=("test",),
            metric="open_vocabulary",
            tag="multi-label",
        ),
        dataclasses.replace(
            BENCHMARKS["iemocap"],
            name="iemocap_4",
            labels=("Anger", "Happiness", "Neutral", "Sadness"),
            metric="single",
        ),
        Benchmark(
            name="emer",
            dataset="emer_v1",
            task="emotion",
            labels=_SIX,
            modes=("test",),
            scored_modes=("test",),
            metric="none",
            tag="reason_v2",
        ),
    )
}
SETS: dict[str, Benchmark] = BENCHMARKS | OTHER_SETS

_UNIBENCH = (
    "mer2023",
    "mer2024_semi",
    "meld_emotion",
    "iemocap",
    "cmu_mosi",
    "cmu_mosei",
    "sims",
    "ch_sims_v2_s",
    "ov_merd+",
)
_MEAN = "mean of the sets' primary scores"


def _members(*names: str, primary: tuple[str, str] = ("released", "")) -> tuple[Member, ...]:
    return tuple(Member(SETS[name], None, primary) for name in names)


def _folds(name: str, numbers: range, primary: tuple[str, str]) -> tuple[Member, ...]:
    return tuple(Member(SETS[name], str(n), primary) for n in numbers)


SUITES: dict[str, Suite] = {
    s.name: s
    for s in (
        Suite(
            name="mmeverse-bench",
            title="MMEVerse-Bench",
            members=_members(*BENCHMARKS),
            figure=(
                f"{_MEAN}: hit rate, F_s, weighted F1 (sentiment and one label), micro F1 (several "
                "labels)"
            ),
            note=(
                "the paper does not say which score it uses for its single-label and multi-label "
                "sets"
            ),
        ),
        Suite(
            name="mer-unibench",
            title="MER-UniBench",
            members=_members(*_UNIBENCH),
            figure=f"{_MEAN}: hit rate, F_s, weighted F1",
        ),
        Suite(
            name="mer2023-semi",
            title="MER2023-SEMI",
            members=_members("mer2023_semi"),
            figure="weighted F1, the last word of an answer",
        ),
        Suite(
            name="mer2024-semi",
            title="MER2024-SEMI",
            members=_members("mer2024_semi_waf"),
            figure="weighted F1, the last word of an answer",
        ),
        Suite(
            name="mer2024-noise",
            title="MER2024-NOISE",
            members=_members("mer2024_noise"),
            figure="weighted F1, the last word of an answer",
        ),
        Suite(
            name="mer2024-ov",
            title="MER2024-OV",
            members=_members("mer2024_ov"),
            figure="F_s over wheels",
            note="the challenge groups words by a language model: `emojax judge --task ov`",
        ),
        Suite(
            name="dfew",
            title="DFEW, fold 1",
            members=(Member(SETS["dfew"], "1", ("strict", "uar")),),
            figure="UAR (WAR is the accuracy next to it)",
            note="most papers report the mean of five folds: suite dfew-5",
        ),
        Suite(
            name="dfew-5",
            title="DFEW, five folds",
            members=_folds("dfew", range(1, 6), ("strict", "uar")),
            figure="mean UAR of the folds",
        ),
        Suite(
            name="mafw",
            title="MAFW, fold 1",
            members=(Member(SETS["mafw"], "1", ("strict", "uar")),),
            figure="UAR",
        ),
        Suite(
            name="mafw-5",
            title="MAFW, five folds",
            members=_folds("mafw", range(1, 6), ("strict", "uar")),
            figure="mean UAR of the folds",
        ),
        Suite(
            name="meld",
            title="MELD",
            members=_members("meld_emotion", "meld_sentiment", primary=("strict", "weighted_f1")),
            figure="mean weighted F1 of emotion and sentiment, neutral counted",
        ),
        Suite(
            name="iemocap",
            title="IEMOCAP, four classes, Session 5",
            members=_members("iemocap_4", primary=("strict", "uar")),
            figure="UAR",
        ),
        Suite(
            name="emer",
            title="EMER",
            members=_members("emer"),
            figure="clue and label overlap, by a judge",
            note=(
                "predictions are written here; `emojax judge --task clue-overlap` and "
                "`--task label-overlap` score them"
            ),
        ),
    )
}


def find_suite(name: str) -> Suite:
    """A suite, or one set as a suite of its own.

    Raises:
      ValueError: there is no suite or set of this name.
    """
    if name in SUITES:
        return SUITES[name]
    if name in SETS:
        return Suite(name=name, title=name, members=_members(name), figure="its primary score")
    near = nearest(name, [*SUITES, *SETS])
    hint = f"; did you mean '{near}'? Suites" if near else "; suites"
    raise ValueError(
        f"there is no suite '{name}'{hint}: {', '.join(SUITES)}; sets: {', '.join(SETS)}"
    )
