"""How a training run stands: in the terminal (`emojax watch`) and as one HTML page (`emojax report`).

Reads what the run writes and nothing else: log.jsonl, speed.jsonl, validation.jsonl, starts.jsonl, config.json.
"""

from __future__ import annotations

import base64
import html
import io
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from etils import epath
from rich.console import Console
from rich.live import Live
from rich.table import Table

from emojax.config import for_devices, resolve_saved
from emojax.train.train_log import SPEED, STEPS, VALIDATION

COLOURS = ("#27476e", "#b5651d", "#3a7d44", "#8e4585", "#6b6b6b")


def rows_of(run: epath.Path, name: str) -> list[dict[str, Any]]:
    """Rows of one of a run's files; a line that is being written is left out."""
    path = run / name
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def facts_of(run: epath.Path) -> dict[str, Any]:
    """{stages: [(name, steps)], starts, finished, config}.

    Raises:
      ValueError: the folder holds no run.
    """
    if not (run / "config.json").exists():
        raise ValueError(f"{run} holds no training run (no config.json)")
    starts = rows_of(run, "starts.jsonl")
    try:
        raw = json.loads((run / "config.json").read_text())
        raw["train"].setdefault("mesh", [-1, 1, 1])
        settings = for_devices(resolve_saved(raw), starts[-1]["devices"] if starts else 1)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run}/config.json can not be read ({error})") from error
    stages = [(s.name, s.steps) for s in settings.stages]
    return {
        "stages": stages,
        "starts": starts,
        "finished": (run / "model.json").exists(),
        "config": raw,
    }


