"""A timeline as one HTML page that needs no network: player, emotion track, lanes of modalities, transcript; click to seek.

The page's own text is `page.html` beside this file; only what `Template` fills in differs between recordings.
"""

from __future__ import annotations

import base64
import html
import importlib.resources
import json
import mimetypes
import os
from pathlib import Path
from string import Template
from urllib.parse import quote

from emojax.infer.timeline import Timeline, source_of_words
from emojax.reports.recording_plot import palette
from emojax.reports.recording_tables import NOTICE, timeline_json

EMBED_LIMIT = 25_000_000  # bytes of a recording that the page itself holds
EMBED = ("auto", "always", "never")


def to_html(
    timeline: Timeline, embed: str = "auto", folder: Path | None = None, media: Path | None = None
) -> bytes:
    """The page.

    Args:
      embed: `auto` puts recordings of up to EMBED_LIMIT into the page; others are looked for where they are, relative to `folder`, and
        the page asks for them where that fails.
      media: where the recording lies, if `timeline.path` is a name alone.
    """
    if embed not in EMBED:
        raise ValueError(f"embed is '{embed}', needs one of {', '.join(EMBED)}")
    path = Path(timeline.path)
    kind = mimetypes.guess_type(path.name)[0] or "video/mp4"
    data = timeline_json(timeline) | {"colours": palette(timeline.labels)}
    answered = sum(s.answer.error is None for s in timeline.spans)
    minutes = "{} min {} s".format(*divmod(round(timeline.seconds), 60))
    facts = [
        minutes,
        f"{answered} of {len(timeline.spans)} segments answered",
        source_of_words(timeline),
    ]
    facts += [f"people: {timeline.people}", f"model: {timeline.model}"]
    facts += [f"purpose: {timeline.purpose}"] if timeline.purpose else []
    calibrated = answered and all(
        s.answer.calibrated for s in timeline.spans if s.answer.error is None
    )
    foot = [
        "Probabilities are calibrated on validation clips."
        if calibrated
        else "Probabilities are not calibrated."
    ]
    foot += ["The curves are averaged over neighbours in time; boxes are the answers themselves."]
    foot += [
        "Lanes: what the answer could use"
        + (", and what it added" if _explained(timeline) else "")
        + "."
    ]
    foot += [f"{n}." for n in timeline.notes]
    text = (
        importlib.resources.files("emojax.reports")
        .joinpath("recording_page.html")
        .read_text(encoding="utf-8")
    )
    page = Template(text).substitute(
        title=html.escape(path.name),
        facts=html.escape("; ".join(facts)),
        notice=html.escape(NOTICE),
        tag="audio" if kind.startswith("audio/") else "video",
        media=_media(media or path, kind, embed, folder),
        foot=html.escape(" ".join(foot)),
        # `</script>` inside a string would end the element
        data=json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
    )
    return page.encode("utf-8", "replace")


def _explained(timeline: Timeline) -> bool:
    return any(s.answer.contributions for s in timeline.spans)


def _media(path: Path, kind: str, embed: str, folder: Path | None) -> str:
    if not path.is_file():
        return ""
    if embed == "always" or (embed == "auto" and path.stat().st_size <= EMBED_LIMIT):
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return quote(os.path.relpath(path, folder or Path.cwd()))
