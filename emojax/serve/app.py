"""The HTTP interface: /v1/analyze, /v1/jobs, /v1/chat/completions, /health, /metrics, /ui."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse
from prometheus_client import generate_latest
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from data_pipeline.media.file_kinds import is_media, suffix_of
from emojax.bundle.model_folder import Bundle
from emojax.reports.recording import FORMATS
from emojax.serve.chat import add_chat
from emojax.serve.limits import (
    MAX_PURPOSE,
    PAGE_PATH,
    Guard,
    Limits,
    RequestError,
    TooManyRequests,
    allowed_path,
    check_duration,
    check_text,
    parse_labels,
    text_field,
)
from emojax.serve.service import Service, media_seconds

UPLOAD_CHUNK = 1 << 20  # bytes
FIELDS = {"path", "labels", "label_only", "contributions", "abstain", "subtitle", "purpose"}
_FALSE, _TRUE = ("", "none", "0", "false", "no", "off"), ("1", "true", "yes", "on")
MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "eaf": "application/xml",
    "png": "image/png",
    "html": "text/html; charset=utf-8",
}


def make_app(bundle: Bundle, limits: Limits, folder: Path, *, page: bool = True) -> Guard:
    """The ASGI application.

    Args:
      bundle: the model.
      limits: see Limits.
      folder: of temporary files and jobs.
      page: with the page at /ui; `ui.page_environment` must be set before.

    Raises:
      ValueError: another server uses the folder.
      RuntimeError: with a page, the variables of `ui.page_environment` are not set.
    """
    service = Service(bundle, limits, folder)
    # FastAPI's own documentation pages would load scripts from other servers.
    app = FastAPI(title="emojax", docs_url=None, redoc_url=None, redirect_slashes=False)
    _add_errors(app)
    _add_status(app, service)
    _add_analyze(app, service)
    _add_jobs(app, service)
    add_chat(app, service)
    if page:
        from emojax.serve.ui import add_page, page_folder  # importing Gradio takes 3 s

        for path in ("/", PAGE_PATH):
            redirect = lambda: RedirectResponse(f"{PAGE_PATH}/")  # noqa: E731
            app.add_api_route(path, redirect, include_in_schema=False)
        add_page(app, service, page_folder(folder))
    return Guard(app, limits, service.record_request)


def _add_errors(app: FastAPI) -> None:
    def response(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
        error = {"message": message, "type": "refused", "code": status}
        return JSONResponse({"error": error}, status, headers)

    @app.exception_handler(RequestError)
    async def request_error(_request: Request, error: RequestError) -> JSONResponse:
        headers = {"Retry-After": str(error.seconds)} if isinstance(error, TooManyRequests) else {}
        return response(error.status, error.message, headers)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code != 400:
            message = f"{request.method} {request.url.path}: {message}"
        return response(error.status_code, message)


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "model": service.name,
            "labels": list(service.bundle.labels),
            "waiting": service.worker.waiting,
        }

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(
            generate_latest(service.registry), media_type="text/plain; version=0.0.4"
        )


def _add_analyze(app: FastAPI, service: Service) -> None:
    @app.post("/v1/analyze")
    async def analyze(request: Request) -> dict[str, Any]:
        async with service.request_folder() as folder:
            path, fields = await _read_request(request, folder, service.limits)
            return await service.analyze_clip(path, fields)


def _add_jobs(app: FastAPI, service: Service) -> None:
    @app.post("/v1/jobs", status_code=202)
    async def submit(request: Request) -> dict[str, Any]:
        folder = service.jobs.new_folder()
        try:
            path, fields = await _read_request(request, folder, service.limits)
            seconds = await asyncio.to_thread(media_seconds, path)
            check_duration(seconds, service.limits.job_seconds, what="recordings")
            media = path if path.parent == folder else _linked(path, folder)
            fields["media"] = media.name
            job = await asyncio.to_thread(service.jobs.accept, folder, fields)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        service.start_job(job)
        return {"id": job.id, "state": "waiting", "url": f"/v1/jobs/{job.id}"}

    @app.get("/v1/jobs/{name}")
    async def job_state(name: str) -> dict[str, Any]:
        job = service.jobs.find(name)
        if job is None:
            raise RequestError(404, "there is no such job")
        return {"id": name, **job.state}

    @app.get("/v1/jobs/{name}/{kind}")
    async def job_output(name: str, kind: str) -> Any:
        job = service.jobs.find(name)
        if (
            job is None
            or kind not in FORMATS
            or not (path := job.folder / f"result.{kind}").exists()
        ):
            raise RequestError(
                404, f"there is no such output; a job that is done has {', '.join(FORMATS)}"
            )
        filename = f"{Path(job.request['name']).stem}.{kind}"
        return FileResponse(path, media_type=MEDIA_TYPES.get(kind), filename=filename)


def _linked(path: Path, folder: Path) -> Path:
    link = folder / f"media{path.suffix}"
    link.symlink_to(path)
    return link


async def _read_request(
    request: Request, folder: Path, limits: Limits
) -> tuple[Path, dict[str, Any]]:
    """Reads a form with a file, or JSON with a path.

    Returns:
      The media file (an upload is stored in `folder`), and the checked fields.

    Raises:
      RequestError: the request is not valid.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    fields: dict[str, Any]
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=20, max_part_size=1_000_000) as form:
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise RequestError(422, "the form needs a part `file`")
            name = Path(check_text(upload.filename or "clip")).name
            path = folder / f"media{_suffix(name)}"
            with path.open("wb") as file:
                while chunk := await upload.read(UPLOAD_CHUNK):
                    file.write(chunk)
            fields = {k: v for k, v in form.items() if isinstance(v, str)}
    elif kind == "application/json":
        try:
            fields = await request.json()
            name = check_text(str(fields["path"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RequestError(422, 'the JSON must be an object with "path"') from None
        path = allowed_path(name, limits.folders)
    else:
        raise RequestError(
            415, "send multipart/form-data with a part `file`, or application/json with a path"
        )
    return path, _checked_fields(fields, name)


def _suffix(name: str) -> str:
    return suffix_of(name) if is_media(name) else ".bin"


def _checked_fields(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """The fields of a request in the form that `Service` and request.json have."""
    labels = parse_labels(fields["labels"]) if fields.get("labels") else None
    try:
        abstain = float(fields.get("abstain") or 0)
    except (TypeError, ValueError):
        abstain = -1.0
    if not 0 <= abstain <= 1:
        raise RequestError(422, "abstain: a number from 0 to 1")
    words = text_field(fields, "subtitle", 100_000)
    purpose = text_field(fields, "purpose", MAX_PURPOSE)
    if unknown := sorted(set(fields) - FIELDS):
        raise RequestError(
            422,
            f"there is no field {', '.join(map(check_text, unknown))}; "
            f"the fields are {', '.join(sorted(FIELDS))}",
        )
    return {
        "name": name,
        "labels": labels,
        "abstain": abstain,
        "words": words,
        "purpose": purpose,
        "reasons": not _flag(fields, "label_only"),
        "contributions": _flag(fields, "contributions"),
    }


def _flag(fields: dict[str, Any], key: str) -> bool:
    value = str(fields.get(key, "")).lower()
    if value not in _FALSE + _TRUE:
        raise RequestError(422, f"{key}: true or false")
    return value in _TRUE
