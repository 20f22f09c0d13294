"""A timeline as subtitles (SRT, WebVTT) and as an ELAN annotation file (.eaf, format 3.0)."""

from __future__ import annotations

import html
import mimetypes
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as ET

from emojax.infer.timeline import Span, Timeline

_XSI = "http://www.w3.org/2001/XMLSchema-instance"


def caption(span: Span) -> str:
    """One line: who, label and its probability, and the words where they are known."""
    answer = span.answer
    if answer.error is not None:
        return "[not answered]"
    if answer.leading:
        named = f"{answer.label}: {' or '.join(answer.leading)}"
    else:
        named = f"{answer.label} {answer.probabilities[answer.label or '']:.0%}"
    who = f"{span.person}: " if span.person else ""
    return f"{who}[{named}]" + (f" {span.words}" if span.words else "")


def clock(seconds: float, comma: str) -> str:
    """`00:01:02,345` with the given mark before the milliseconds."""
    total = max(0, round(seconds * 1000))
    return f"{total // 3_600_000:02d}:{total // 60_000 % 60:02d}:{total // 1000 % 60:02d}{comma}{total % 1000:03d}"


def to_srt(timeline: Timeline) -> bytes:
    """SubRip."""
    parts = [
        f"{n}\n{clock(s.start, ',')} --> {clock(s.end, ',')}\n{_line(caption(s))}\n"
        for n, s in enumerate(timeline.spans, 1)
    ]
    return "\n".join(parts).encode()


def to_vtt(timeline: Timeline) -> bytes:
    """WebVTT."""
    parts = [
        f"{clock(s.start, '.')} --> {clock(s.end, '.')}\n{html.escape(_line(caption(s)), quote=False)}\n"
        for s in timeline.spans
    ]
    note = (
        f"NOTE purpose: {html.escape(_line(timeline.purpose), quote=False)}\n\n"
        if timeline.purpose
        else ""
    )
    return (f"WEBVTT\n\n{note}" + "\n".join(parts)).encode()


def _line(text: str) -> str:
    return " ".join(text.split()).replace("-->", "->")


def to_eaf(timeline: Timeline, folder: Path | None = None) -> bytes:
    """ELAN: tiers of labels, track, reasons and words, for each person its own; `folder`: where the file will lie."""
    root = ET.Element(
        "ANNOTATION_DOCUMENT", {"AUTHOR": "emojax", "FORMAT": "3.0", "VERSION": "3.0"}
    )
    root.set("DATE", datetime.now(UTC).isoformat(timespec="seconds"))
    ET.register_namespace("xsi", _XSI)
    root.set(f"{{{_XSI}}}noNamespaceSchemaLocation", "http://www.mpi.nl/tools/elan/EAFv3.0.xsd")
    header = ET.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    kind = mimetypes.guess_type(timeline.path)[0] or "video/mp4"
    path = Path(timeline.path)
    url = path.absolute().as_uri()
    media = {
        "MEDIA_URL": url,
        "MIME_TYPE": kind,
        "RELATIVE_MEDIA_URL": quote(os.path.relpath(path, folder or Path.cwd())),
    }
    ET.SubElement(header, "MEDIA_DESCRIPTOR", media)
    if timeline.purpose:
        ET.SubElement(header, "PROPERTY", {"NAME": "purpose"}).text = _clean(timeline.purpose)
    order = ET.SubElement(root, "TIME_ORDER")
    slots: dict[int, str] = {}
    for moment in sorted({round(t * 1000) for s in timeline.spans for t in (s.start, s.end)}):
        slots[moment] = f"ts{len(slots) + 1}"
        ET.SubElement(
            order, "TIME_SLOT", {"TIME_SLOT_ID": slots[moment], "TIME_VALUE": str(moment)}
        )
    count = 0

    def tier(name: str, found: Iterable[tuple[Span, str]]) -> None:
        nonlocal count
        parent = ET.SubElement(
            root, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": _clean(name)}
        )
        for span, text in found:
            first, last = slots[round(span.start * 1000)], slots[round(span.end * 1000)]
            if not text or first == last:
                continue
            count += 1
            holder = ET.SubElement(parent, "ANNOTATION")
            where = {"ANNOTATION_ID": f"a{count}", "TIME_SLOT_REF1": first, "TIME_SLOT_REF2": last}
            one = ET.SubElement(holder, "ALIGNABLE_ANNOTATION", where)
            ET.SubElement(one, "ANNOTATION_VALUE").text = _clean(text)

    for person in timeline.persons:
        spans, lead = timeline.of(person), f"{person} " if person else ""
        tier(f"{lead}emotion", ((s, s.answer.label or "") for s in spans))
        tier(
            f"{lead}probability",
            (
                (s, f"{max(s.answer.probabilities.values()):.3f}" if s.answer.probabilities else "")
                for s in spans
            ),
        )
        tier(f"{lead}track", ((s, s.track) for s in spans))
        tier(f"{lead}reason", ((s, s.answer.reason) for s in spans))
        tier(f"{lead}words", ((s, s.words) for s in spans))
    ET.SubElement(
        root,
        "LINGUISTIC_TYPE",
        {
            "GRAPHIC_REFERENCES": "false",
            "LINGUISTIC_TYPE_ID": "default-lt",
            "TIME_ALIGNABLE": "true",
        },
    )
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def _clean(text: str) -> str:
    """Without characters that XML can not hold."""
    return "".join(
        c
        if c in "\t\n" or 0x20 <= ord(c) < 0xD800 or 0xE000 <= ord(c) < 0xFFFE or ord(c) > 0xFFFF
        else " "
        for c in text
    )
