"""An emotion track in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from data_pipeline.media.notes import counted

if TYPE_CHECKING:
    from emojax.infer.timeline_records import Timeline

SHOWN = 6  # changes that are printed


def show_timeline(timeline: Timeline, console: Console) -> None:
    """Prints the seconds per label, then the changes and notes."""
    time: dict[str, float] = {}
    for span in timeline.spans:
        if span.answer.label:
            time[span.answer.label] = time.get(span.answer.label, 0.0) + span.end - span.start
    total = sum(time.values()) or 1.0
    name = Path(timeline.path).name
    segments = counted(len(timeline.spans), "segment")
    table = Table(title=f"{name}: {timeline.seconds:.0f} s, {segments}")
    table.add_column("shown")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    for label in sorted(time, key=lambda n: -time[n]):
        part = time[label] / total
        table.add_row(label, f"{time[label]:.1f}", f"{part:.0%}", "█" * max(1, round(24 * part)))
    console.print(table)
    changes = [change for person in timeline.changes.values() for change in person]
    listed = ", ".join(f"{c.time:.1f} s {c.before} > {c.after}" for c in changes[:SHOWN])
    console.print(
        counted(len(changes), "change")
        + (f": {listed}" if listed else "")
        + (" ..." if len(changes) > SHOWN else ""),
        soft_wrap=True,
    )
    failed = sum(span.answer.error is not None for span in timeline.spans)
    if failed:
        were = "1 segment was" if failed == 1 else f"{failed} segments were"
        console.print(f"{were} not answered: there is no video, audio or text")
    for note in timeline.notes:
        console.print(f"note: {note}", soft_wrap=True)
    speed = timeline.seconds / max(timeline.took, 0.01)
    console.print(f"answered in {timeline.took:.1f} s, {speed:.1f} times real time")
