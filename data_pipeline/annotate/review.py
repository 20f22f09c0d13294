"""A local page on which people mark annotations by keyboard: five aspects, yes, no or can not tell. Needs `pip install emojax[serve]`.

OUT/marks/NAME.jsonl gets one line a saved clip; the last line of a clip counts. Answers only to this machine.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.annotate.describe import Annotation
from data_pipeline.annotate.runner import STATE, read_state
from data_pipeline.annotate.units import phrases
from data_pipeline.annotate.verify import ASPECTS, MARKS, check_claims, read_marks
from data_pipeline.schema import read_records

UNWRITABLE = re.compile("[\x00-\x1f\ud800-\udfff]")  # in a line of a file


def sample(found: Sequence[Annotation], count: int, seed: int) -> list[Annotation]:
    """The same clips for every annotator, labels in turn (MERR's check: as many of each); left-out ones are not shown."""
    by_label: dict[str, list[Annotation]] = defaultdict(list)
    for a in sorted(found, key=lambda a: hashlib.sha256(f"{seed} {a.clip}".encode()).digest()):
        if not a.left_out:
            by_label[a.label].append(a)
    out: list[Annotation] = []
    while len(out) < count and any(by_label.values()):
        for label in sorted(by_label):
            if by_label[label] and len(out) < count:
                out.append(by_label[label].pop(0))
    return out


def make_app(out: Path, annotator: str, count: int, seed: int) -> Any:
    """The page as an ASGI application; raises ValueError for a name that is none, or where there is nothing to mark."""
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse, HTMLResponse
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    if not re.fullmatch(r"[\w.-]{1,40}", annotator) or annotator.startswith("."):
        raise ValueError(
            f"--annotator '{annotator}': 1 to 40 letters, digits, dots, - and _: it names a file"
        )
    found = list(read_state(out / STATE).values())
    kept = out / "records.jsonl"
    inside = {r.id for r in read_records(kept)} if kept.exists() else {a.clip for a in found}
    shown = sample([a for a in found if a.clip in inside], count, seed)
    digests = {a.clip: a.digest for a in found}
    if not shown:
        raise ValueError(f"{out}: no annotation can be shown")
    checks = check_claims(found)
    known = {a.clip: number for number, a in enumerate(shown)}
    path = out / MARKS / f"{annotator}.jsonl"
    path.parent.mkdir(exist_ok=True)
    app = FastAPI(title="emojax verify", docs_url=None, redoc_url=None, openapi_url=None)
    # Another site that a browser shows may give this machine a name of its own, and read clips by it.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    page = (
        importlib.resources.files("data_pipeline.annotate")
        .joinpath("review.html")
        .read_text(encoding="utf-8")
    )

    # Types of routes must be global names: FastAPI looks them up.
    @app.get("/", response_class=HTMLResponse)
    async def home() -> Any:
        return HTMLResponse(page)

    @app.get("/items")
    async def items() -> dict[str, Any]:
        own = next((m for m in read_marks(out, digests=digests) if m.annotator == annotator), None)
        return {
            "annotator": annotator,
            "aspects": list(ASPECTS),
            "items": [
                _item(a, checks.get(a.clip, ()))
                | {
                    "marks": own.marks.get(a.clip) if own else None,
                    "again": own.again.get(a.clip) if own else None,
                }
                for a in shown
            ],
        }

    @app.get("/media/{number}", response_class=FileResponse)
    async def media(number: int) -> Any:
        if not 0 <= number < len(shown) or not Path(shown[number].path).is_file():
            raise HTTPException(404, "the clip is not where it was")
        return FileResponse(shown[number].path)

    @app.post("/marks")
    async def save(body: dict[str, Any]) -> dict[str, Any]:
        clip, said, again = body.get("clip"), body.get("marks"), body.get("again")
        marks = {a: said.get(a) for a in ASPECTS} if isinstance(said, dict) else {}
        good = marks and all(v is None or isinstance(v, bool) for v in marks.values())
        if not good or not isinstance(clip, str) or clip not in known:
            raise HTTPException(422, "a clip of this page, and marks that are true, false or null")
        if not (
            again is None
            or (isinstance(again, str) and len(again) <= 1000 and not UNWRITABLE.search(again))
        ):
            raise HTTPException(422, "a remark is a line of at most 1,000 characters")
        line = {"clip": clip, "of": digests[clip], "marks": marks, "again": again}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return {"saved": clip}

    return app


def _item(a: Annotation, checks: Sequence[Any]) -> dict[str, Any]:
    heard = [a.notes[n].get("description", "") for n in ("audio", "audio_2") if n in a.notes]
    face = ", ".join(
        f"{unit_code(u)} {p}" for u, p in zip(a.peak_units, phrases(a.peak_units), strict=True)
    )
    return {
        "clip": a.clip,
        "label": a.label,
        "start": a.start,
        "end": a.end,
        "audio": " / ".join(filter(None, heard)),
        "visual": a.notes.get("visual", {}).get("description", ""),
        "face": face,
        "peak": a.peak_time,
        "text": " / ".join(filter(None, [a.words, a.notes.get("reasoning", {}).get("words", "")])),
        "reasoning": a.reason,
        "result": a.notes.get("reasoning", {}).get("label") or a.label,
        "checks": [{"phrase": c.phrase, "verdict": c.verdict, "by": c.by} for c in checks],
    }


def serve(
    out: Path, annotator: str, count: int, *, seed: int, port: int, say: Callable[[str], Any]
) -> int:
    """Serves the page on this machine until Ctrl-C."""
    try:
        import uvicorn

        app = make_app(out, annotator, count, seed)
    except ImportError as error:
        raise ValueError(
            f"the page needs more packages: pip install 'emojax[serve]' ({error})"
        ) from error
    say(
        f"{annotator} marks at http://127.0.0.1:{port}  (Ctrl-C ends it; marks are saved one by one)"
    )
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", server_header=False)
    return 0
