"""The page at /ui: a clip by upload or webcam, four quick prompts, streamed answers, probabilities as bars, a timeline.

Gradio draws it; the model, its thread and its limits are those of the HTTP interface. Nothing is fetched from elsewhere.
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
from typing import TYPE_CHECKING, Any

import gradio as gr
from fastapi import FastAPI
from gradio import processing_utils
from PIL import Image

from data_pipeline.media.clip import ClipError, read_clip
from data_pipeline.media.stream import recording_seconds
from data_pipeline.media.transcript import untimed_transcript
from data_pipeline.media.views import make_views
from data_pipeline.schema import ClipRecord
from emojax.infer.answer import Encoded, encode, label_probabilities
from emojax.infer.sample import Sampler
from emojax.infer.timeline import make_timeline
from emojax.infer.timeline_records import TimelineOptions
from emojax.reports.recording import write_all
from emojax.reports.recording_tables import NOTICE
from emojax.serve.chat import answer_text
from emojax.serve.limits import PAGE, Refuse, allowed_path

if TYPE_CHECKING:
    from emojax.serve.app import Service

QUICK = ("emotion", "sentiment", "reason", "think")  # of the original demo
SENTIMENTS = ("negative", "neutral", "positive")
KEPT = 16  # clips whose features are kept for the next question
FORMATS = ("html", "json", "csv", "srt", "vtt", "eaf", "parquet", "png")
END = "end"
FAULTS = (ClipError, Refuse, ValueError, OSError)  # told in one sentence; others are our own
CSS = "#clip button[aria-label^='Trim'] { display: none }"  # cutting would load a program from elsewhere


def add_page(app: FastAPI, service: Service, folder: Path) -> None:
    """Mounts the page; `folder`: where Gradio keeps uploads, emptied now and, file by file, after an hour."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder.absolute())
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # A mounted page does not check what files requests name, and fetches addresses in their place: both are mended here.
    processing_utils.async_ssrf_protected_download = _fetch_nothing
    page = Page(service, folder).blocks()
    page.has_launched = True
    own = ["system-ui", "sans-serif"]
    token = service.limits.token
    gr.mount_gradio_app(
        app,
        page,
        PAGE,
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
        theme=gr.themes.Base(
            font=own, font_mono=["ui-monospace", "monospace"]
        ),  # others are fetched from Google
    )


async def _fetch_nothing(url: str, cache_dir: str) -> str:
    raise ValueError(f"this server fetches nothing: {url}")


