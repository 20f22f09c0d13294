"""Makes the pictures of the docs in headless Chromium (`make browser` installs it).

    python scripts/docs_images.py MODEL     (of `emojax demo`)

Writes docs/images/timeline.png (the report of a recording of embedded clips), page.png (the page of
the server) and verify.png (the page of `emojax verify`).
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from annotators import Scripted, chat
from chat_server import serve
from PIL import Image
from playwright.sync_api import sync_playwright
from timeline_check import assemble

from data_pipeline.embedded.generate import load_corpus, make_corpus, write_manifest
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.media.subtitles import read_transcript
from emojax.bundle.model_folder import load_bundle
from emojax.cli.console import setup
from emojax.cli.main import main as emojax
from emojax.infer.prepare import prepare_for_inference
from emojax.infer.timeline import make_timeline
from emojax.infer.timeline_records import TimelineOptions
from emojax.reports.captions import clock
from emojax.reports.recording_page import to_html

LIMIT = 200_000  # bytes


def main() -> None:
    setup()
    bundle = prepare_for_inference(load_bundle(Path(sys.argv[1])))
    bundle = dataclasses.replace(bundle, name="tiny@runs/demo")
    out = Path("docs/images/timeline.png")
    out.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = make_corpus(
            config=CorpusConfig(train=1, val=0, test=40, seed=5), folder=folder / "corpus"
        )
        records = [
            r
            for r in load_corpus(corpus)
            if r.split == "test" and r.truth and all(r.truth["shown"].values())
        ]
        with (folder / "manifest.csv").open("w") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "emotion", "actor"])
            writer.writerows([[r.path, r.label, r.speaker] for r in records])
        talk = folder / "drawn.mp4"
        parts = assemble(talk, folder, 0.9)
        subtitles = {r.path: r.subtitle for r in records}
        lines = [
            f"{n}\n{clock(p['start'], ',')} --> {clock(p['end'], ',')}\n{subtitles[p['file']]}\n"
            for n, p in enumerate(parts, 1)
        ]
        (folder / "drawn.srt").write_text("\n".join(lines))
        transcript = read_transcript(folder / "drawn.srt")
        timeline = make_timeline(
            bundle,
            str(talk),
            options=TimelineOptions(explain=True, purpose="a picture for the docs"),
            transcript=transcript,
        )
        page_file = folder / "drawn.html"
        page_file.write_bytes(to_html(timeline, embed="always"))
        with chromium(900) as page:
            page.goto(page_file.as_uri())
            page.wait_for_function("document.getElementById('player').readyState >= 2")
            page.locator("tr.row").nth(4).click()
            page.wait_for_timeout(500)
            page.evaluate("scrollTo(0, 0)")
            save(page, out)
        clip = records[4]
        serving = ["serve", "--model", sys.argv[1], "--folder", str(folder / "serve")]
        with running(serving, "/health") as url, chromium(1050) as page:
            page.set_default_timeout(90_000)
            page.goto(url)
            page.locator("#clip input[type=file]").set_input_files(clip.path)
            page.locator("#clip video").first.wait_for()
            page.locator("#words textarea").first.fill(clip.subtitle)
            for prompt, answers in (("emotion", 1), ("reason", 2)):
                page.locator(f"#quick-{prompt}").click()
                page.wait_for_function(
                    "n => document.querySelectorAll('#talk .bot.message').length >= n", arg=answers
                )
                page.wait_for_timeout(15_000)
            save(page, out.with_name("page.png"))
        verify(corpus, folder, out.with_name("verify.png"))


def verify(corpus: Path, folder: Path, out: Path) -> None:
    """The review page with a clip that the scripted models of the tests annotated."""
    records = [r for r in load_corpus(corpus) if r.truth and all(r.truth["shown"].values())]
    scripted = Scripted(records, corpus / "units")
    write_manifest(folder / "clips.csv", records)
    with serve(chat(lambda body, _: scripted(body))) as server:
        command = [
            "annotate",
            str(folder / "clips.csv"),
            "--out",
            str(folder / "set"),
            "--units",
            str(corpus / "units"),
        ]
        assert emojax([*command, "--endpoint", server.url, "--model", "scripted"]) == 0
    with (
        running(["verify", str(folder / "set"), "--annotator", "anna"], "/") as url,
        chromium(620) as page,
    ):
        page.goto(url)
        page.wait_for_function("document.getElementById('clip').readyState >= 2")
        for key in ("1", "2", "3", "4", "4", "p"):
            page.keyboard.press(key)
        page.wait_for_timeout(1000)
        save(page, out)


@contextlib.contextmanager
def chromium(height: int) -> Iterator[Any]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser.new_page(viewport={"width": 1200, "height": height})
        browser.close()


@contextlib.contextmanager
def running(command: list[str], path: str) -> Iterator[str]:
    """Runs a serving command until `path` answers; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k != "EMOJAX_TOKEN"}
    process = subprocess.Popen(
        [sys.executable, "-m", "emojax.cli", *command, "--port", str(port)], env=env
    )
    url = f"http://127.0.0.1:{port}"
    while process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url + path, timeout=2):
            break
        time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(30)


def save(page: Any, out: Path) -> None:
    """Saves a screenshot with few colours, below LIMIT bytes."""
    with tempfile.TemporaryDirectory() as folder:
        page.screenshot(path=f"{folder}/shot.png")
        Image.open(f"{folder}/shot.png").convert("RGB").quantize(128).save(out, optimize=True)
    if out.stat().st_size > LIMIT:
        raise SystemExit(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
