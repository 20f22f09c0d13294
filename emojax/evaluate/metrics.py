"""Sums over clips from which every score follows, so that scores of any weighting of the clips come at once.

A resample of the bootstrap, a subgroup or a run with some clips swapped for another's is a weight for each clip; a tally
turns weights into scores by one sparse product and `finish`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from emojax.evaluate.emotion_wheels import WordTables

Scores = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Tally:
    """What one metric family needs of a set of clips.

    Attributes:
      rows: sparse float64[n, K], one row a clip.
      finish: sums[..., K] -> {score: [...]}; not a number where the sums say nothing.
      primary: the score that stands for the set.
    """

    rows: scipy.sparse.csr_matrix
    finish: Callable[[np.ndarray], Scores]
    primary: str

    def scores(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """Scores of all clips, or of clips weighted by weights[n]."""
        weights = np.ones(self.rows.shape[0]) if weights is None else weights
        return {name: float(value) for name, value in self.finish(self.rows.T @ weights).items()}


def _ratio(top: np.ndarray, bottom: np.ndarray, *, empty: float = 0.0) -> np.ndarray:
    return np.divide(
        top, bottom, out=np.full(np.broadcast(top, bottom).shape, empty), where=bottom > 0
    )


def _sparse(columns: Sequence[Mapping[int, float]], width: int) -> scipy.sparse.csr_matrix:
    starts = np.cumsum([0, *map(len, columns)])
    at = np.fromiter((k for c in columns for k in c), np.int64)
    values = np.fromiter((v for c in columns for v in c.values()), np.float64)
    return scipy.sparse.csr_matrix((values, at, starts), shape=(len(columns), width))


# --- one label a clip ---


def from_confusion(confusion: np.ndarray) -> Scores:
    """Scores of confusion matrices.

    Args:
      confusion: float[..., C, C + 1], rows are the truth, the last column what is none of the labels.

    Returns:
      uar, accuracy (= war), weighted_f1, macro_f1 (over classes that occur in the truth) and by class recall,
      precision, f1 and support as [..., C].
    """
    classes = confusion.shape[-2]
    support = confusion.sum(axis=-1)
    hits = confusion[..., np.arange(classes), np.arange(classes)]
    said = confusion[..., :classes].sum(axis=-2)
    recall, precision = _ratio(hits, support), _ratio(hits, said)
    f1 = _ratio(2 * hits, support + said)
    there = support > 0
    number, total = there.sum(axis=-1), support.sum(axis=-1)
    nothing = float("nan")
    return {
        "uar": _ratio((recall * there).sum(axis=-1), number, empty=nothing),
        "accuracy": _ratio(hits.sum(axis=-1), total, empty=nothing),
        "weighted_f1": _ratio((f1 * support).sum(axis=-1), total, empty=nothing),
        "macro_f1": _ratio((f1 * there).sum(axis=-1), number, empty=nothing),
        "recall": recall,
        "precision": precision,
        "f1": f1,
        "support": support,
    }


ONE_LABEL = ("uar", "accuracy", "weighted_f1", "macro_f1")


def one_label(
    truth: Sequence[str | None],
    predicted: Sequence[Sequence[str]],
    labels: Sequence[str],
    *,
    primary: str = "uar",
) -> Tally:
    """Tally of a confusion matrix over `labels`.

    Args:
      truth: a clip of None does not count.
      predicted: labels that an answer names; k of them count 1 / k each, () is none of the labels.

    Raises:
      ValueError: a truth is none of the labels.
    """
    at = {label: i for i, label in enumerate(labels)}
    if strange := sorted({t for t in truth if t is not None} - set(at)):
        raise ValueError(f"the truth holds {strange}, the labels are {list(labels)}")
    classes = len(labels)
    columns: list[dict[int, float]] = []
    for true, said in zip(truth, predicted, strict=True):
        row: dict[int, float] = {}
        for label in said or ("",) if true is not None else ():
            place = at[true] * (classes + 1) + at.get(label, classes)  # type: ignore[index]
            row[place] = row.get(place, 0.0) + 1 / max(1, len(said))
        columns.append(row)

    def finish(sums: np.ndarray) -> Scores:
        found = from_confusion(sums.reshape(*sums.shape[:-1], classes, classes + 1))
        return {name: found[name] for name in ONE_LABEL}

    return Tally(_sparse(columns, classes * (classes + 1)), finish, primary)


def confusion_of(tally: Tally, classes: int) -> np.ndarray:
    """float[C, C + 1] of a tally of one_label."""
    return np.asarray(tally.rows.sum(axis=0)).reshape(classes, classes + 1)


# --- wheels ---


def hit_rate(
    truth: Sequence[str], said: Sequence[Sequence[str]], tables: WordTables, known: Sequence[str]
) -> Tally:
    """Tally of the official hit rate: see released.hit_rate. `known`: truths of the whole file."""
    wheels = len(tables.clusters)
    clusters = [tables.of(known, wheel) for wheel in range(1, wheels + 1)]
    columns: list[dict[int, float]] = []
    for label, words in zip(truth, said, strict=True):
        row: dict[int, float] = {}
        for w in range(wheels):
            if true := tables.of([label], w + 1):
                answered = tables.of(words, w + 1)
                hit = float(bool(true & answered))
                row |= {
                    3 * w: 1.0,
                    3 * w + 1: hit,
                    3 * w + 2: hit / max(1, len(answered & clusters[w])),
                }
        columns.append(row)

    def finish(sums: np.ndarray) -> Scores:
        each = sums.reshape(*sums.shape[:-1], wheels, 3)
        nothing = float("nan")
        return {
            "hit_rate": _ratio(each[..., 1], each[..., 0], empty=nothing).mean(axis=-1),
            "mscore": _ratio(each[..., 2], each[..., 0], empty=nothing).mean(axis=-1),
        }

    return Tally(_sparse(columns, 3 * wheels), finish, "hit_rate")


def set_overlap(
    truth: Sequence[Sequence[set[str]]],
    said: Sequence[Sequence[set[str]]],
    *,
    nothing_is: float = 0.0,
) -> Tally:
    """Tally of F_s: mean precision and recall of sets, their F for each wheel, the mean over wheels.

    Args:
      truth, said: for each clip and wheel a set; clips whose truth is empty in a wheel do not count there.
      nothing_is: F where nothing overlaps at all (the official script: not a number).
    """
    wheels = len(truth[0]) if truth else 0
    columns = []
    for true_sets, said_sets in zip(truth, said, strict=True):
        row: dict[int, float] = {}
        for w, (true, answered) in enumerate(zip(true_sets, said_sets, strict=True)):
            if true:
                common = len(true & answered)
                row |= {
                    3 * w: 1.0,
                    3 * w + 1: common / max(1, len(answered)),
                    3 * w + 2: common / len(true),
                }
        columns.append(row)

    def finish(sums: np.ndarray) -> Scores:
        each = sums.reshape(*sums.shape[:-1], wheels, 3)
        nothing = float("nan")
        p, r = (
            _ratio(each[..., 1], each[..., 0], empty=nothing),
            _ratio(each[..., 2], each[..., 0], empty=nothing),
        )
        return {
            "f_s": _ratio(2 * p * r, p + r, empty=nothing_is).mean(axis=-1),
            "precision": p.mean(axis=-1),
            "recall": r.mean(axis=-1),
        }

    return Tally(_sparse(columns, 3 * wheels), finish, "f_s")


# --- several labels a clip ---


def many_labels(
    truth: Sequence[Sequence[str]], said: Sequence[Sequence[str]], classes: Sequence[str]
) -> Tally:
    """Tally of multi-label scores over `classes`; a predicted label outside counts as a false one.

    Scores: f1_micro, f1_macro, f1_samples, example_accuracy (overlap over union), and map of 0 or 1 as score.
    """
    at, count = {label: i for i, label in enumerate(classes)}, len(classes)
    columns = []
    for true_labels, said_labels in zip(truth, said, strict=True):
        true, answered = set(true_labels), set(said_labels)
        common, either = len(true & answered), len(true | answered)
        row = {3 * count: 1.0, 3 * count + 1: 2 * common / max(1, len(true) + len(answered))}
        row |= {
            3 * count + 2: common / max(1, either),
            3 * count + 3: float(len(answered - set(at))),
        }
        for label in true & answered:
            row[3 * at[label]] = 1.0
        for label in answered - true:
            if label in at:
                row[3 * at[label] + 1] = 1.0
        for label in true - answered:
            row[3 * at[label] + 2] = 1.0
        columns.append(row)

    def finish(sums: np.ndarray) -> Scores:
        each = sums[..., : 3 * count].reshape(*sums.shape[:-1], count, 3)
        hits, false, missed = each[..., 0], each[..., 1], each[..., 2]
        n, f1, accuracy, outside = (sums[..., 3 * count + i] for i in range(4))
        there = hits + missed > 0
        nothing = float("nan")
        top = 2 * hits.sum(axis=-1)
        rate = _ratio(hits + missed, n[..., None])
        recall, precision = _ratio(hits, hits + missed), _ratio(hits, hits + false)
        average_precision = recall * precision + (1 - recall) * rate
        return {
            "f1_micro": _ratio(
                top, top + false.sum(axis=-1) + missed.sum(axis=-1) + outside, empty=nothing
            ),
            "f1_macro": _ratio(
                (_ratio(2 * hits, 2 * hits + false + missed) * there).sum(-1),
                there.sum(-1),
                empty=nothing,
            ),
            "f1_samples": _ratio(f1, n, empty=nothing),
            "example_accuracy": _ratio(accuracy, n, empty=nothing),
            "map": _ratio(
                (average_precision * there).sum(axis=-1), there.sum(axis=-1), empty=nothing
            ),
        }

    return Tally(_sparse(columns, 3 * count + 4), finish, "f1_micro")


# --- numbers ---


def agreement(truth: Sequence[float], predicted: Sequence[float]) -> Tally:
    """Tally of ccc (Lin's concordance), mae and pearson of numbers, as valence."""
    x, y = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    centre = x.mean() if len(x) else 0.0  # sums of squares of large numbers would lose digits
    x, y = x - centre, y - centre
    rows = scipy.sparse.csr_matrix(
        np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, abs(x - y)], axis=1)
    )

    def finish(sums: np.ndarray) -> Scores:
        n = np.maximum(sums[..., 0], 1e-12)
        mx, my, xx, yy, xy, error = (sums[..., i] / n for i in range(1, 7))
        vx, vy, cov = np.maximum(0, xx - mx**2), np.maximum(0, yy - my**2), xy - mx * my
        return {
            "ccc": _ratio(2 * cov, vx + vy + (mx - my) ** 2, empty=float("nan")),
            "mae": error,
            "pearson": _ratio(cov, np.sqrt(vx * vy), empty=float("nan")),
        }

    return Tally(rows, finish, "ccc")


def tally_scores(tally: Tally) -> dict[str, Any]:
    """Scores of all clips, as JSON takes them: what is not a number is None."""
    return {name: None if np.isnan(value) else value for name, value in tally.scores().items()}