class Page:
    """What the page does; one for all visitors."""

    def __init__(self, service: Service, folder: Path):
        self.service, self.folder = service, folder
        self._encoded: OrderedDict[tuple[str, str, tuple[str, ...]], Encoded] = OrderedDict()

    def blocks(self) -> gr.Blocks:
        """The page itself."""
        bundle, limits = self.service.bundle, self.service.limits
        with gr.Blocks(
            title="emojax", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True
        ) as page:
            gr.Markdown(
                f"# emojax\nModel: {self.service.name}. Labels: {', '.join(bundle.labels)}.\n\n_{NOTICE}_"
            )
            with gr.Row():
                with gr.Column(scale=2):
                    clip = gr.Video(
                        label="Clip", sources=["upload", "webcam"], elem_id="clip",
                        webcam_options=gr.WebcamOptions(mirror=False),
                    )  # fmt: skip
                    words = gr.Textbox(label="What is said (subtitle)", elem_id="words", lines=2)
                    offered = gr.Textbox(
                        label="Labels to choose from",
                        elem_id="labels",
                        placeholder=", ".join(bundle.labels),
                    )
                with gr.Column(scale=3), gr.Tabs():
                    with gr.Tab("Ask"):
                        bars = gr.Label(label="Probabilities", elem_id="bars", show_heading=False)
                        talk = gr.Chatbot(
                            label="Answers",
                            elem_id="talk",
                            height=360,
                            layout="panel",
                            buttons=["copy_all"],
                        )
                        with gr.Row():
                            quick = [
                                gr.Button(
                                    t.capitalize(), elem_id=f"quick-{t}", size="sm", min_width=90
                                )
                                for t in QUICK
                            ]
                        with gr.Row():
                            question = gr.Textbox(
                                show_label=False,
                                placeholder="Your own question",
                                elem_id="question",
                                scale=5,
                            )
                            send = gr.Button("Ask", elem_id="ask", variant="primary", scale=1)
                            forget = gr.Button("Clear", elem_id="clear", scale=1)
                        heat = gr.Slider(
                            0, 1, 0, step=0.1, label="Temperature (0: always the likeliest word)"
                        )
                    with gr.Tab("Timeline"):
                        purpose = gr.Textbox(
                            label="What for (kept in every output)", elem_id="purpose"
                        )
                        run = gr.Button(
                            "Follow the emotion through the recording",
                            elem_id="run",
                            variant="primary",
                        )
                        told = gr.Markdown(elem_id="told")
                        plot = gr.Image(
                            show_label=False,
                            elem_id="plot",
                            interactive=False,
                            buttons=["download", "fullscreen"],
                        )
                        files = gr.Files(label="Files", elem_id="files", interactive=False)
            report = gr.HTML(elem_id="report")  # as wide as the page
            asked = [clip, words, offered, heat, talk]
            shown = [talk, bars, question]
            options: dict[str, Any] = {
                "api_visibility": "private",
                "concurrency_limit": limits.waiting,
            }
            for button, task in zip(quick, QUICK, strict=True):
                button.click(self._quick(task), asked, shown, **options)
            for event in (send.click, question.submit):
                event(self.answer, [question, *asked], shown, **options)
            forget.click(lambda: ([], None), None, [talk, bars], **options)
            run.click(
                self.timeline,
                [clip, words, offered, purpose],
                [told, plot, files, report],
                **options,
            )
        page.queue(max_size=2 * limits.waiting)
        return page

    def _quick(self, task: str) -> Any:
        async def quick(*given: Any) -> AsyncIterator[Any]:
            async for shown in self.answer(f"[{task}]", *given):
                yield shown

        return quick

    async def answer(
        self,
        question: str,
        clip: str | None,
        words: str,
        offered: str,
        heat: float,
        talk: list[Any],
    ) -> AsyncIterator[Any]:
        """Yields (history, bars, question box) while the answer is written; a fault is told in the conversation."""
        talk = [
            *talk,
            {"role": "user", "content": f"{question} ({Path(clip).name if clip else 'no clip'})"},
        ]
        try:
            async for shown in self._answer(
                question, clip, words, offered=offered, heat=heat, talk=talk
            ):
                yield shown
        except FAULTS as error:
            again = "" if question.startswith("[") else question  # what was typed is not lost
            yield (
                [*talk, {"role": "assistant", "content": f"**Not answered:** {said(error)}"}],
                None,
                again,
            )

    async def _answer(
        self,
        question: str,
        clip: str | None,
        words: str,
        *,
        offered: str,
        heat: float,
        talk: list[Any],
    ) -> AsyncIterator[Any]:
        if not question.strip():
            raise ValueError("ask something, or press one of the four prompts")
        path = self._given(clip)
        labels = self._labels(offered, question)
        sampler = Sampler(
            max_tokens=self.service.bundle.settings.data.max_answer,
            temperature=round(float(heat), 1),
        )
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[tuple[str, Any]]()

        def tell(kind: str, what: Any) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, (kind, what))

        def work() -> str:
            bundle, encoded = self.service.bundle, self._features(path, words, labels)
            chances = label_probabilities(bundle, encoded, labels, batch_size=1)[0]
            tell("bars", {name: float(p) for name, p in zip(labels, chances, strict=True)})
            return answer_text(
                bundle, encoded, question.strip(), sampler, on_text=lambda text: tell("text", text)
            )

        async def run() -> str:
            try:
                return await self.service.ask(work)
            finally:
                pieces.put_nowait((END, None))

        task = asyncio.create_task(run())
        yield [*talk, {"role": "assistant", "content": "..."}], gr.skip(), ""
        while (piece := await pieces.get())[0] != END:
            if piece[0] == "bars":
                yield gr.skip(), piece[1], gr.skip()
            elif piece[1]:
                yield [*talk, {"role": "assistant", "content": piece[1]}], gr.skip(), gr.skip()
        text = await task
        yield (
            [*talk, {"role": "assistant", "content": text or "(the model wrote nothing)"}],
            gr.skip(),
            gr.skip(),
        )

    async def timeline(
        self, clip: str | None, words: str, offered: str, purpose: str
    ) -> AsyncIterator[Any]:
        """Yields (how far it is, plot, files, page); a fault is told in the place of the first."""
        try:
            async for shown in self._timeline(clip, words, offered, purpose):
                yield shown
        except FAULTS as error:
            yield f"**Not answered:** {said(error)}", None, None, ""

    async def _timeline(
        self, clip: str | None, words: str, offered: str, purpose: str
    ) -> AsyncIterator[Any]:
        path, service = self._given(clip), self.service
        if service.long.waiting >= service.limits.waiting:
            raise ValueError("too many recordings are waiting: come again later")
        if len(purpose or "") > 2000:
            raise ValueError("what for: at most 2,000 characters")
        lasts = await asyncio.to_thread(recording_seconds, str(path))
        if lasts > service.limits.job_seconds:
            raise ValueError(
                f"recordings may last {service.limits.job_seconds:g} s, this one lasts {lasts:.0f} s"
            )
        loop, ticks = asyncio.get_running_loop(), asyncio.Queue[tuple[float, float] | None]()
        labels = self._labels(offered, "")
        with tempfile.TemporaryDirectory(dir=service.temporary.absolute()) as own:

            def work() -> Any:
                tick: Any = lambda _, done, total: loop.call_soon_threadsafe(  # noqa: E731
                    ticks.put_nowait, (done, total)
                )

                spoken = untimed_transcript(words, str(path))
                options = TimelineOptions(purpose=purpose or "")
                found = make_timeline(
                    service.bundle,
                    str(path),
                    options=options,
                    labels=labels,
                    transcript=spoken,
                    progress=tick,
                )
                found = dataclasses.replace(found, model=service.name, path=path.name)
                return found, write_all(
                    found, Path(own) / path.stem, formats=FORMATS, embed="auto", media=path
                )

            async def run() -> Any:
                try:
                    return await asyncio.wrap_future(service.long.submit(work))
                finally:
                    ticks.put_nowait(None)

            task = asyncio.create_task(run())
            yield "Waiting ...", None, None, ""
            while (done := await ticks.get()) is not None:
                yield f"{done[0]:.0f} of {done[1]:.0f} s", gr.skip(), gr.skip(), gr.skip()
            found, written = await task
            page = next(p for p in written if p.suffix == ".html").read_text(encoding="utf-8")
            with Image.open(next(p for p in written if p.suffix == ".png")) as picture:
                picture.load()
            frame = (
                f'<iframe sandbox="allow-scripts allow-downloads" srcdoc="{html.escape(page)}"'
                ' style="width:100%;height:900px;border:0"></iframe>'
            )
            parts = "1 segment" if len(found.spans) == 1 else f"{len(found.spans)} segments"
            facts = [
                f"{parts} in {found.seconds:.1f} s of recording, {found.took:.1f} s to answer",
                *found.notes,
            ]
            yield "; ".join(facts), picture, [str(p) for p in written], frame

    def _given(self, clip: str | None) -> Path:
        """An upload; Gradio hands on whatever path a request names."""
        if not clip:
            raise ValueError("give a clip first: drop a file, or record one with the webcam")
        return allowed_path(clip, (self.folder,))

    def _labels(self, offered: str, question: str) -> tuple[str, ...]:
        own = tuple(dict.fromkeys(x.strip() for x in (offered or "").split(",") if x.strip()))
        if own and not (2 <= len(own) <= 200 and all(len(x) <= 80 for x in own)):
            raise ValueError("labels: 2 to 200 of at most 80 characters, separated by commas")
        return own or (
            SENTIMENTS if question.startswith("[sentiment]") else self.service.bundle.labels
        )

    def _features(self, path: Path, words: str, labels: tuple[str, ...]) -> Encoded:
        """A clip's features, computed once for all questions about it; on the model's thread."""
        key = (str(path), words, labels)
        if key not in self._encoded:
            bundle, limit = self.service.bundle, self.service.limits.seconds
            lasts = recording_seconds(
                str(path)
            )  # by the header or the packets: nothing long is decoded here
            if lasts > limit:
                raise ClipError(
                    f"a clip may last {limit:g} s, this one lasts {lasts:.0f} s: see Timeline"
                )
            clip = read_clip(
                str(path), sampling=bundle.settings.sampling(None), subtitle=words, timeout=8.0
            )
            if not clip.modalities:
                raise ClipError("; ".join(clip.notes) or "there is nothing to see or hear in it")
            record = ClipRecord(
                id=path.name,
                dataset="serve",
                split="test",
                path="",
                label=labels[0],
                labels=labels,
                subtitle=words,
            )
            self._encoded[key] = encode(
                bundle, [(record, make_views(clip, bundle.settings.views))], batch_size=1
            )
            while len(self._encoded) > KEPT:
                self._encoded.popitem(last=False)
        return self._encoded[key]


def said(error: BaseException) -> str:
    """A fault as people read it."""
    return error.text if isinstance(error, Refuse) else str(error)
