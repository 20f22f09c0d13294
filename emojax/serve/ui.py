"""The page at /ui: questions about a clip with streamed answers, and timelines of recordings.

Gradio renders it. Model, threads and limits are those of the HTTP interface. Nothing is loaded from
other servers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import html
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio import processing_utils
from PIL import Image

from data_pipeline.media.clip import read_clip
from data_pipeline.media.container import ClipError
from data_pipeline.media.notes import counted
from data_pipeline.media.stream import recording_seconds
from data_pipeline.media.transcript import untimed_transcript
from data_pipeline.media.views import make_views
from emojax.infer.answer import label_probabilities
from emojax.infer.encode_clips import Encoded, encode, unlabelled_record
from emojax.infer.grounding import Grounds, find_grounds
from emojax.infer.predict import NOTHING_INSIDE, PredictOptions, clip_notes
from emojax.infer.sample import Sampler
from emojax.infer.timeline import make_timeline
from emojax.infer.timeline_records import Timeline, TimelineOptions
from emojax.reports.recording import write_all
from emojax.reports.recording_tables import NOTICE
from emojax.serve.chat import write_answer
from emojax.serve.limits import (
    MAX_PURPOSE,
    PAGE_PATH,
    RequestError,
    allowed_path,
    check_duration,
    parse_labels,
    text_field,
)
from emojax.serve.service import Service, prompt_must_fit
from emojax.serve.ui_layout import QUICK_TASKS, AskTab, ask_tab, clip_inputs, timeline_tab

SENTIMENTS = ("negative", "neutral", "positive")
CACHED_CLIPS = 16  # clips whose features are kept for the next question
END = "end"
# Errors that are shown to the user; any other is a fault of the program.
USER_ERRORS = (ClipError, RequestError, ValueError, OSError)
# The button for trimming would load a program from another server.
CSS = "#clip button[aria-label^='Trim'] { display: none }"


def page_folder(folder: Path) -> Path:
    """Where Gradio keeps uploads, below the folder of the server."""
    return folder / "page"


def page_environment(folder: Path) -> dict[str, str]:
    """The environment variables that Gradio needs; set them before `make_app`.

    Args:
      folder: of the server.
    """
    return {
        "GRADIO_TEMP_DIR": str(page_folder(folder).absolute()),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }


def add_page(app: FastAPI, service: Service, folder: Path) -> None:
    """Mounts the page, and replaces Gradio's download function in the whole process.

    Args:
      app: the application.
      service: the model.
      folder: of uploads; it is emptied now, and each file is deleted after an hour.

    Raises:
      RuntimeError: `page_environment` is not set.
    """
    if os.environ.get("GRADIO_TEMP_DIR") != str(folder.absolute()):
        raise RuntimeError("set the variables of ui.page_environment before the page is made")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Where a request names an address in place of an uploaded file, Gradio would download it. It
    # has no option against this, so no Gradio page in this process downloads anything from now on.
    # (Paths in place of uploads are refused by `Page._upload`.)
    processing_utils.async_ssrf_protected_download = _fetch_nothing
    page = Page(service, folder).blocks()
    page.has_launched = True
    token = service.limits.token
    gr.mount_gradio_app(
        app,
        page,
        PAGE_PATH,
        auth=("emojax", token) if token else None,
        auth_message="User: emojax. Password: the token of this server." if token else None,
        footer_links=[],
        run_history=False,
        max_file_size=service.limits.body,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        css=CSS,
        # Other fonts are loaded from Google.
        theme=gr.themes.Base(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
    )


async def _fetch_nothing(url: str, cache_dir: str) -> str:  # noqa: ARG001
    raise ValueError(f"this server fetches nothing from other servers: {url}")


@dataclasses.dataclass(frozen=True)
class _AskedClip:
    """An encoded clip, what answers may be about, and what is irregular about it."""

    encoded: Encoded
    grounds: Grounds
    notes: tuple[str, ...]


class Page:
    """The page's functions, shared by all visitors."""

    def __init__(self, service: Service, folder: Path):
        """Starts without cached clips.

        Args:
          service: the model.
          folder: of uploads.
        """
        self.service, self.folder = service, folder
        self._encoded: OrderedDict[tuple[str, str, tuple[str, ...]], _AskedClip] = OrderedDict()

    def blocks(self) -> gr.Blocks:
        """The elements of the page and their events."""
        bundle = self.service.bundle
        page: gr.Blocks
        with gr.Blocks(
            title="emojax", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True
        ) as page:
            gr.Markdown(
                f"# emojax\nModel: {self.service.name}. Labels: {', '.join(bundle.labels)}."
                f"\n\n_{NOTICE}_"
            )
            with gr.Row():
                with gr.Column(scale=2):
                    clip, words, labels = clip_inputs(bundle.labels)
                with gr.Column(scale=3), gr.Tabs():
                    with gr.Tab("Ask"):
                        ask = ask_tab()
                    with gr.Tab("Timeline"):
                        timeline = timeline_tab()
            report = gr.HTML(elem_id="report")  # as wide as the page
            self._connect_ask(ask, [clip, words, labels, ask.temperature, ask.history])
            timeline.run.click(
                self.timeline,
                [clip, words, labels, timeline.purpose],
                [timeline.status, timeline.plot, timeline.files, report],
                **self._event_options(),
            )
        page.queue(max_size=2 * self.service.limits.waiting)
        return page

    def _event_options(self) -> dict[str, Any]:
        return {
            "api_visibility": "private",
            "concurrency_limit": self.service.limits.waiting,
        }

    def _connect_ask(self, tab: AskTab, inputs: list[Any]) -> None:
        outputs, options = [tab.history, tab.bars, tab.question], self._event_options()
        for button, task in zip(tab.quick, QUICK_TASKS, strict=True):
            button.click(self._quick(task), inputs, outputs, **options)
        for event in (tab.send.click, tab.question.submit):
            event(self.answer, [tab.question, *inputs], outputs, **options)
        tab.clear.click(lambda: ([], None), None, [tab.history, tab.bars], **options)

    def _quick(self, task: str) -> Any:
        async def quick(*inputs: Any) -> AsyncIterator[Any]:
            async for shown in self.answer(f"[{task}]", *inputs):
                yield shown

        return quick

    async def answer(self, question: str, *inputs: Any) -> AsyncIterator[Any]:
        """Answers a question; errors are shown in the conversation.

        Args:
          question: text, or the tag of a task.
          *inputs: values of the clip, words, labels, temperature and history.

        Yields:
          (history, bars, question box) while the answer is generated.
        """
        clip, words, offered, temperature, history = inputs
        shown_name = Path(clip).name if clip else "no clip"
        history = [*history, {"role": "user", "content": f"{question} ({shown_name})"}]
        try:
            path = self._check(question, clip)
            labels = self._labels(offered, question)
            sampler = Sampler(
                max_tokens=self.service.bundle.answer_tokens,
                temperature=round(float(temperature), 1),
            )
            updates = self._answer(question.strip(), path, words, labels=labels, sampler=sampler)
            async for text, bars, box in updates:
                talk = gr.skip()
                if text is not None:
                    talk = [*history, {"role": "assistant", "content": text}]
                yield talk, bars, box
        except USER_ERRORS as error:
            box = "" if question.startswith("[") else question  # what was typed is kept
            text = f"**Not answered:** {error_message(error)}"
            yield [*history, {"role": "assistant", "content": text}], None, box

    async def _answer(
        self,
        question: str,
        path: Path,
        words: str,
        *,
        labels: tuple[str, ...],
        sampler: Sampler,
    ) -> AsyncIterator[tuple[str | None, Any, Any]]:
        """Yields (answer so far or None for no change, bars, question box)."""
        loop, updates = asyncio.get_running_loop(), asyncio.Queue[tuple[str, Any]]()

        def update(kind: str, value: Any) -> None:
            loop.call_soon_threadsafe(updates.put_nowait, (kind, value))

        def work() -> str:
            bundle = self.service.bundle
            with prompt_must_fit("labels", "give fewer labels"):
                clip = self._features(path, words, labels)
                probs = label_probabilities(bundle, clip.encoded, labels, batch_size=1)[0]
            update("bars", {name: float(p) for name, p in zip(labels, probs, strict=True)})
            answer = write_answer(
                bundle,
                clip.encoded,
                question,
                sampler,
                grounds=clip.grounds,
                on_text=lambda text: update("text", text),
            )
            notes = "; ".join((*clip.notes, *answer.notes))
            text = answer.text or "(the model wrote nothing)"
            return f"{text}\n\n*{notes}*" if notes else text

        async def run() -> str:
            try:
                text: str = await self.service.run_on_model(work)
                return text
            finally:
                updates.put_nowait((END, None))

        task = asyncio.create_task(run())
        yield "...", gr.skip(), ""
        while (item := await updates.get())[0] != END:
            kind, value = item
            if kind == "bars":
                yield None, value, gr.skip()
            elif value:
                yield value, gr.skip(), gr.skip()
        yield await task, gr.skip(), gr.skip()

    async def timeline(
        self, clip: str | None, words: str, offered: str, purpose: str
    ) -> AsyncIterator[Any]:
        """Answers a recording; errors are shown as the status.

        Args:
          clip: path of the upload.
          words: spoken words.
          offered: labels to choose from, separated by commas.
          purpose: what the timeline is for.

        Yields:
          (status, plot, files, report).
        """
        try:
            path = self._upload(clip)
            await self._check_recording(path, purpose)
            labels = self._labels(offered, "")
            options = TimelineOptions(purpose=purpose or "")
            async for shown in self._timeline(path, words, labels, options):
                yield shown
        except USER_ERRORS as error:
            yield f"**Not answered:** {error_message(error)}", None, None, ""

    async def _check_recording(self, path: Path, purpose: str) -> None:
        limits = self.service.limits
        if self.service.job_worker.waiting >= limits.waiting:
            raise ValueError("too many recordings are waiting: try again later")
        text_field({"purpose": purpose}, "purpose", MAX_PURPOSE)
        seconds = await asyncio.to_thread(recording_seconds, str(path))
        check_duration(seconds, limits.job_seconds, what="recordings")

    async def _timeline(
        self, path: Path, words: str, labels: tuple[str, ...], options: TimelineOptions
    ) -> AsyncIterator[Any]:
        service = self.service
        loop, updates = asyncio.get_running_loop(), asyncio.Queue[tuple[float, float] | None]()
        with tempfile.TemporaryDirectory(dir=service.requests_folder.absolute()) as folder:

            def progress(task: str, done: float, total: float | None) -> None:  # noqa: ARG001
                loop.call_soon_threadsafe(updates.put_nowait, (done, total or done))

            def work() -> tuple[Timeline, list[Path]]:
                timeline = make_timeline(
                    service.bundle,
                    str(path),
                    options=options,
                    labels=labels,
                    transcript=untimed_transcript(words, str(path)),
                    progress=progress,
                )
                timeline = dataclasses.replace(timeline, model=service.name, path=path.name)
                stem = Path(folder) / path.stem
                return timeline, write_all(timeline, stem, embed="auto", media=path)

            async def run() -> tuple[Timeline, list[Path]]:
                try:
                    return await asyncio.wrap_future(service.job_worker.submit(work))
                finally:
                    updates.put_nowait(None)

            task = asyncio.create_task(run())
            yield "Waiting ...", None, None, ""
            while (done := await updates.get()) is not None:
                yield f"{done[0]:.0f} of {done[1]:.0f} s", gr.skip(), gr.skip(), gr.skip()
            timeline, written = await task
            report = next(p for p in written if p.suffix == ".html").read_text(encoding="utf-8")
            with Image.open(next(p for p in written if p.suffix == ".png")) as picture:
                picture.load()
            frame = (
                f'<iframe sandbox="allow-scripts allow-downloads" srcdoc="{html.escape(report)}"'
                ' style="width:100%;height:900px;border:0"></iframe>'
            )
            yield _summary(timeline), picture, [str(p) for p in written], frame

    def _check(self, question: str, clip: str | None) -> Path:
        if not question.strip():
            raise ValueError("type a question, or press one of the four prompts")
        return self._upload(clip)

    def _upload(self, clip: str | None) -> Path:
        """The uploaded file; Gradio would pass on any path that a request names."""
        if not clip:
            raise ValueError("give a clip first: drop a file, or record one with the webcam")
        return allowed_path(clip, (self.folder,))

    def _labels(self, offered: str, question: str) -> tuple[str, ...]:
        if (offered or "").replace(",", "").strip():
            return tuple(parse_labels(offered))
        return SENTIMENTS if question.startswith("[sentiment]") else self.service.bundle.labels

    def _features(self, path: Path, words: str, labels: tuple[str, ...]) -> _AskedClip:
        """A clip, kept for further questions. Call it in the model's thread."""
        key = (str(path), words, labels)
        if key not in self._encoded:
            bundle, limit = self.service.bundle, self.service.limits.seconds
            seconds = recording_seconds(str(path))  # without decoding the file
            check_duration(seconds, limit, hint="see Timeline")
            clip = read_clip(
                str(path), sampling=bundle.settings.sampling(None), subtitle=words, timeout=8.0
            )
            if not clip.modalities:
                raise ClipError("; ".join(clip.notes) or NOTHING_INSIDE)
            record = unlabelled_record(
                bundle, path.name, labels=labels, subtitle=words, dataset="serve"
            )
            grounds, options = find_grounds(clip), PredictOptions(for_recordings="see Timeline")
            views = make_views(clip, bundle.settings.views)
            self._encoded[key] = _AskedClip(
                encoded=encode(bundle, [(record, views)], batch_size=1),
                grounds=grounds,
                notes=(*clip_notes(bundle, clip, record, options), *grounds.missing),
            )
            while len(self._encoded) > CACHED_CLIPS:
                self._encoded.popitem(last=False)
        return self._encoded[key]


def _summary(timeline: Timeline) -> str:
    parts = counted(len(timeline.spans), "segment")
    facts = [
        f"{parts} in {timeline.seconds:.1f} s of recording, {timeline.took:.1f} s to answer",
        *timeline.notes,
    ]
    return "; ".join(facts)


def error_message(error: BaseException) -> str:
    """An error as a sentence for the user."""
    return error.message if isinstance(error, RequestError) else str(error)
