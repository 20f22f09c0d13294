"""A timeline as JSON, and as a tidy table in CSV and Parquet: one row per segment and person.

docs/timeline.md describes every field.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from typing import Any

from data_pipeline.io import printable, utf8
from data_pipeline.schema import MODALITIES
from emojax import __version__
from emojax.infer.timeline_records import SCHEMA, Span, Timeline
from emojax.infer.valence_arousal import SOURCE

NOTICE = (
    "Labels describe the expression shown, as people would label it, with errors; not what a "
    "person feels, thinks or intends. See docs/responsible_use.md."
)


def timeline_json(timeline: Timeline) -> dict[str, Any]:
    """The whole timeline as JSON types."""
    return {
        "schema": SCHEMA,
        "program": f"emojax {__version__}",
        "notice": NOTICE,
        "path": printable(timeline.path),
        "fingerprint": timeline.fingerprint,
        "seconds": timeline.seconds,
        "model": timeline.model,
        "labels": list(timeline.labels),
        "purpose": timeline.purpose,
        "words": timeline.words,
        "language": timeline.language,
        "people": timeline.people,
        "settings": timeline.settings,
        "affect_source": SOURCE,
        "notes": list(timeline.notes),
        "took": timeline.took,
        "changes": [
            {"person": person, **dataclasses.asdict(c)}
            for person, changes in timeline.changes.items()
            for c in changes
        ],
        "segments": [_segment(s) for s in timeline.spans],
    }


def _segment(span: Span) -> dict[str, Any]:
    answer = span.answer
    return {
        "index": span.index,
        "start": span.start,
        "end": span.end,
        "ends_at": span.ends_at,
        "person": span.person,
        "label": answer.label,
        "leading": list(answer.leading),
        "track": span.track or None,
        "probabilities": {k: round(v, 6) for k, v in answer.probabilities.items()},
        "smoothed": span.smoothed,
        "calibrated": answer.calibrated,
        "valence": span.valence,
        "arousal": span.arousal,
        "reason": answer.reason,
        "evidence": [dataclasses.asdict(e) for e in span.evidence],
        "contributions": answer.contributions,
        "modalities": list(answer.modalities),
        "words": span.words,
        "heard": answer.transcript,
        "signs": None if answer.signs is None else list(answer.signs),
        "speakers": list(span.speakers),
        "turns": [{"speaker": who, "words": words} for who, words in span.turns],
        "speech": span.speech,
        "voice": dataclasses.asdict(span.voice) if span.voice else None,
        "motion": span.motion,
        "error": answer.error,
        "notes": list(answer.notes),
        "seconds": answer.seconds,
    }


def columns(timeline: Timeline) -> list[str]:
    """Columns of the tidy table; they depend only on the labels."""
    return [
        *("file", "index", "start", "end", "person", "label", "probability", "track"),
        *("second_label", "second_probability", "valence", "arousal", "ends_at", "speech"),
        *("modalities", "words", "speakers", "reason", "loudness_db", "pitch_hz"),
        *("pitch_range_semitones", "syllables_per_s", "claims_supported", "claims_unsupported"),
        "claims_not_checkable",
        *(f"adds_{m}" for m in MODALITIES),
        *(f"p_{name}" for name in timeline.labels),
        *(f"smoothed_{name}" for name in timeline.labels),
        *("calibrated", "error", "notes", "model", "purpose", "fingerprint"),
    ]


def rows(timeline: Timeline) -> list[dict[str, Any]]:
    """The tidy table; unknown values are None."""
    return [_row(timeline, s) for s in timeline.spans]


def _row(timeline: Timeline, s: Span) -> dict[str, Any]:
    a, v = s.answer, s.voice
    order = sorted(a.probabilities, key=lambda n: -a.probabilities[n])
    verdicts = [e.verdict for e in s.evidence]
    second = order[1] if len(order) > 1 else None
    row: dict[str, Any] = {
        "file": printable(timeline.path),
        "index": s.index,
        "start": s.start,
        "end": s.end,
        "person": s.person or None,
        "label": a.label,
        "probability": round(a.probabilities[order[0]], 6) if order else None,
        "track": s.track or None,
        "second_label": second,
        "second_probability": round(a.probabilities[second], 6) if second else None,
        "valence": s.valence,
        "arousal": s.arousal,
        "ends_at": s.ends_at,
        "speech": s.speech,
        "modalities": "+".join(a.modalities),
        "words": s.words or None,
        "speakers": "; ".join(s.speakers) or None,
        "reason": a.reason or None,
        "loudness_db": v.loudness if v else None,
        "pitch_hz": v.pitch if v else None,
        "pitch_range_semitones": v.pitch_range if v else None,
        "syllables_per_s": v.rate if v else None,
        "claims_supported": verdicts.count("supported"),
        "claims_unsupported": verdicts.count("unsupported"),
        "claims_not_checkable": verdicts.count("not checkable"),
        "calibrated": a.calibrated,
        "error": a.error,
        "notes": "; ".join(a.notes) or None,
        "model": timeline.model,
        "purpose": timeline.purpose or None,
        "fingerprint": timeline.fingerprint or None,
    }
    row |= {
        f"adds_{m}": round(x, 6) if (x := (a.contributions or {}).get(m)) is not None else None
        for m in MODALITIES
    }
    row |= {
        f"p_{name}": round(p, 6) if (p := a.probabilities.get(name)) is not None else None
        for name in timeline.labels
    }
    row |= {f"smoothed_{name}": s.smoothed.get(name) for name in timeline.labels}
    return row


def to_json(timeline: Timeline, files: Mapping[str, str] | None = None) -> bytes:
    """UTF-8 JSON.

    Args:
      timeline: the recording.
      files: SHA-256 of the other outputs of this run, by name.
    """
    return json_bytes(timeline_json(timeline) | {"files": dict(files or {})})


def json_bytes(fields: Mapping[str, Any]) -> bytes:
    """A JSON output with these fields."""
    return utf8(json.dumps(fields, ensure_ascii=False, indent=1))


def to_csv(timeline: Timeline) -> bytes:
    """UTF-8 CSV; unknown values are empty.

    Texts that a spreadsheet would run as a formula get an apostrophe.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, columns(timeline), lineterminator="\n")
    writer.writeheader()
    for row in rows(timeline):
        writer.writerow({k: "" if v is None else _no_formula(v) for k, v in row.items()})
    return out.getvalue().encode()


def _no_formula(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def to_parquet(timeline: Timeline) -> bytes:
    """The tidy table with typed columns."""
    import pyarrow as pa
    from pyarrow import parquet

    texts = {
        *("file", "person", "label", "track", "second_label", "ends_at", "modalities", "words"),
        *("speakers", "reason", "error", "notes", "model", "purpose", "fingerprint"),
    }
    integers = {"index", "claims_supported", "claims_unsupported", "claims_not_checkable"}

    def kind(name: str) -> Any:
        if name in texts:
            return pa.string()
        return (
            pa.int64() if name in integers else pa.bool_() if name == "calibrated" else pa.float64()
        )

    schema = pa.schema([(name, kind(name)) for name in columns(timeline)])
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows(timeline), schema=schema), sink)
    return sink.getvalue()
