"""`emojax data check` on the terminal, as JSON, CSV and pictures."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from data_pipeline.schema import SPLITS

_SHOWN = 8


def show(report: dict[str, Any], console: Console, *, all_labels: bool = False) -> None:
    """Prints the report: data sets, labels, faults, leaks, benchmarks."""
    _show_sets(report, console)
    _show_labels(report, console, all_labels)
    _show_faults(report, console)
    _show_leaks(report, console)
    _show_benchmarks(report, console)
    for line in report["unreadable"]:
        console.print(f"can not be read: {line}", soft_wrap=True)
    if unread := report["unread"]:
        rest = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
        console.print(
            f"not read (of no data set that was looked for): {', '.join(unread[:_SHOWN])}{rest}",
            soft_wrap=True,
        )


def _show_sets(report: dict[str, Any], console: Console) -> None:
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
        right = [f"{media[k]:,}" for k in ("found", "missing", "unreadable")]
        right.append(f"{seconds['total'] / 3600:.2f}" if seconds else "-")
        folds: dict[str, dict[str, str]] = {}
        for split in entry["splits"]:
            published = split["published"]
            mark = "=" if published == split["clips"] else ""
            folds.setdefault(split["fold"], {})[split["split"]] = f"{split['clips']:,}{mark}"
        for i, (fold, cells) in enumerate((folds or {"": {}}).items()):
            first = i == 0
            table.add_row(
                f"{name} {fold}" if fold else name,
                *(cells.get(s, "") for s in SPLITS),
                *(right if first else ()),
            )
    console.print(table)
    for name, entry in report["sets"].items():
        for split in entry["splits"]:
            if split["published"] not in (None, split["clips"]):
                fold = f" fold {split['fold']}" if split["fold"] else ""
                text = f"{name}{fold} {split['split']}: {split['clips']:,} clips, {split['published']:,} are published"
                console.print(text, soft_wrap=True)
        if 0 < entry["peaks"] < entry["clips"]:
            console.print(
                f"{name}: peak frames known of {entry['peaks']:,} of {entry['clips']:,} clips",
                soft_wrap=True,
            )


def label_counts(entry: dict[str, Any]) -> dict[tuple[str, str], Counter[str]]:
    """{(fold, split): label -> clips} of one set's report."""
    out: dict[tuple[str, str], Counter[str]] = {}
    for row in entry["counts"]:
        out.setdefault((row["fold"], row["split"]), Counter())[row["label"]] += row["clips"]
    return out


def _show_labels(report: dict[str, Any], console: Console, all_labels: bool) -> None:
    for name, entry in report["sets"].items():
        counts = label_counts(entry)
        folds = sorted({fold for fold, _ in counts})
        for (fold, split), labels in counts.items():
            if fold != folds[0] and not all_labels:
                continue
            shown = labels.most_common(None if all_labels else 12)
            more = f", and {len(labels) - len(shown)} more" if len(labels) > len(shown) else ""
            place = f"{name}{f' fold {fold}' if fold else ''} {split}"
            console.print(
                f"{place}: {', '.join(f'{label} {n:,}' for label, n in shown)}{more}",
                soft_wrap=True,
            )


def _show_faults(report: dict[str, Any], console: Console) -> None:
    for name, entry in report["sets"].items():
        for file in entry["files"]:
            if file["refused"]:
                console.print(
                    f"{name}: REFUSED, {file['faults']} faults (--lenient leaves faulty rows out)"
                )
            for line in file["fault_lines"]:
                console.print(f"  {line}", soft_wrap=True)
            if file["repaired"]:
                console.print(
                    f"{name}: {file['repaired']} places of {file['path']} repaired", soft_wrap=True
                )
                for line in file["repairs"]:
                    console.print(f"  {line}", soft_wrap=True)
            for reason, n in file["left_out"].items():
                console.print(
                    f"{name}: {n:,} rows of {file['path']} left out: {reason}", soft_wrap=True
                )
        if entry["conflicts"]:
            console.print(
                f"{name}: {entry['conflicts']} clips are labelled differently by two files"
            )
            for line in entry["conflicts_such_as"]:
                console.print(f"  {line}", soft_wrap=True)
        for line in entry["media"]["unreadable_such_as"]:
            console.print(f"{name}: unreadable: {line}", soft_wrap=True)
        if entry["media"]["missing"]:
            such = entry["media"]["missing_such_as"][0]
            console.print(
                f"{name}: {entry['media']['missing']:,} clips missing, such as {such}",
                soft_wrap=True,
            )


