"""An evaluation as one HTML page that needs no other file and no network; the same results make the same bytes."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emojax.evaluate.predictions import Prediction
from emojax.evaluate.scorer import Scored
from emojax.reports.evaluation_tables import (
    NAMES,
    headline,
    main_table,
    number,
    published_rows,
    sets_of,
)

WORST = 12  # clips shown a set
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:76em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:.5em 0 1.5em}td,th{border-bottom:1px solid #ddd;padding:.2em .7em;text-align:right}
td:first-child,th:first-child{text-align:left}.left td,.left th{text-align:left}h2{margin-top:2em;border-top:2px solid #27476e;padding-top:.4em}
.confusion td{text-align:center;min-width:2.6em;border:1px solid #fff}.bar{background:#e8ecf2;width:14em;display:inline-block;height:.8em}
.bar i{background:#27476e;display:block;height:.8em}.wrong{color:#a33}.clips td{vertical-align:top;text-align:left}
figure{display:inline-block;margin:0 2em 1em 0;vertical-align:top}figcaption{font-weight:600}small{color:#666}"""


def page(
    results: dict[str, Any],
    *,
    scored: Mapping[str, Scored] | None = None,
    rows: Mapping[str, Sequence[Prediction]] | None = None,
    title: str = "evaluation",
) -> str:
    """The page of an evaluation.

    Args:
      results: what evaluation.json holds.  scored, rows: of its sets, for the list of worst clips.
    """
    header, cells = main_table(results)
    parts = [f"<h1>{_e(title)}</h1>"]
    if "figure" in results:
        f = results["figure"]
        parts.append(f"<p><b>{_e(headline(results))}</b> {_e(f['what'])}</p>")
        if results.get("missing_sets"):
            parts.append(f'<p class="wrong">without: {_e(", ".join(results["missing_sets"]))}</p>')
        if f.get("note"):
            parts.append(f"<p><small>{_e(f['note'])}</small></p>")
    parts.append(_table(header, cells))
    parts.append(
        "<p><small>Strict: neutral counts, answers are read, what can not be read is wrong. Official script: what the released "
        f"scorer prints. Words of emotion: {_e(results.get('word_tables', 'not used'))}. Brackets: "
        f"{_e(next((s['interval_method'] for s in sets_of(results).values() if 'interval_method' in s), 'no intervals'))}."
        "</small></p>"
    )
    if published := published_rows(results):
        parts.append("<h2>Beside published figures (percent)</h2>")
        parts.append(
            _table(
                ["set", "score", "system", "value", "source", "what differs"],
                published,
                kind="left",
            )
        )
    for name, s in sets_of(results).items():
        parts.append(f"<h2>{_e(name)}</h2>")
        parts += _set_parts(s)
        if scored and rows and name in scored and name in rows:
            parts.append(_worst(scored[name], rows[name]))
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_e(title)}</title><style>{_STYLE}</style>\n'
        f"{body}\n<p><small>Scores are about shown expression, as people labelled it; they say nothing of what a person feels."
        "</small></p></html>\n"
    )


