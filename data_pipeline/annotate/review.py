"""A local web page on which annotators mark five aspects of annotations by keyboard.

Each saved clip appends a line to OUT/marks/NAME.jsonl; the last line of a clip counts. The server
answers only to this machine. Needs `pip install -e '.[serve]'`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.annotate.annotation import Annotation
from data_pipeline.annotate.runner import STATE, read_state
from data_pipeline.annotate.units import unit_code, unit_phrases
from data_pipeline.annotate.verify import ASPECTS, MARKS, Check, check_claims, read_marks
from data_pipeline.schema import read_records

logger = logging.getLogger(f"emojax.{__name__}")
MAX_REMARK = 1000  # characters
_NOT_ONE_LINE = re.compile("[\x00-\x1f\ud800-\udfff]")  # cannot be part of a line of a file


def sample_clips(annotations: Sequence[Annotation], *, count: int, seed: int) -> list[Annotation]:
    """Draws clips, the same for every annotator and balanced over labels, as in MERR's check.

    Args:
      annotations: of all clips; those that were left out are not drawn.
      count: maximum number of clips.
      seed: of the draw.
    """

    def order(a: Annotation) -> bytes:
        return hashlib.sha256(f"{seed} {a.clip}".encode()).digest()

    by_label: dict[str, list[Annotation]] = defaultdict(list)
    for a in sorted(annotations, key=order):
        if not a.left_out:
            by_label[a.label].append(a)
    out: list[Annotation] = []
    while len(out) < count and any(by_label.values()):
        for label in sorted(by_label):
            if by_label[label] and len(out) < count:
                out.append(by_label[label].pop(0))
    return out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Review:
    """The sample that one annotator marks.

    Attributes:
      out: output folder of the annotation; the marks are saved there.
      annotator: name of the annotator.
      shown: the sample.
      digests: of all annotations, by clip.
      checks: verified claims, by clip.
    """

    out: Path
    annotator: str
    shown: Sequence[Annotation]
    digests: Mapping[str, str]
    checks: Mapping[str, Sequence[Check]]

    def items(self) -> dict[str, Any]:
        """Returns the clips to mark, with the marks so far."""
        annotators = read_marks(self.out, digests=self.digests)
        marks = next((m for m in annotators if m.annotator == self.annotator), None)
        return {
            "annotator": self.annotator,
            "aspects": list(ASPECTS),
            "items": [
                _item(a, self.checks.get(a.clip, ()))
                | {
                    "marks": marks.marks.get(a.clip) if marks else None,
                    "again": marks.again.get(a.clip) if marks else None,
                }
                for a in self.shown
            ],
        }

    def save(self, body: Mapping[str, Any]) -> str:
        """Saves the marks of one clip.

        Args:
          body: `clip`, `marks` ({aspect: true, false or null}) and `again` (a remark or null).

        Returns:
          The clip.

        Raises:
          ValueError: the body is invalid.
        """
        clip, values, again = body.get("clip"), body.get("marks"), body.get("again")
        marks = {a: values.get(a) for a in ASPECTS} if isinstance(values, dict) else {}
        valid = marks and all(v is None or isinstance(v, bool) for v in marks.values())
        if not valid or not isinstance(clip, str) or clip not in {a.clip for a in self.shown}:
            raise ValueError("needs a clip of this page, and marks that are true, false or null")
        if again is not None and (
            not isinstance(again, str) or len(again) > MAX_REMARK or _NOT_ONE_LINE.search(again)
        ):
            raise ValueError(f"a remark is one line of at most {MAX_REMARK:,} characters")
        line = {"clip": clip, "of": self.digests[clip], "marks": marks, "again": again}
        path = self.out / MARKS / f"{self.annotator}.jsonl"
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return clip


def open_review(out: Path, annotator: str, *, count: int, seed: int) -> Review:
    """Prepares the review of one annotator.

    Args:
      out: output folder of the annotation.
      annotator: name of the annotator.
      count: number of clips to show.
      seed: of the sample.

    Raises:
      ValueError: the annotator's name is invalid, or there is no clip to show.
    """
    if not re.fullmatch(r"[\w.-]{1,40}", annotator) or annotator.startswith("."):
        raise ValueError(
            f"--annotator '{annotator}': 1 to 40 letters, digits, dots, - and _: it names a file"
        )
    annotations = list(read_state(out / STATE).values())
    shown = sample_clips(_kept(out, annotations), count=count, seed=seed)
    if not shown:
        raise ValueError(f"{out}: no annotation can be shown")
    (out / MARKS).mkdir(exist_ok=True)
    return Review(
        out=out,
        annotator=annotator,
        shown=shown,
        digests={a.clip: a.digest for a in annotations},
        checks=check_claims(annotations),
    )


def make_app(review: Review, page: str) -> Any:
    """Builds the page as an ASGI application.

    Args:
      review: the sample to show.
      page: HTML text of the page.

    Raises:
      ImportError: FastAPI is not installed.
    """
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse, HTMLResponse
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(title="emojax verify", docs_url=None, redoc_url=None, openapi_url=None)
    # Another site in the same browser could name this machine by a host of its own and read clips.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])

    # FastAPI looks up the types of routes as global names.
    @app.get("/", response_class=HTMLResponse)
    async def home() -> Any:
        return HTMLResponse(page)

    @app.get("/items")
    async def items() -> dict[str, Any]:
        return review.items()

    @app.get("/media/{number}", response_class=FileResponse)
    async def media(number: int) -> Any:
        shown = review.shown
        if not 0 <= number < len(shown) or not Path(shown[number].path).is_file():
            raise HTTPException(404, "the file of this clip is missing")
        return FileResponse(shown[number].path)

    @app.post("/marks")
    async def save(body: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"saved": review.save(body)}
        except ValueError as error:
            raise HTTPException(422, str(error)) from error

    return app


def _kept(out: Path, annotations: Sequence[Annotation]) -> list[Annotation]:
    """Returns the annotations that are in records.jsonl; all of them if there is no such file."""
    records = out / "records.jsonl"
    if not records.exists():
        return list(annotations)
    ids = {r.id for r in read_records(records)}
    return [a for a in annotations if a.clip in ids]


def _item(a: Annotation, checks: Sequence[Check]) -> dict[str, Any]:
    """Returns what the page shows of a clip."""
    audio = [a.notes[n].get("description", "") for n in ("audio", "audio_2") if n in a.notes]
    reasoning = a.notes.get("reasoning", {})
    phrases = zip(a.peak_units, unit_phrases(a.peak_units), strict=True)
    return {
        "clip": a.clip,
        "label": a.label,
        "start": a.start,
        "end": a.end,
        "audio": " / ".join(filter(None, audio)),
        "visual": a.notes.get("visual", {}).get("description", ""),
        "face": ", ".join(f"{unit_code(unit)} {phrase}" for unit, phrase in phrases),
        "peak": a.peak_time,
        "text": " / ".join(filter(None, [a.words, reasoning.get("words", "")])),
        "reasoning": a.reason,
        "result": reasoning.get("label") or a.label,
        "checks": [{"phrase": c.phrase, "verdict": c.verdict, "by": c.by} for c in checks],
    }


def serve(out: Path, annotator: str, *, count: int, page: str, seed: int, port: int) -> None:
    """Serves the page on this machine until Ctrl-C.

    Args:
      out: output folder of the annotation.
      annotator: name of the annotator.
      count: number of clips to show.
      page: its HTML text.
      seed: of the sample.
      port: of the server.

    Raises:
      ValueError: FastAPI or uvicorn is not installed, or see `open_review`.
    """
    try:
        import uvicorn

        app = make_app(open_review(out, annotator, count=count, seed=seed), page)
    except ImportError as error:
        raise ValueError(
            f"the page needs more packages: pip install -e '.[serve]' ({error})"
        ) from error
    logger.info(
        "%s marks at http://127.0.0.1:%d  (Ctrl-C ends it; marks are saved one by one)",
        annotator,
        port,
    )
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", server_header=False)
