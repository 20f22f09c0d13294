"""Elements of the page at /ui and their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import gradio as gr

QUICK_TASKS = ("emotion", "sentiment", "reason", "think")  # those of the original demo


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskTab:
    """Elements of the tab for questions."""

    bars: gr.Label
    history: gr.Chatbot
    quick: list[gr.Button]
    question: gr.Textbox
    send: gr.Button
    clear: gr.Button
    temperature: gr.Slider


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimelineTab:
    """Elements of the tab for recordings."""

    purpose: gr.Textbox
    run: gr.Button
    status: gr.Markdown
    plot: gr.Image
    files: gr.Files


def clip_inputs(labels: Sequence[str]) -> tuple[gr.Video, gr.Textbox, gr.Textbox]:
    """Draws the inputs for clip, words and labels; `labels` are those of the model."""
    clip = gr.Video(
        label="Clip",
        sources=["upload", "webcam"],
        elem_id="clip",
        webcam_options=gr.WebcamOptions(mirror=False),
    )
    words = gr.Textbox(label="Spoken words (subtitle)", elem_id="words", lines=2)
    offered = gr.Textbox(
        label="Labels to choose from", elem_id="labels", placeholder=", ".join(labels)
    )
    return clip, words, offered


def ask_tab() -> AskTab:
    """Draws the tab for questions."""
    bars = gr.Label(label="Probabilities", elem_id="bars", show_heading=False)
    history = gr.Chatbot(
        label="Answers", elem_id="talk", height=360, layout="panel", buttons=["copy_all"]
    )
    with gr.Row():
        quick = [
            gr.Button(task.capitalize(), elem_id=f"quick-{task}", size="sm", min_width=90)
            for task in QUICK_TASKS
        ]
    with gr.Row():
        question = gr.Textbox(
            show_label=False, placeholder="Your own question", elem_id="question", scale=5
        )
        send = gr.Button("Ask", elem_id="ask", variant="primary", scale=1)
        clear = gr.Button("Clear", elem_id="clear", scale=1)
    temperature = gr.Slider(
        0, 1, 0, step=0.1, label="Temperature (0: always the most probable word)"
    )
    return AskTab(
        bars=bars,
        history=history,
        quick=quick,
        question=question,
        send=send,
        clear=clear,
        temperature=temperature,
    )


def timeline_tab() -> TimelineTab:
    """Draws the tab for recordings."""
    purpose = gr.Textbox(label="Purpose (part of every output)", elem_id="purpose")
    run = gr.Button("Follow the emotion through the recording", elem_id="run", variant="primary")
    status = gr.Markdown(elem_id="status")
    plot = gr.Image(
        show_label=False, elem_id="plot", interactive=False, buttons=["download", "fullscreen"]
    )
    files = gr.Files(label="Files", elem_id="files", interactive=False)
    return TimelineTab(purpose=purpose, run=run, status=status, plot=plot, files=files)
