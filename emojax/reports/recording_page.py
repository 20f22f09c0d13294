"""A timeline as one HTML page: player, emotion track, lanes of modalities, transcript.

A click seeks. The page needs no network; `templates/recording.html` is its text.
"""

from __future__ import annotations

import base64
import mimetypes
import os
from pathlib import Path
from urllib.parse import quote

from emojax.infer.timeline_records import Timeline, describe_words
from emojax.reports.html_page import render_page
from emojax.reports.palette import label_colours
from emojax.reports.recording_tables import NOTICE, timeline_json

EMBED_LIMIT = 25_000_000  # bytes of a recording that the page itself contains
EMBED = ("auto", "always", "never")


def to_html(
    timeline: Timeline,
    *,
    embed: str = "auto",
    folder: Path | None = None,
    media: Path | None = None,
) -> bytes:
    """The page of a recording.

    Args:
      timeline: the recording.
      embed: `auto` embeds recordings of up to EMBED_LIMIT bytes in the page. Others are loaded from
        their place relative to `folder`; if that fails, the page asks for the file.
      folder: where the page will be; None is the working folder.
      media: where the recording is, if `timeline.path` is only a name.

    Raises:
      ValueError: `embed` is not in EMBED.
    """
    if embed not in EMBED:
        raise ValueError(f"embed is '{embed}', needs one of {', '.join(EMBED)}")
    path = Path(timeline.path)
    kind = mimetypes.guess_type(path.name)[0] or "video/mp4"
    page = render_page(
        "recording.html",
        title=path.name,
        facts="; ".join(_facts(timeline)),
        notice=NOTICE,
        player="audio" if kind.startswith("audio/") else "video",
        media=_media_url(media or path, kind, embed, folder),
        footer=" ".join(_footer(timeline)),
        data=timeline_json(timeline) | {"colours": label_colours(timeline.labels)},
    )
    return page.encode("utf-8", "replace")


def _facts(timeline: Timeline) -> list[str]:
    minutes, seconds = divmod(round(timeline.seconds), 60)
    answered = sum(s.answer.error is None for s in timeline.spans)
    facts = [
        f"{minutes} min {seconds} s",
        f"{answered} of {len(timeline.spans)} segments answered",
        describe_words(timeline),
        f"people: {timeline.people}",
        f"model: {timeline.model}",
    ]
    return facts + ([f"purpose: {timeline.purpose}"] if timeline.purpose else [])


def _footer(timeline: Timeline) -> list[str]:
    answers = [s.answer for s in timeline.spans if s.answer.error is None]
    calibrated = answers and all(a.calibrated for a in answers)
    explained = any(s.answer.contributions for s in timeline.spans)
    return [
        "Probabilities are calibrated on validation clips."
        if calibrated
        else "Probabilities are not calibrated.",
        "The curves are averaged over neighbours in time; boxes are the answers themselves.",
        f"Lanes: what the answer could use{', and what it added' if explained else ''}.",
        *(f"{n}." for n in timeline.notes),
    ]


def _media_url(path: Path, kind: str, embed: str, folder: Path | None) -> str:
    """A data URL, a relative URL, or "" if there is no such file."""
    if not path.is_file():
        return ""
    if embed == "always" or (embed == "auto" and path.stat().st_size <= EMBED_LIMIT):
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return quote(os.fsencode(os.path.relpath(path, folder or Path.cwd())))
