"""The HTTP interface: /v1/analyze, /v1/jobs, /v1/chat/completions, /health, /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from data_pipeline.io import lock_folder
from data_pipeline.media.clip import MEDIA_SUFFIXES, ClipError
from data_pipeline.media.stream import recording_seconds
from data_pipeline.media.transcript import untimed_transcript
from emojax.bundle.model_folder import Bundle
from emojax.infer.predict import PredictOptions, predict
from emojax.infer.timeline import make_timeline
from emojax.infer.timeline_records import TimelineOptions
from emojax.reports.recording import FORMATS, write_all
from emojax.serve.chat import add_chat
from emojax.serve.job_store import Job, Jobs
from emojax.serve.limits import (
    PAGE,
    Guard,
    Limits,
    Refuse,
    TooMany,
    allowed_path,
    check_text,
    text_of,
)
from emojax.serve.worker import Busy, Worker

PIECE = 1 << 20
FIELDS = {"path", "labels", "label_only", "contributions", "abstain", "subtitle", "purpose"}
KINDS = {
    "json": "application/json", "csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet",
    "srt": "application/x-subrip", "vtt": "text/vtt", "eaf": "application/xml", "png": "image/png",
    "html": "text/html; charset=utf-8",
}  # fmt: skip


class Service:
    """What all routes share: the model, the thread that asks it, limits, jobs, counts."""

    def __init__(self, bundle: Bundle, limits: Limits, folder: Path):
        self.bundle, self.limits = bundle, limits
        self.name = bundle.name.partition("@")[
            0
        ]  # behind it stands where the model lies, which is nobody else's business
        taken = f"--folder {folder}: another server keeps its files there; give this one a folder of its own"
        self.lock = lock_folder(
            folder / ".lock", taken
        )  # before anything is removed: two would empty each other's
        self.temporary = folder / "requests"
        shutil.rmtree(self.temporary, ignore_errors=True)  # of a server that was killed
        self.temporary.mkdir(parents=True)
        self.jobs = Jobs(folder / "jobs")
        self.worker, self.long = (
            Worker(limits.waiting),
            Worker(0),
        )  # accepted jobs are never refused
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "emojax_requests",
            "Requests by route and status",
            ["route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "emojax_seconds", "Seconds of answered requests", ["route"], registry=self.registry
        )
        self.queue = Gauge(
            "emojax_waiting", "Requests that wait for the model", registry=self.registry
        )
        self.queue.set_function(lambda: self.worker.waiting)
        self.pending = Gauge(
            "emojax_jobs_unfinished", "Accepted jobs that are not done", registry=self.registry
        )
        for job in self.jobs.unfinished():
            self.start(job)

    def count(self, route: str, status: int, seconds: float) -> None:
        """One request is answered."""
        self.requests.labels(route, str(status)).inc()
        if status < 400:
            self.seconds.labels(route).observe(seconds)

    def start(self, job: Job) -> None:
        """Puts an accepted job behind the others."""
        self.pending.inc()
        self.long.submit(lambda: self._run(job))

    def _run(self, job: Job) -> None:
        asked = job.request
        try:
            media = job.folder / asked["media"]
            state = job.folder / "unfinished.jsonl"
            found = make_timeline(
                self.bundle,
                str(media),
                options=TimelineOptions(
                    reasons=asked["reasons"],
                    abstain=asked["abstain"],
                    explain=asked["contributions"],
                    purpose=asked["purpose"],
                ),
                labels=asked["labels"],
                transcript=untimed_transcript(asked["words"], str(media)),
                resume_file=state,
            )
            shown = dataclasses.replace(found, model=self.name, path=asked["name"])
            write_all(
                shown, job.folder / "result", formats=tuple(FORMATS), embed="auto", media=media
            )
            job.finish(state="done", seconds=found.seconds, segments=len(found.spans))
        except Exception as error:  # one job's fault ends that job alone
            job.finish(
                state="failed",
                error=f"{type(error).__name__}: {error}"
                if not isinstance(error, ClipError)
                else str(error),
            )
        finally:
            for done in (
                "unfinished.jsonl",
                asked["media"],
            ):  # the upload, or the link to a named file
                with contextlib.suppress(OSError):
                    (job.folder / done).unlink()
            self.pending.dec()

    async def clip(self, path: Path, ask: dict[str, Any]) -> dict[str, Any]:
        """The answer to one clip; raises Refuse."""
        recording = await asyncio.to_thread(_length, path)
        if recording > self.limits.seconds:
            raise Refuse(
                413,
                f"clips may last {self.limits.seconds:g} s, this one lasts {recording:.0f} s: send it to /v1/jobs",
            )
        task = lambda: next(  # noqa: E731
            predict(
                self.bundle,
                [str(path)],
                labels=ask["labels"],
                subtitle=ask["words"],
                options=PredictOptions(
                    reason=ask["reasons"], abstain=ask["abstain"], explain=ask["contributions"]
                ),
            )
        )
        answer = await self.ask(task)
        if answer.error is not None:
            raise Refuse(422, answer.error)
        return answer.to_json() | {
            "model": self.name,
            "path": ask["name"],
            "purpose": ask["purpose"],
        }

    def check_room(self) -> None:
        """Raises Refuse with 429 when the queue is full."""
        if self.worker.waiting >= self.limits.waiting:
            raise TooMany("too many requests are waiting", 5)

    async def ask(self, task: Callable[[], Any]) -> Any:
        """Runs something on the model's thread; raises Refuse with 429 when too many wait."""
        try:
            return await asyncio.wrap_future(self.worker.submit(task))
        except Busy as busy:
            raise TooMany(str(busy), busy.seconds) from None

    @contextlib.asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """A folder for one request, gone behind it."""
        folder = self.temporary / secrets.token_urlsafe(12)
        folder.mkdir()
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _length(path: Path) -> float:
    try:
        return recording_seconds(str(path))
    except ClipError as error:
        raise Refuse(422, str(error)) from None


