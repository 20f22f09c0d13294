"""An evaluation as one HTML page (report.html); the same results give the same bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.media.notes import counted
from emojax.evaluate.metric_scorers import ScoredSet
from emojax.evaluate.predictions import Prediction
from emojax.evaluate.results_folder import sets_of
from emojax.reports.evaluation_tables import (
    SCORE_NAMES,
    class_table,
    format_score,
    headline,
    main_table,
    published_rows,
)
from emojax.reports.html_page import render_page

WORST = 12  # clips shown per set
Panel = dict[str, Any]  # one figure of the template: caption, kind, and what the kind needs


def evaluation_page(
    results: dict[str, Any],
    *,
    scored: Mapping[str, ScoredSet] | None = None,
    title: str = "evaluation",
) -> str:
    """The HTML page of an evaluation.

    Args:
      results: the contents of evaluation.json.
      scored: its sets, for the list of the worst clips.
      title: the heading.
    """
    header, rows = main_table(results)
    sets = sets_of(results)
    methods = (s["interval_method"] for s in sets.values() if "interval_method" in s)
    panels = {name: _panels(s) for name, s in sets.items()}
    for name, one in (scored or {}).items():
        if name in panels and (clips := [_worst_clip(one, i) for i in worst_clips(one)]):
            panels[name].append({"caption": "worst clips", "kind": "worst", "clips": clips})
    return render_page(
        "evaluation.html",
        title=title,
        figure=results.get("figure"),
        headline=headline(results) if "figure" in results else "",
        missing_sets=results.get("missing_sets", []),
        header=header,
        rows=rows,
        word_tables=results.get("word_tables", "not used"),
        interval_method=next(methods, "no intervals"),
        published=published_rows(results),
        sets=[{"name": name, "panels": one} for name, one in panels.items()],
    )


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Panel:
    return {"caption": caption, "kind": "table", "header": header, "rows": rows}


def _panels(s: dict[str, Any]) -> list[Panel]:
    panels = [_table("strict", ["score", "value"], _score_rows(s, [*SCORE_NAMES]))]
    if official := _score_rows(s.get("released", {}), [*SCORE_NAMES, "mscore"]):
        panels.append(_table("official script", ["score", "value"], official))
    if answers := s.get("answers"):
        panels.append(_table("answers", ["", ""], _answer_rows(answers)))
    if "per_class" in s:
        cells = class_table(s)[1]
        bars = [c["f1"] for c in s["per_class"]]
        rows_of_classes = [{"cells": c, "f1": f1} for c, f1 in zip(cells, bars, strict=True)]
        panels.append({"caption": "classes", "kind": "classes", "rows": rows_of_classes})
    if "confusion" in s:
        caption = "confusion (rows: truth)"
        panels.append({"caption": caption, "kind": "confusion", "matrix": _confusion(s)})
    if "calibration" in s:
        panels += _calibration_panels(s)
    primary = s["primary"] if s.get("by") else ""
    for name, values in s.get("by", {}).items():
        rows = [
            [k, str(v["n"]), format_score(v[primary], v.get("intervals", {}).get(primary))]
            for k, v in values.items()
        ]
        panels.append(_table(f"by {name}", ["", "clips", SCORE_NAMES.get(primary, primary)], rows))
    return panels


def _score_rows(scores: Mapping[str, Any], names: Sequence[str]) -> list[list[str]]:
    intervals = scores.get("intervals", {})
    return [
        [SCORE_NAMES.get(name, name), format_score(scores[name], intervals.get(name))]
        for name in names
        if isinstance(scores.get(name), float)
    ]


def _answer_rows(answers: Mapping[str, Any]) -> list[list[str]]:
    rows = [
        [name.replace("_", " "), f"{value:.2f}" if isinstance(value, float) else str(value)]
        for name, value in answers.items()
        if name != "read_as"
    ]
    return rows + [[f"read as {how}", str(n)] for how, n in answers.get("read_as", {}).items()]


def _calibration_panels(s: dict[str, Any]) -> list[Panel]:
    c, risk = s["calibration"], s["risk_coverage"]
    most = max(b["n"] for b in c["bins"])
    dots = [
        {
            "x": 40 + 200 * b["confidence"],
            "y": 220 - 200 * b["accuracy"],
            "radius": 2 + 7 * (b["n"] / most) ** 0.5,
            "title": (
                f"{counted(b['n'], 'clip')}: confidence {b['confidence']:.2f}, "
                f"accuracy {b['accuracy']:.2f}"
            ),
        }
        for b in c["bins"]
    ]
    caption = f"calibration: ECE {c['ece']:.3f}, Brier {c['brier']:.3f}"
    curve = [[f"{p['coverage']:.0%}", f"{p['risk']:.3f}"] for p in risk["curve"]]
    return [
        {"caption": caption, "kind": "reliability", "dots": dots},
        _table(
            f"risk against coverage: AURC {risk['aurc']:.3f}",
            ["answered", "errors among them"],
            curve,
        ),
    ]


def _confusion(s: dict[str, Any]) -> dict[str, Any]:
    labels = s["labels"]
    unparsable = s.get("unparsable_by_class", [0] * len(labels))
    rows = []
    for label, counts, none in zip(labels, s["confusion"], unparsable, strict=True):
        values = [*counts, none]
        total = sum(values)
        rows.append(
            {
                "label": label,
                "cells": [{"text": f"{v:g}", "share": v / total if total else 0.0} for v in values],
            }
        )
    return {"columns": [*labels, "(none)"], "rows": rows}


def worst_clips(scored: ScoredSet) -> list[int]:
    """Indices of wrong answers: the most confident first if probabilities are known."""
    confidence = [
        max((r.probabilities or {}).values(), default=0.0)
        / max(1e-9, sum((r.probabilities or {"": 1}).values()))
        for r in scored.rows
    ]
    wrong = [i for i in range(len(scored.rows)) if scored.correctness[i] < 0.5]
    return sorted(wrong, key=lambda i: (scored.correctness[i], -confidence[i], i))[:WORST]


def _worst_clip(scored: ScoredSet, index: int) -> dict[str, str]:
    row = scored.rows[index]
    best = sorted((row.probabilities or {}).items(), key=lambda pair: -pair[1])[:3]
    return {
        "thumbnail": _thumbnail(row),
        "clip": row.clip,
        "words": row.subtitle,
        "truth": row.answer,
        "response": row.final_response[:300],
        "parsed": "; ".join(scored.parsed[index]) or "nothing",
        "probabilities": ", ".join(f"{k} {p:.2f}" for k, p in best),
    }


def _thumbnail(row: Prediction) -> str:
    """The middle frame as base64 JPEG, 120 pixels high; "" if it cannot be decoded."""
    if not row.path or not Path(row.path).is_file():
        return ""
    from PIL import Image

    from data_pipeline.media.clip import Sampling, read_clip
    from data_pipeline.media.container import ClipError

    try:
        clip = read_clip(
            row.path, sampling=Sampling(image="middle", num_frames=1), start=row.start, end=row.end
        )
    except ClipError:
        return ""
    if clip.image is None:
        return ""
    picture = Image.fromarray(clip.image)
    picture = picture.resize((max(1, round(120 * picture.width / picture.height)), 120))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=70)
    return base64.b64encode(buffer.getvalue()).decode()