def _e(text: Any) -> str:
    return html.escape(str(text))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "") -> str:
    head = "".join(f"<th>{_e(h)}</th>" for h in header)
    lines = "".join("<tr>" + "".join(f"<td>{_e(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<table class="{kind}"><tr>{head}</tr>{lines}</table>'


def _set_parts(s: dict[str, Any]) -> list[str]:
    spans = s.get("intervals", {})
    scores = [
        (NAMES.get(k, k), number(s[k], spans.get(k))) for k in NAMES if isinstance(s.get(k), float)
    ]
    official = s.get("released", {})
    spans = official.get("intervals", {})
    old = [
        (NAMES.get(k, k), number(official[k], spans.get(k)))
        for k in (*NAMES, "mscore")
        if isinstance(official.get(k), float)
    ]
    parts = [_figure("strict", _table(["score", "value"], scores))]
    if old:
        parts.append(_figure("official script", _table(["score", "value"], old)))
    if answers := s.get("answers"):
        told = [
            (k.replace("_", " "), f"{v:.2f}" if isinstance(v, float) else str(v))
            for k, v in answers.items()
            if k != "read_as"
        ]
        told += [(f"read as {k}", str(v)) for k, v in answers.get("read_as", {}).items()]
        parts.append(_figure("answers", _table(["", ""], told)))
    if "per_class" in s:
        parts.append(_figure("classes", _classes(s["per_class"])))
    if "confusion" in s:
        parts.append(_figure("confusion (rows: truth)", _confusion(s)))
    if "calibration" in s:
        c = s["calibration"]
        parts.append(
            _figure(
                f"calibration: ECE {c['ece']:.3f}, Brier {c['brier']:.3f}", _reliability(c["bins"])
            )
        )
        curve = [[f"{p['coverage']:.0%}", f"{p['risk']:.3f}"] for p in s["risk_coverage"]["curve"]]
        caption = f"risk against coverage: AURC {s['risk_coverage']['aurc']:.3f}"
        parts.append(_figure(caption, _table(["answered", "errors among them"], curve)))
    for what, values in s.get("by", {}).items():
        own = s["primary"]
        cells = [
            [k, str(v["n"]), number(v[own], v.get("intervals", {}).get(own))]
            for k, v in values.items()
        ]
        parts.append(_figure(f"by {what}", _table(["", "clips", NAMES.get(own, own)], cells)))
    return parts


def _figure(caption: str, content: str) -> str:
    return f"<figure><figcaption>{_e(caption)}</figcaption>{content}</figure>"


def _classes(rows: Sequence[dict[str, Any]]) -> str:
    lines = "".join(
        f"<tr><td>{_e(c['label'])}</td><td>{c['n']}</td><td>{c['recall']:.3f}</td><td>{c['precision']:.3f}</td>"
        f'<td>{c["f1"]:.3f}</td><td><span class="bar"><i style="width:{100 * c["f1"]:.1f}%"></i></span></td></tr>'
        for c in rows
    )
    return f"<table><tr><th>class</th><th>clips</th><th>recall</th><th>precision</th><th>F1</th><th></th></tr>{lines}</table>"


def _confusion(s: dict[str, Any]) -> str:
    labels, lines = s["labels"], []
    for i, row in enumerate(s["confusion"]):
        total = sum(row) + s.get("unparsable_by_class", [0] * len(labels))[i]
        cells = []
        for value in [*row, s.get("unparsable_by_class", [0] * len(labels))[i]]:
            share = value / total if total else 0.0
            ink = "#fff" if share > 0.55 else "#222"
            cells.append(
                f'<td style="background:rgba(39,71,110,{share:.2f});color:{ink}">{value:g}</td>'
            )
        lines.append(f"<tr><th>{_e(labels[i])}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{_e(x)}</th>" for x in [*labels, "(none)"])
    return f'<table class="confusion"><tr><th></th>{head}</tr>{"".join(lines)}</table>'


def _reliability(bins: Sequence[dict[str, Any]]) -> str:
    """Accuracy against confidence, drawn: the diagonal is perfect, circles grow with their clips."""
    most = max(b["n"] for b in bins)
    dots = "".join(
        f'<circle cx="{20 + 200 * b["confidence"]:.1f}" cy="{220 - 200 * b["accuracy"]:.1f}" r="{2 + 7 * (b["n"] / most) ** 0.5:.1f}" '
        f'fill="#27476e" fill-opacity=".75"><title>{b["n"]} clips: {b["confidence"]:.2f} said, {b["accuracy"]:.2f} right</title></circle>'
        for b in bins
    )
    return (
        '<svg width="250" height="250" role="img" aria-label="reliability"><rect x="20" y="20" width="200" height="200" fill="none" '
        'stroke="#bbb"/><line x1="20" y1="220" x2="220" y2="20" stroke="#bbb" stroke-dasharray="4"/>'
        f'{dots}<text x="80" y="240" font-size="12">probability</text>'
        '<text x="-160" y="14" font-size="12" transform="rotate(-90)">right</text></svg>'
    )


def worst_clips(scored: Scored, rows: Sequence[Prediction]) -> list[int]:
    """The surest of the wrong answers, where probabilities are known; else the wrong ones in their order."""
    sure = [
        max((r.probabilities or {}).values(), default=0.0)
        / max(1e-9, sum((r.probabilities or {"": 1}).values()))
        for r in rows
    ]
    wrong = [i for i in range(len(rows)) if scored.right[i] < 0.5]
    return sorted(wrong, key=lambda i: (scored.right[i], -sure[i], i))[:WORST]


def _worst(scored: Scored, rows: Sequence[Prediction]) -> str:
    lines = []
    for i in worst_clips(scored, rows):
        r = rows[i]
        best = sorted((r.probabilities or {}).items(), key=lambda pair: -pair[1])[:3]
        chances = ", ".join(f"{k} {p:.2f}" for k, p in best)
        lines.append(
            f"<tr><td>{_thumbnail(r)}</td><td>{_e(r.clip)}</td><td>{_e(r.subtitle)}</td><td>{_e(r.answer)}</td>"
            f'<td class="wrong">{_e(r.said[:300])}</td><td>{_e("; ".join(scored.read[i]) or "nothing")}</td><td>{_e(chances)}</td></tr>'
        )
    if not lines:
        return ""
    head = "".join(
        f"<th>{h}</th>"
        for h in ("", "clip", "words", "truth", "response", "read as", "probabilities")
    )
    return _figure("worst clips", f'<table class="clips"><tr>{head}</tr>{"".join(lines)}</table>')


def _thumbnail(row: Prediction) -> str:
    """The middle picture of a clip, 120 pixels high; nothing where it can not be decoded."""
    if not row.path or not Path(row.path).is_file():
        return ""
    from PIL import Image

    from data_pipeline.media.clip import ClipError, Sampling, read_clip

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
    return (
        f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
    )