def make_app(bundle: Bundle, limits: Limits, folder: Path, *, page: bool = True) -> Any:
    """The ASGI application; `folder` holds temporary files and jobs; `page`: with the one at /ui (web.py)."""
    service = Service(bundle, limits, folder)
    app = FastAPI(
        title="emojax", docs_url=None, redoc_url=None, redirect_slashes=False
    )  # the pages would load scripts from elsewhere

    @app.exception_handler(Refuse)
    async def refused(request: Request, error: Refuse) -> JSONResponse:
        headers = {"Retry-After": str(error.seconds)} if isinstance(error, TooMany) else {}
        return JSONResponse(
            {"error": {"message": error.text, "type": "refused", "code": error.status}},
            error.status,
            headers,
        )

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> JSONResponse:
        said = (
            str(error.detail)
            if error.status_code == 400
            else f"{request.method} {request.url.path}: {error.detail}"
        )
        return JSONResponse(
            {"error": {"message": said, "type": "refused", "code": error.status_code}},
            error.status_code,
        )

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "model": service.name,
            "labels": list(bundle.labels),
            "waiting": service.worker.waiting,
        }

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(
            generate_latest(service.registry), media_type="text/plain; version=0.0.4"
        )

    @app.post("/v1/analyze")
    async def analyze(request: Request) -> dict[str, Any]:
        async with service.folder() as own:
            path, ask = await _asked(request, own, limits)
            return await service.clip(path, ask)

    @app.post("/v1/jobs", status_code=202)
    async def submit(request: Request) -> dict[str, Any]:
        own = service.jobs.new_folder()
        try:
            path, ask = await _asked(request, own, limits)
            seconds = await asyncio.to_thread(_length, path)
            if seconds > limits.job_seconds:
                raise Refuse(
                    413,
                    f"recordings may last {limits.job_seconds:g} s, this one lasts {seconds:.0f} s",
                )
            media = path if path.parent == own else _linked(path, own)
            job = await asyncio.to_thread(service.jobs.accept, own, ask | {"media": media.name})
        except BaseException:
            shutil.rmtree(own, ignore_errors=True)
            raise
        service.start(job)
        return {"id": job.id, "state": "waiting", "url": f"/v1/jobs/{job.id}"}

    @app.get("/v1/jobs/{name}")
    async def job_state(name: str) -> dict[str, Any]:
        found = service.jobs.find(name)
        if found is None:
            raise Refuse(404, "there is no such job")
        return {"id": name, **found.state}

    @app.get("/v1/jobs/{name}/{kind}")
    async def job_output(name: str, kind: str) -> Any:
        found = service.jobs.find(name)
        if (
            found is None
            or kind not in FORMATS
            or not (path := found.folder / f"result.{kind}").exists()
        ):
            raise Refuse(
                404,
                f"there is no such output; there are {', '.join(FORMATS)} of a job that is done",
            )
        name = f"{Path(found.request['name']).stem}.{kind}"
        return FileResponse(path, media_type=KINDS.get(kind), filename=name)

    add_chat(app, service)
    if page:
        from emojax.serve.ui import add_page  # Gradio takes 3 s to import

        for place in ("/", PAGE):
            app.add_api_route(place, lambda: RedirectResponse(f"{PAGE}/"), include_in_schema=False)
        add_page(app, service, folder / "page")
    return Guard(app, limits, service.count)


