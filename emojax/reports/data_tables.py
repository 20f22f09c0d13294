"""The report of `emojax data check`: terminal tables, report.json, counts.csv and counts.png."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from data_pipeline.io import atomic_path, write_text
from data_pipeline.media.notes import counted
from data_pipeline.schema import SPLITS
from emojax.reports.plot_files import save_plot

_SHOWN = 8  # entries of a list that are printed
_SHOWN_LABELS = 12


def terminal_report(report: dict[str, Any], *, all_labels: bool = False) -> Iterator[Table | str]:
    """Yields tables and lines of text: data sets, labels, faults, leaks, benchmarks.

    Args:
      report: of `data_pipeline.datasets.check.check_root`.
      all_labels: whether to list all labels of all folds.
    """
    yield _sets_table(report)
    yield from _set_lines(report)
    yield from _label_lines(report, all_labels)
    yield from _fault_lines(report)
    yield from _leak_lines(report)
    yield from _benchmark_parts(report)
    for line in report["unreadable"]:
        yield f"cannot be read: {line}"
    if unread := report["unread"]:
        more = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
        yield f"not read (of no requested data set): {', '.join(unread[:_SHOWN])}{more}"


def _sets_table(report: dict[str, Any]) -> Table:
    table = Table(
        title="data sets: clips by split (= the published number), fold by fold",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("set", no_wrap=True)
    for column in (*SPLITS, "media", "missing", "bad", "h"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, entry in report["sets"].items():
        media, seconds = entry["media"], entry["seconds"]
        media_cells = [f"{media[k]:,}" for k in ("found", "missing", "unreadable")]
        media_cells.append(f"{seconds['total'] / 3600:.2f}" if seconds else "-")
        folds: dict[str, dict[str, str]] = {}
        for split in entry["splits"]:
            published = split["published"]
            mark = "=" if published == split["clips"] else ""
            folds.setdefault(split["fold"], {})[split["split"]] = f"{split['clips']:,}{mark}"
        for i, (fold, cells) in enumerate((folds or {"": {}}).items()):
            table.add_row(
                f"{name} {fold}" if fold else name,
                *(cells.get(s, "") for s in SPLITS),
                *(media_cells if i == 0 else ()),
            )
    return table


def _set_lines(report: dict[str, Any]) -> Iterator[str]:
    for name, entry in report["sets"].items():
        for split in entry["splits"]:
            if split["published"] not in (None, split["clips"]):
                fold = f" fold {split['fold']}" if split["fold"] else ""
                yield (
                    f"{name}{fold} {split['split']}: "
                    f"{counted(split['clips'], 'clip')}, published: {split['published']:,}"
                )
        if 0 < entry["peaks"] < entry["clips"]:
            yield (
                f"{name}: known peak frames of {entry['peaks']:,} of "
                f"{counted(entry['clips'], 'clip')}"
            )


def label_counts(entry: dict[str, Any]) -> dict[tuple[str, str], Counter[str]]:
    """{(fold, split): number of clips by label} of one set's report."""
    out: dict[tuple[str, str], Counter[str]] = {}
    for row in entry["counts"]:
        out.setdefault((row["fold"], row["split"]), Counter())[row["label"]] += row["clips"]
    return out


def _label_lines(report: dict[str, Any], all_labels: bool) -> Iterator[str]:
    for name, entry in report["sets"].items():
        counts = label_counts(entry)
        folds = sorted({fold for fold, _ in counts})
        for (fold, split), labels in counts.items():
            if fold != folds[0] and not all_labels:
                continue
            shown = labels.most_common(None if all_labels else _SHOWN_LABELS)
            more = f", and {len(labels) - len(shown)} more" if len(labels) > len(shown) else ""
            part = f"{name}{f' fold {fold}' if fold else ''} {split}"
            yield f"{part}: {', '.join(f'{label} {n:,}' for label, n in shown)}{more}"


