r"""A timeline as subtitles (SubRip, WebVTT).

Written by hand: pysubs2 would read `{...}` and `\N` in the words as markup and drop them.
"""

from __future__ import annotations

import html

from emojax.infer.timeline_records import Span, Timeline


def caption(span: Span) -> str:
    """One line: person, label with its probability, and the words if they are known."""
    answer = span.answer
    if answer.error is not None:
        return "[not answered]"
    if answer.nobody:
        label = f"{answer.label}: nobody seen or heard"
    elif answer.leading:
        label = f"{answer.label}: {' or '.join(answer.leading)}"
    else:
        label = f"{answer.label} {answer.probabilities[answer.label or '']:.0%}"
    person = f"{span.person}: " if span.person else ""
    return f"{person}[{label}]" + (f" {_spoken(span)}" if span.words else "")


def _spoken(span: Span) -> str:
    """The words, each speaker's after the name: `ANNA: hello. BEN: hi`."""
    turns = [f"{who}: {words}" if who else words for who, words in span.turns]
    return " ".join(turns) or span.words


def clock(seconds: float, separator: str) -> str:
    """`00:01:02,345`, with the given separator before the milliseconds."""
    total = max(0, round(seconds * 1000))
    hours, minutes = total // 3_600_000, total // 60_000 % 60
    return f"{hours:02d}:{minutes:02d}:{total // 1000 % 60:02d}{separator}{total % 1000:03d}"


def to_srt(timeline: Timeline) -> bytes:
    """SubRip."""
    parts = [
        f"{n}\n{clock(s.start, ',')} --> {clock(s.end, ',')}\n{_one_line(caption(s))}\n"
        for n, s in enumerate(timeline.spans, 1)
    ]
    return "\n".join(parts).encode()


def to_vtt(timeline: Timeline) -> bytes:
    """WebVTT."""
    parts = [
        f"{clock(s.start, '.')} --> {clock(s.end, '.')}\n{_escaped_line(caption(s))}\n"
        for s in timeline.spans
    ]
    note = f"NOTE purpose: {_escaped_line(timeline.purpose)}\n\n" if timeline.purpose else ""
    return (f"WEBVTT\n\n{note}" + "\n".join(parts)).encode()


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("-->", "->")


def _escaped_line(text: str) -> str:
    return html.escape(_one_line(text), quote=False)
