"""Every data set by name, the twelve that MMEVerse trains on and the eighteen sets of its benchmark."""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_pipeline.datasets import (  # fmt: skip
    bold,
    caer,
    dfew,
    e3,
    iemocap,
    images,
    mafw,
    mc_eiu,
    meld,
    mer,
    merr,
    open_vocabulary,
    others,
    sentiment,
)
from data_pipeline.datasets.dataset import DataSet, Found, read_dataset
from data_pipeline.datasets.labels import concept
from data_pipeline.datasets.reading import Files
from data_pipeline.schema import ClipRecord

_SETS = (
    mer.MER2023, meld.SET, iemocap.SET, caer.SET, e3.SET, dfew.SET, mafw.SET, mc_eiu.SET, sentiment.MOSI, sentiment.MOSEI,
    sentiment.SIMS_V2, bold.SET, sentiment.SIMS, mer.MER2024, merr.COARSE, merr.FINE_SET, open_vocabulary.MER2024_OV,
    open_vocabulary.EMER_V1, open_vocabulary.EMER_V2, open_vocabulary.OV_MERD, open_vocabulary.OV_MERD_PLUS,
    others.CREMA_D_SET, others.RAVDESS_SET, others.FERV39K_SET,
    others.JAVA_SED_SET, *images.SETS,
)  # fmt: skip
DATASETS: dict[str, DataSet] = {s.name: s for s in _SETS}
TRAINING = ("mer2023", "meld", "iemocap", "caer", "e3", "dfew", "mafw", "mc_eiu", "cmu_mosi", "cmu_mosei",
            "ch_sims_v2_s", "bold")  # fmt: skip
