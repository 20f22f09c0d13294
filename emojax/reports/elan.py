"""A timeline as an ELAN annotation file (.eaf, format 3.0)."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as ET

from emojax.infer.timeline_records import Span, Timeline

# Written by hand: ET.register_namespace would change the prefixes of the whole process.
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"


def to_eaf(timeline: Timeline, folder: Path | None = None) -> bytes:
    """ELAN: for each person, tiers of label, probability, track, reason and words.

    Args:
      timeline: the recording.
      folder: where the file will be, for the relative path of the media; None is the working
        folder.
    """
    root = ET.Element(
        "ANNOTATION_DOCUMENT",
        {"xmlns:xsi": _XSI, "AUTHOR": "emojax", "FORMAT": "3.0", "VERSION": "3.0"},
    )
    root.set("DATE", datetime.now(UTC).isoformat(timespec="seconds"))
    root.set("xsi:noNamespaceSchemaLocation", _SCHEMA)
    _add_header(root, timeline, folder)
    slots = _add_time_slots(root, timeline)
    count = 0
    for name, texts in _tiers(timeline):
        count = _add_tier(root, name, texts, slots, count=count)
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
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _add_header(root: ET.Element, timeline: Timeline, folder: Path | None) -> None:
    header = ET.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    path = Path(timeline.path)
    media = {
        "MEDIA_URL": path.absolute().as_uri(),
        "MIME_TYPE": mimetypes.guess_type(timeline.path)[0] or "video/mp4",
        "RELATIVE_MEDIA_URL": quote(os.fsencode(os.path.relpath(path, folder or Path.cwd()))),
    }
    ET.SubElement(header, "MEDIA_DESCRIPTOR", media)
    if timeline.purpose:
        ET.SubElement(header, "PROPERTY", {"NAME": "purpose"}).text = _clean(timeline.purpose)


def _add_time_slots(root: ET.Element, timeline: Timeline) -> dict[int, str]:
    """Adds the time slots; returns {milliseconds: id}."""
    order = ET.SubElement(root, "TIME_ORDER")
    slots: dict[int, str] = {}
    for moment in sorted({_milliseconds(t) for s in timeline.spans for t in (s.start, s.end)}):
        slots[moment] = f"ts{len(slots) + 1}"
        ET.SubElement(
            order, "TIME_SLOT", {"TIME_SLOT_ID": slots[moment], "TIME_VALUE": str(moment)}
        )
    return slots


def _tiers(timeline: Timeline) -> Iterator[tuple[str, list[tuple[Span, str]]]]:
    """Yields (tier, [(span, text)])."""
    for person in timeline.persons:
        spans, prefix = timeline.spans_of(person), f"{person} " if person else ""
        yield f"{prefix}emotion", [(s, s.answer.label or "") for s in spans]
        probs = [max(s.answer.probabilities.values(), default=None) for s in spans]
        yield (
            f"{prefix}probability",
            [(s, "" if p is None else f"{p:.3f}") for s, p in zip(spans, probs, strict=True)],
        )
        yield f"{prefix}track", [(s, s.track) for s in spans]
        yield f"{prefix}reason", [(s, s.answer.reason) for s in spans]
        yield f"{prefix}words", [(s, s.words) for s in spans]
    # The tracks of a segment share its words.
    segments = list({s.index: s for s in timeline.spans}.values())
    for speaker in dict.fromkeys(who for s in timeline.spans for who, _ in s.turns if who):
        own = [" ".join(words for who, words in s.turns if who == speaker) for s in segments]
        yield f"words of {speaker}", list(zip(segments, own, strict=True))


def _add_tier(
    root: ET.Element,
    name: str,
    annotations: Iterable[tuple[Span, str]],
    slots: dict[int, str],
    *,
    count: int,
) -> int:
    """Adds a tier; returns the number of annotations so far, `count` before it."""
    tier = ET.SubElement(
        root, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": _clean(name)}
    )
    for span, text in annotations:
        first, last = slots[_milliseconds(span.start)], slots[_milliseconds(span.end)]
        if not text or first == last:
            continue
        count += 1
        attributes = {
            "ANNOTATION_ID": f"a{count}",
            "TIME_SLOT_REF1": first,
            "TIME_SLOT_REF2": last,
        }
        annotation = ET.SubElement(
            ET.SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", attributes
        )
        ET.SubElement(annotation, "ANNOTATION_VALUE").text = _clean(text)
    return count


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _clean(text: str) -> str:
    """The text with blanks in place of characters that XML cannot represent."""
    return "".join(
        c
        if c in "\t\n" or 0x20 <= ord(c) < 0xD800 or 0xE000 <= ord(c) < 0xFFFE or ord(c) > 0xFFFF
        else " "
        for c in text
    )