def _linked(path: Path, folder: Path) -> Path:
    link = folder / f"media{path.suffix}"
    link.symlink_to(path)
    return link


async def _asked(request: Request, folder: Path, limits: Limits) -> tuple[Path, dict[str, Any]]:
    """A form with a file, or JSON with a path: (media file, what is asked)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    fields: dict[str, Any]
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=20, max_part_size=1_000_000) as form:
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise Refuse(422, "the form needs a part `file`")
            name = Path(check_text(upload.filename or "clip")).name
            path = folder / f"media{_suffix(name)}"
            with path.open("wb") as file:
                while piece := await upload.read(PIECE):
                    file.write(piece)
            fields = {k: v for k, v in form.items() if isinstance(v, str)}
    elif kind == "application/json":
        try:
            fields = await request.json()
            name = check_text(str(fields["path"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Refuse(422, 'JSON needs an object with "path"') from None
        path = allowed_path(name, limits.folders)
    else:
        raise Refuse(
            415, "send multipart/form-data with a part `file`, or application/json with a path"
        )
    return path, _fields(fields, name)


def _suffix(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return suffix if suffix in MEDIA_SUFFIXES else ".bin"


def _fields(fields: dict[str, Any], name: str) -> dict[str, Any]:
    def flag(key: str) -> bool:
        value = str(fields.get(key, "")).lower()
        if value not in ("", "none", "0", "false", "no", "off", "1", "true", "yes", "on"):
            raise Refuse(422, f"{key}: true or false")
        return value in ("1", "true", "yes", "on")

    labels = fields.get("labels") or None
    if isinstance(labels, str):
        labels = [x.strip() for x in labels.split(",") if x.strip()]
    if labels is not None:
        good = isinstance(labels, list) and all(
            isinstance(x, str) and 0 < len(x.strip()) <= 80 for x in labels
        )
        labels = list(dict.fromkeys(check_text(x).strip() for x in labels)) if good else []
        if not 2 <= len(labels) <= 200:
            raise Refuse(422, "labels: 2 to 200 different texts of at most 80 characters")
    try:
        abstain = float(fields.get("abstain") or 0)
    except (TypeError, ValueError):
        abstain = -1.0
    if not 0 <= abstain <= 1:
        raise Refuse(422, "abstain: a number from 0 to 1")
    words, purpose = text_of(fields, "subtitle", 100_000), text_of(fields, "purpose", 2000)
    if strange := sorted(set(fields) - FIELDS):
        raise Refuse(
            422,
            f"there is no field {', '.join(map(check_text, strange))}: {', '.join(sorted(FIELDS))}",
        )
    return {
        "name": name, "labels": labels, "abstain": abstain, "words": words, "purpose": purpose,
        "reasons": not flag("label_only"), "contributions": flag("contributions"),
    }  # fmt: skip