def _show_leaks(report: dict[str, Any], console: Console) -> None:
    for leak in report["leaks"]:
        names = ", ".join(leak["such_as"])
        text = f"LEAK: {leak['count']:,} {leak['kind']}s of {leak['learned']} are in {leak['held_out']}: {names}"
        console.print(text, soft_wrap=True)
    twins = report["near_duplicates"]
    for twin in twins[:_SHOWN]:
        kind = "the same file" if twin["exact"] else "the same clip in another encoding"
        console.print(
            f"{'LEAK' if twin['leak'] else 'twice'}: {twin['a']} and {twin['b']}: {kind}",
            soft_wrap=True,
        )
    if len(twins) > _SHOWN:
        console.print(f"... {len(twins) - _SHOWN} more pairs of the same clip in report.json")


def _show_benchmarks(report: dict[str, Any], console: Console) -> None:
    if not report["benchmarks"]:
        return
    table = Table(title="MMEVerse-Bench")
    for column, justify in (
        ("benchmark", "left"),
        ("state", "left"),
        ("scored", "right"),
        ("missing", "right"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, entry in report["benchmarks"].items():
        table.add_row(name, entry["state"], f"{entry['scored']:,}", f"{entry['clips_missing']:,}")
    console.print(table)
    asked = {
        (e["dataset"], e["request"], e["terms"])
        for e in report["benchmarks"].values()
        if e["state"] != "ready"
    }
    for name, request, terms in sorted(asked):
        console.print(f"{name}: ask at {request}; {terms}", soft_wrap=True)


def write(report: dict[str, Any], out: Path) -> list[Path]:
    """Writes report.json, counts.csv and counts.png into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
    with (out / "counts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["set", "fold", "split", "label", "clips"])
        for name, entry in report["sets"].items():
            for row in entry["counts"]:
                writer.writerow([name, row["fold"], row["split"], row["label"], row["clips"]])
    written = [out / "report.json", out / "counts.csv"]
    if report["sets"]:
        _plot(report, out / "counts.png")
        written.append(out / "counts.png")
    return written


def _plot(report: dict[str, Any], path: Path) -> None:
    """One panel a set: clips by label, a colour for each split (of the first fold)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sets = list(report["sets"].items())
    columns = min(3, len(sets))
    rows = -(-len(sets) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5 * columns, 3.2 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.ravel()[len(sets) :]:
        axis.axis("off")
    for axis, (name, entry) in zip(axes.ravel(), sets, strict=False):
        counts = label_counts(entry)
        folds = sorted({fold for fold, _ in counts})
        chosen = {split: c for (fold, split), c in counts.items() if fold == folds[0]}
        total: Counter[str] = sum(chosen.values(), Counter())
        labels = [label for label, _ in total.most_common(12)]
        left = [0] * len(labels)
        for split, c in chosen.items():
            values = [c[label] for label in labels]
            axis.barh(labels, values, left=left, label=split)
            left = [a + b for a, b in zip(left, values, strict=True)]
        axis.invert_yaxis()
        axis.set_title(
            f"{name}{f' fold {folds[0]}' if folds and folds[0] else ''}: {entry['clips']:,} clips",
            fontsize=9,
        )
        axis.tick_params(labelsize=7)
        if labels:
            axis.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)