def _fault_lines(report: dict[str, Any]) -> Iterator[str]:
    for name, entry in report["sets"].items():
        for file in entry["files"]:
            if file["refused"]:
                faults = counted(file["faults"], "fault")
                yield f"{name}: REFUSED, {faults} (--lenient skips faulty rows)"
            yield from (f"  {line}" for line in file["fault_lines"])
            if file["repaired"]:
                yield f"{name}: {counted(file['repaired'], 'place')} of {file['path']} repaired"
                yield from (f"  {line}" for line in file["repairs"])
            for reason, n in file["left_out"].items():
                yield f"{name}: {counted(n, 'row')} of {file['path']} left out: {reason}"
        if entry["conflicts"]:
            yield f"{name}: different labels in two files: {counted(entry['conflicts'], 'clip')}"
            yield from (f"  {line}" for line in entry["conflicts_such_as"])
        for line in entry["media"]["unreadable_such_as"]:
            yield f"{name}: unreadable: {line}"
        if missing := entry["media"]["missing"]:
            example = entry["media"]["missing_such_as"][0]
            yield f"{name}: {counted(missing, 'clip')} missing, such as {example}"


def _leak_lines(report: dict[str, Any]) -> Iterator[str]:
    for leak in report["leaks"]:
        yield (
            f"LEAK: {counted(leak['count'], leak['kind'])} of {leak['learned']} also in "
            f"{leak['held_out']}: {', '.join(leak['such_as'])}"
        )
    twins = report["near_duplicates"]
    for twin in twins[:_SHOWN]:
        kind = "the same file" if twin["exact"] else "the same clip in another encoding"
        yield f"{'LEAK' if twin['leak'] else 'duplicate'}: {twin['a']} and {twin['b']}: {kind}"
    if len(twins) > _SHOWN:
        yield f"... {len(twins) - _SHOWN} more pairs of the same clip in report.json"


def _benchmark_parts(report: dict[str, Any]) -> Iterator[Table | str]:
    if not report["benchmarks"]:
        return
    table = Table(title="MMEVerse-Bench")
    for column in ("benchmark", "state"):
        table.add_column(column)
    for column in ("scored", "missing"):
        table.add_column(column, justify="right")
    for name, entry in report["benchmarks"].items():
        table.add_row(name, entry["state"], f"{entry['scored']:,}", f"{entry['clips_missing']:,}")
    yield table
    absent = {
        (e["dataset"], e["request"], e["terms"])
        for e in report["benchmarks"].values()
        if e["state"] != "ready"
    }
    for name, request, terms in sorted(absent):
        yield f"{name}: request it at {request}; {terms}"


def write_report(
    report: dict[str, Any], out: Path, *, plots: Sequence[str] = ("png",)
) -> list[Path]:
    """Writes report.json, counts.csv and counts.png.

    Args:
      report: of `data_pipeline.datasets.check.check_root`.
      out: the folder.
      plots: kinds of the plot: png, svg, pdf.

    Returns:
      The files; without plots if no data set was read.
    """
    write_text(out / "report.json", json.dumps(report, indent=1, ensure_ascii=False))
    with (
        atomic_path(out / "counts.csv") as part,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["set", "fold", "split", "label", "clips"])
        for name, entry in report["sets"].items():
            for row in entry["counts"]:
                writer.writerow([name, row["fold"], row["split"], row["label"], row["clips"]])
    written = [out / "report.json", out / "counts.csv"]
    for kind in plots if report["sets"] else ():
        _plot_counts(report, out / f"counts.{kind}")
        written.append(out / f"counts.{kind}")
    return written


def _plot_counts(report: dict[str, Any], path: Path) -> None:
    """One panel per set: clips by label, with a colour for each split (of the first fold)."""
    from matplotlib.figure import Figure

    sets = list(report["sets"].items())
    columns = min(3, len(sets))
    rows = -(-len(sets) // columns)
    figure = Figure(figsize=(5 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel()[len(sets) :]:
        axis.axis("off")
    for axis, (name, entry) in zip(axes.ravel(), sets, strict=False):
        counts = label_counts(entry)
        folds = sorted({fold for fold, _ in counts})
        first_fold = {split: c for (fold, split), c in counts.items() if fold == folds[0]}
        total: Counter[str] = sum(first_fold.values(), Counter())
        labels = [label for label, _ in total.most_common(_SHOWN_LABELS)]
        left = [0] * len(labels)
        for split, c in first_fold.items():
            values = [c[label] for label in labels]
            axis.barh(labels, values, left=left, label=split)
            left = [a + b for a, b in zip(left, values, strict=True)]
        axis.invert_yaxis()
        fold = f" fold {folds[0]}" if folds and folds[0] else ""
        axis.set_title(f"{name}{fold}: {counted(entry['clips'], 'clip')}", fontsize=9)
        axis.tick_params(labelsize=7)
        if labels:
            axis.legend(fontsize=7)
    save_plot(figure, path, dpi=110)