IMAGES = tuple(s.name for s in images.SETS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One set of MMEVerse-Bench.

    Attributes:
      name: as MMEVerse names its prediction file.  dataset: where its clips are from.
      task: which label is the truth.  tag: of the prompt, where it is another.  asked: labels of its prompt in their order.
      modes: the set's own words for the parts that are answered.  scored: those that are scored.
      metric: hit_rate, open_vocabulary, two_class, single or multi_label.
      kept: only clips of these (unified) labels take part; () keeps all.
      renamed: (label, label it is scored as).
    """

    name: str
    dataset: str
    task: str
    asked: tuple[str, ...]
    modes: tuple[str, ...]
    scored: tuple[str, ...]
    metric: str
    kept: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    tag: str = ""


_SIX = ("angry", "happy", "neutral", "sad", "surprise", "worried")
_SEVEN = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")
_THREE = ("Neutral", "Negative", "Positive")
_OV = ("angry", "happy", "joyful", "dissatisfied", "worry", "positive", "excited", "surprised", "concern", "relaxed",
       "sad", "serious", "nervous", "pleasant", "accusation", "concerned", "warning", "confused",
       "delighted")  # fmt: skip
_VAL_WORDS = ("val", "valid", "validation", "dev")
_SPOKEN = ("test", *_VAL_WORDS)
BENCHMARKS: dict[str, Benchmark] = {
    b.name: b
    for b in (
        Benchmark(name="mer2023", dataset="mer2023", task="emotion", asked=_SIX, modes=("test1", "test2", "test3"), scored=("test1",), metric="hit_rate"),
        # scored are rows whose MER2023_mode is `other`; files of the challenge itself hold no others
        Benchmark(name="mer2024_semi", dataset="mer2024", task="emotion", asked=_SIX, modes=("test_semi", "other", "test1", "test2", "test3"),
                  scored=("test_semi", "other"), metric="hit_rate"),
        Benchmark(name="meld_emotion", dataset="meld", task="emotion", asked=("anger", "disgust", "fear", "joy", "neutral", "sad", "surprise"),
                  modes=_SPOKEN, scored=("test",), metric="hit_rate"),
        Benchmark(name="iemocap", dataset="iemocap", task="emotion", asked=("Anger", "Sadness", "Happiness"), modes=("Session5",), scored=("Session5",),
                  metric="hit_rate", kept=("Anger", "Neutral", "Sadness", "Happiness", "Excited"), renamed=(("Excited", "Happiness"),)),
        Benchmark(name="ov_merd+", dataset="ov_merd+", task="open-vocabulary", asked=_OV, modes=("test",), scored=("test",), metric="open_vocabulary",
                  tag="multi-label"),
        Benchmark(name="cmu_mosi", dataset="cmu_mosi", task="sentiment", asked=_THREE, modes=_SPOKEN, scored=("test",), metric="two_class"),
        Benchmark(name="cmu_mosei", dataset="cmu_mosei", task="sentiment", asked=_THREE, modes=_SPOKEN, scored=("test",), metric="two_class"),
        Benchmark(name="ch_sims_v2_s", dataset="ch_sims_v2_s", task="sentiment", asked=_THREE, modes=("test",), scored=("test",), metric="two_class"),
        Benchmark(name="sims", dataset="sims", task="sentiment", asked=("Positive", "Negative"), modes=("test",), scored=("test",), metric="two_class"),
        Benchmark(name="caer", dataset="caer", task="emotion", asked=_SEVEN, modes=_SPOKEN, scored=("test",), metric="single"),
        Benchmark(name="dfew", dataset="dfew", task="emotion", asked=("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
                  modes=_SPOKEN, scored=("test",), metric="single"),
        Benchmark(name="e3", dataset="e3", task="emotion", asked=e3.EMOTIONS, modes=_SPOKEN, scored=("test",), metric="single"),
        Benchmark(name="mafw", dataset="mafw", task="emotion", asked=mafw.EMOTIONS, modes=("test",), scored=("test",), metric="single"),
        Benchmark(name="meld_sentiment", dataset="meld", task="sentiment", asked=_THREE, modes=_SPOKEN, scored=("test",), metric="single"),
        Benchmark(name="mc_eiu_emotion", dataset="mc_eiu", task="emotion", asked=_SEVEN, modes=_SPOKEN, scored=("test",), metric="single"),
        Benchmark(name="mc_eiu_intent", dataset="mc_eiu", task="intent", asked=mc_eiu.INTENTS, modes=_SPOKEN, scored=("test",), metric="single"),
        Benchmark(name="mafw_multi", dataset="mafw", task="multi-label", asked=mafw.EMOTIONS, modes=("test",), scored=("test",), metric="multi_label"),
        Benchmark(name="bold", dataset="bold", task="multi-label", asked=bold.EMOTIONS, modes=("val",), scored=("val",), metric="multi_label"),
    )
}  # fmt: skip


def choose_sets(names: Sequence[str] | None) -> list[DataSet]:
    """Data sets by name, all of them without names.

    Raises:
      ValueError: a name that is none.
    """
    if unknown := sorted(set(names or ()) - set(DATASETS)):
        close = difflib.get_close_matches(unknown[0].lower(), DATASETS, 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise ValueError(
            f"there is no data set '{unknown[0]}'{hint}; there are {', '.join(DATASETS)}"
        )
    return [DATASETS[n] for n in names] if names else list(DATASETS.values())


def read_root(
    root: Path, *, names: Sequence[str] | None = None, lenient: bool = False
) -> tuple[list[Found], Files]:
    """Reads what is below a folder of every data set, or of some.

    Raises:
      ValueError: there is no such folder, or a name that is no data set.
    """
    sets = choose_sets(names)
    if not root.is_dir():
        raise ValueError(
            f"'{root}' is a file, not a folder of data sets"
            if root.exists()
            else f"there is no folder '{root}'"
        )
    files = Files(root.absolute())
    return [read_dataset(s, files, lenient=lenient) for s in sets], files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """Clips of one data set that are to be built.

    Attributes:
      missing: clips whose media are not there.  left_out: others that are not built, by reason.
    """

    name: str
    records: list[ClipRecord]
    missing: list[ClipRecord]
    left_out: Counter[str]


def choose_records(
    name: str, records: Sequence[ClipRecord], files: Files, *, fold: str | None = None
) -> Chosen:
    """The clips of a data set that can be trained or scored on: of one fold (default: its first), with a split and
    something to answer.

    Raises:
      ValueError: the set has folds, and none of that name.
    """
    folds = sorted({r.fold for r in records if r.split != "unsplit"})
    if fold is not None and fold not in folds and any(folds):
        raise ValueError(f"{name} has no fold '{fold}'; it has {', '.join(filter(None, folds))}")
    chosen = fold if fold in folds else (folds[0] if folds else "")
    out = Chosen(name=name, records=[], missing=[], left_out=Counter())
    for record in records:
        if record.fold != chosen:
            out.left_out["of another fold"] += 1
        elif record.split == "unsplit":
            out.left_out["of no split"] += 1
        elif not (record.label or record.answers or record.targets or any(record.texts.values())):
            out.left_out["nothing to answer"] += 1
        elif not (files.has(Path(record.path)) or Path(record.path).is_file()):
            out.missing.append(record)
        else:
            out.records.append(record)
    return out


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkClip:
    """A clip of a benchmark.

    Attributes:
      truth: the label in the spelling that the prompt asks for, where it asks for it.
      raw: as the set's file spells it, which is what the released evaluation writes as its answer.
      scored: whether the clip counts, or is only answered.
    """

    record: ClipRecord
    truth: str
    raw: str
    scored: bool


def benchmark_clips(
    benchmark: Benchmark, found: Found, *, fold: str | None = None
) -> Iterator[BenchmarkClip]:
    """Clips of one benchmark; sets with folds take part with `fold` (default: their first one)."""
    folds = sorted({r.fold for r in found.records if r.split != "unsplit"})
    chosen = fold if fold is not None else (folds[0] if folds else "")
    renamed = dict(benchmark.renamed)
    for record in found.records:
        target = record.target(benchmark.task)
        if (
            record.fold != chosen
            or record.mode not in benchmark.modes
            or target is None
            or not target.label
        ):
            continue
        if benchmark.kept and target.label not in benchmark.kept:
            continue
        truth = renamed.get(target.label, target.label)
        raw = truth if target.label in renamed else target.native
        asked = next((a for a in benchmark.asked if concept(a) == concept(truth)), truth)
        yield BenchmarkClip(
            record=record, truth=asked, raw=raw, scored=record.mode in benchmark.scored
        )
