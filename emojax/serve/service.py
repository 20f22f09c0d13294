"""What all routes share: the model, the threads that run it, limits, jobs and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from data_pipeline.io import try_lock
from data_pipeline.loader.tokens import RowTooLong
from data_pipeline.media.container import ClipError
from data_pipeline.media.stream import recording_seconds
from data_pipeline.media.transcript import untimed_transcript
from emojax.bundle.model_folder import Bundle
from emojax.infer.predict import PredictOptions, predict
from emojax.infer.timeline import make_timeline
from emojax.infer.timeline_records import TimelineOptions
from emojax.reports.recording import FORMATS, write_all
from emojax.serve.job_store import Job, JobStore
from emojax.serve.limits import Limits, RequestError, TooManyRequests, check_duration
from emojax.serve.worker import QueueFull, Worker

FOR_RECORDINGS = "send it to /v1/jobs, which answers recordings part by part"


class Service:
    """The model and everything that its routes share.

    Attributes:
      bundle: the model.
      limits: see Limits.
      name: the model's name without its folder, which clients need not know.
      requests_folder: temporary files of requests.
      jobs: accepted recordings.
      worker: runs requests on the model.
      job_worker: runs jobs on the model; its queue has no limit.
      registry: metrics for Prometheus.
    """

    def __init__(self, bundle: Bundle, limits: Limits, folder: Path):
        """Takes over the folder and continues its unfinished jobs.

        Args:
          bundle: the model.
          limits: see Limits.
          folder: of temporary files and jobs.

        Raises:
          ValueError: another server uses the folder.
        """
        self.bundle, self.limits = bundle, limits
        self.name = bundle.name.partition("@")[0]
        # Before anything is removed: two servers would delete each other's files.
        self.lock = try_lock(
            folder / ".lock",
            f"--folder {folder}: another server uses this folder; choose another one",
        )
        self.requests_folder = folder / "requests"
        shutil.rmtree(self.requests_folder, ignore_errors=True)  # of a server that was killed
        self.requests_folder.mkdir(parents=True)
        self.jobs = JobStore(folder / "jobs")
        self.worker = Worker(limits.waiting)
        self.job_worker = Worker(0)
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "emojax_requests",
            "Requests by route and status",
            ["route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "emojax_seconds", "Seconds of answered requests", ["route"], registry=self.registry
        )
        waiting = Gauge(
            "emojax_waiting", "Requests that wait for the model", registry=self.registry
        )
        waiting.set_function(lambda: self.worker.waiting)
        self._unfinished = Gauge(
            "emojax_jobs_unfinished", "Accepted jobs that are not done", registry=self.registry
        )
        for job in self.jobs.unfinished():
            self.start_job(job)

    def record_request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request."""
        self._requests.labels(route, str(status)).inc()
        if status < 400:
            self._seconds.labels(route).observe(seconds)

    def start_job(self, job: Job) -> None:
        """Queues an accepted job."""
        self._unfinished.inc()
        self.job_worker.submit(lambda: self._run_job(job))

    def _run_job(self, job: Job) -> None:
        request = job.request
        try:
            self._write_outputs(job, request)
        except ClipError as error:
            job.finish(state="failed", error=str(error))
        except Exception as error:  # an error in one job must not end the others
            job.finish(state="failed", error=f"{type(error).__name__}: {error}")
        finally:
            # The media are the upload, or a link to a file that the request named.
            for name in ("unfinished.jsonl", request["media"]):
                with contextlib.suppress(OSError):
                    (job.folder / name).unlink()
            self._unfinished.dec()

    def _write_outputs(self, job: Job, request: dict[str, Any]) -> None:
        media = job.folder / request["media"]
        timeline = make_timeline(
            self.bundle,
            str(media),
            options=TimelineOptions(
                reasons=request["reasons"],
                abstain=request["abstain"],
                explain=request["contributions"],
                purpose=request["purpose"],
            ),
            labels=request["labels"],
            transcript=untimed_transcript(request["words"], str(media)),
            resume_file=job.folder / "unfinished.jsonl",
        )
        shown = dataclasses.replace(timeline, model=self.name, path=request["name"])
        write_all(shown, job.folder / "result", formats=tuple(FORMATS), embed="auto", media=media)
        job.finish(state="done", seconds=timeline.seconds, segments=len(timeline.spans))

    async def analyze_clip(self, path: Path, request: dict[str, Any]) -> dict[str, Any]:
        """Answers one clip.

        Args:
          path: media file.
          request: name, labels, abstain, words, purpose, reasons, contributions.

        Raises:
          RequestError: the clip is too long or cannot be read, the prompt is too long, or too many
            requests wait.
        """
        seconds = await asyncio.to_thread(media_seconds, path)
        check_duration(seconds, self.limits.seconds, hint="send it to /v1/jobs")
        options = PredictOptions(
            reason=request["reasons"],
            abstain=request["abstain"],
            explain=request["contributions"],
            for_recordings=FOR_RECORDINGS,
        )
        answers = predict(
            self.bundle,
            [str(path)],
            labels=request["labels"],
            subtitle=request["words"],
            options=options,
        )
        with prompt_must_fit("labels", "give fewer labels"):
            answer = await self.run_on_model(lambda: next(answers))
        if answer.error is not None:
            raise RequestError(422, answer.error)
        fields: dict[str, Any] = answer.to_json()
        return fields | {
            "model": self.name,
            "path": request["name"],
            "purpose": request["purpose"],
        }

    def check_queue(self) -> None:
        """Returns if a request may wait.

        Raises:
          TooManyRequests: the queue is full.
        """
        if self.worker.waiting >= self.limits.waiting:
            error = QueueFull(5)
            raise TooManyRequests(str(error), error.seconds)

    async def run_on_model(self, task: Callable[[], Any]) -> Any:
        """Runs a function in the model's thread.

        Raises:
          TooManyRequests: the queue is full.
        """
        try:
            return await asyncio.wrap_future(self.worker.submit(task))
        except QueueFull as error:
            raise TooManyRequests(str(error), error.seconds) from None

    @contextlib.asynccontextmanager
    async def request_folder(self) -> AsyncIterator[Path]:
        """A folder for one request, removed afterwards."""
        folder = self.requests_folder / secrets.token_urlsafe(12)
        folder.mkdir()
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@contextlib.contextmanager
def prompt_must_fit(part: str, advice: str) -> Iterator[None]:
    """Refuses the request if its prompt is longer than the model reads.

    Args:
      part: what the prompt has besides clip and words.
      advice: what to do, for the message.

    Raises:
      RequestError: the body raised RowTooLong.
    """
    try:
        yield
    except RowTooLong as error:
        raise RequestError(
            422,
            f"clip, words and {part} have {error.length} tokens, this model reads"
            f" {error.limit}: {advice}",
        ) from None


def media_seconds(path: Path) -> float:
    """Length of a media file, s.

    Raises:
      RequestError: the file cannot be read.
    """
    try:
        return recording_seconds(str(path))
    except ClipError as error:
        raise RequestError(422, str(error)) from None