def state_table(run: epath.Path) -> Table:
    """One row a stage: steps, loss, rate, speed, memory, best validation."""
    facts = facts_of(run)
    steps, speed, scores = (rows_of(run, name) for name in (STEPS, SPEED, VALIDATION))
    state = "finished" if facts["finished"] else f"{len(facts['starts'])} starts"
    table = Table(title=f"{run} ({state})")
    for column in ("stage", "steps", "loss", "lr", "clips/s", "memory", "best", "left"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    for name, total in facts["stages"]:
        own, fast = (
            [r for r in steps if r["stage"] == name],
            [r for r in speed if r["stage"] == name],
        )
        judged = [r for r in scores if r["stage"] == name]
        if not own:
            table.add_row(name, f"0/{total}", *["-"] * 6)
            continue
        loss = sum(r["loss"] for r in own[-20:]) / len(own[-20:])
        best = max(judged, key=lambda r: r["score"]) if judged else None
        last = fast[-1] if fast else None
        left = "-"
        if last and len(fast) > 1 and fast[-1]["step"] > fast[-2]["step"]:
            rows = facts["config"]["train"]["batch"]
            left = (
                f"{(total - own[-1]['step']) * rows / max(1e-9, last['clips_per_s']) / 60:.0f} min"
            )
        table.add_row(
            name,
            f"{own[-1]['step']}/{total}",
            f"{loss:.4f}",
            f"{own[-1]['lr']:.1e}",
            f"{last['clips_per_s']:.1f}" if last else "-",
            f"{last['memory_bytes'] / 2**30:.1f} GiB" if last else "-",
            f"{best['score']:.3f} at {best['step']}" if best else "-",
            left,
        )
    return table


def watch(folder: str, console: Console, *, once: bool = False) -> int:
    """Shows `state_table` until the run has finished, or once."""
    run = epath.Path(folder)
    if once:
        console.print(state_table(run))
        return 0
    with Live(state_table(run), console=console, refresh_per_second=2) as live:
        while not (run / "model.json").exists():
            time.sleep(1.0)
            live.update(state_table(run))
        live.update(state_table(run))
    return 0


def write_html(folder: str, *, out: Path | None = None) -> str:
    """Writes the page and returns where; it needs no other file and no network."""
    run = epath.Path(folder)
    facts = facts_of(run)
    steps, speed, scores = (rows_of(run, name) for name in (STEPS, SPEED, VALIDATION))
    pictures = [
        ("Loss", _curves(steps, "loss", smooth=True)),
        ("Learning rate", _curves(steps, "lr")),
        ("Gradient norm", _curves(steps, "grad_norm", log=True)),
        ("Validation score", _curves(scores, "score")),
        ("Clips a second", _curves(speed, "clips_per_s")),
        ("Memory, GiB", _curves(speed, "memory_bytes", scale=2.0**-30)),
        ("Share of padding", _curves(steps, "padding", smooth=True)),
        ("Shares of data sets", _shares(speed)),
    ]
    parts = [
        f"<figure><figcaption>{title}</figcaption>{picture}</figure>"
        for title, picture in pictures
        if picture
    ]
    start = facts["starts"][-1] if facts["starts"] else {}
    packages = ", ".join(f"{k} {v}" for k, v in start.get("packages", {}).items())
    lines = [
        ("state", "finished" if facts["finished"] else "not finished"),
        ("starts", str(len(facts["starts"]))),
        (
            "devices",
            f"{start.get('devices', '?')} x {start.get('device', '?')}, {start.get('processes', '?')} processes",
        ),
        ("code", start.get("commit", "?")),
        ("packages", packages),
        ("stages", ", ".join(f"{name} ({total} steps)" for name, total in facts["stages"])),
    ]
    table = "".join(f"<tr><th>{k}</th><td>{html.escape(str(v))}</td></tr>" for k, v in lines)
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(run.name)}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#222}}
figure{{display:inline-block;margin:0 1em 1em 0;vertical-align:top}}figcaption{{font-weight:600}}
table{{border-collapse:collapse;margin-bottom:1.5em}}td,th{{border-bottom:1px solid #ddd;padding:.25em .8em;text-align:left}}
pre{{background:#f6f6f6;padding:1em;overflow:auto}}.hit{{color:#3a7d44}}.miss{{color:#a33}}</style>
<h1>{html.escape(run.name)}</h1><table>{table}</table>{"".join(parts)}
<h2>Answers through time</h2>{_samples(scores)}
<h2>Configuration</h2><pre>{html.escape(json.dumps(facts["config"], indent=1))}</pre></html>"""
    place = epath.Path(out) if out else run / "report.html"
    place.write_text(page)
    return str(place)


def _picture(draw: Any) -> str:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(5.4, 2.7))
    draw(axis)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return (
        f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}" alt="">'
    )


def _curves(
    rows: list[dict[str, Any]],
    field: str,
    *,
    smooth: bool = False,
    log: bool = False,
    scale: float = 1.0,
) -> str:
    by_stage: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if field in row:
            by_stage[row["stage"]].append((row["step"], row[field] * scale))
    if not by_stage:
        return ""

    def draw(axis: Any) -> None:
        offset = 0
        for colour, (stage, points) in zip(COLOURS * 9, by_stage.items(), strict=False):
            x, y = [offset + s for s, _ in points], [v for _, v in points]
            window = max(1, len(y) // 50)
            if smooth and window > 1:
                axis.plot(x, y, color=colour, alpha=0.2, linewidth=0.7)
                y = [
                    sum(y[max(0, i - window) : i + 1]) / len(y[max(0, i - window) : i + 1])
                    for i in range(len(y))
                ]
            axis.plot(x, y, color=colour, label=stage, marker="." if len(x) < 20 else None)
            offset = x[-1]
        if log:
            axis.set_yscale("log")
        axis.set_xlabel("step")
        axis.legend(frameon=False, fontsize=8)

    return _picture(draw)


def _shares(speed: list[dict[str, Any]]) -> str:
    if not speed or not speed[-1]["shares"]:
        return ""

    def draw(axis: Any) -> None:
        latest = {r["stage"]: r["shares"] for r in speed}
        names = sorted({n for shares in latest.values() for n in shares})
        for number, (colour, (stage, shares)) in enumerate(
            zip(COLOURS * 9, latest.items(), strict=False)
        ):
            places = [i + 0.8 * number / len(latest) for i in range(len(names))]
            axis.barh(
                places,
                [shares.get(n, 0) for n in names],
                height=0.8 / len(latest),
                color=colour,
                label=stage,
            )
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.legend(frameon=False, fontsize=8)

    return _picture(draw)


def _samples(scores: list[dict[str, Any]]) -> str:
    if not scores:
        return "<p>Nothing was validated: set config.train.validate_every.</p>"
    clips = list(dict.fromkeys(s["clip"] for row in scores for s in row["samples"]))
    shown = (
        scores
        if len(scores) <= 12
        else [scores[round(i * (len(scores) - 1) / 11)] for i in range(12)]
    )
    head = "".join(f"<th>{html.escape(r['stage'])} {r['step']}</th>" for r in shown)
    lines = []
    for clip in clips:
        cells, truth = [], ""
        for row in shown:
            found = next((s for s in row["samples"] if s["clip"] == clip), None)
            truth = found["true"] if found else truth
            if found is None:
                cells.append("<td></td>")
            else:
                kind = "hit" if found["answer"] == found["true"] else "miss"
                cells.append(
                    f'<td class="{kind}">{html.escape(found["answer"])} {found["probability"]:.2f}</td>'
                )
        lines.append(
            f"<tr><td>{html.escape(clip)}</td><td>{html.escape(truth)}</td>{''.join(cells)}</tr>"
        )
    return f"<table><tr><th>clip</th><th>true</th>{head}</tr>{''.join(lines)}</table>"
