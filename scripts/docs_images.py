"""Makes the pictures of the docs: a recording of drawn clips, answered by the demo's model, its page in headless Chromium.

python scripts/docs_images.py MODEL     writes docs/images/timeline.png (`make browser` first)
"""

from __future__ import annotations

import csv
import dataclasses
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from timeline_check import assemble

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.transcript import read_transcript
from emojax import jobs
from emojax.bundle import load_bundle
from emojax.infer.ready import ready
from emojax.infer.timeline import Options, make_timeline
from emojax.outputs.captions import clock
from emojax.outputs.page import to_html

LIMIT = 200_000  # bytes


def main() -> None:
    jobs.setup()
    bundle = dataclasses.replace(ready(load_bundle(Path(sys.argv[1]))), name="tiny@runs/demo")
    out = Path("docs/images/timeline.png")
    out.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = make_corpus(CorpusConfig(train=1, val=0, test=40, seed=5), folder / "corpus")
        records = [r for r in load_corpus(corpus) if r.split == "test" and r.truth and all(r.truth["shown"].values())]
        with (folder / "manifest.csv").open("w") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "emotion", "actor"])
            writer.writerows([[r.path, r.label, r.speaker] for r in records])
        talk = folder / "drawn.mp4"
        parts = assemble(talk, folder, 0.9)
        said = {r.path: r.subtitle for r in records}
        lines = [
            f"{n}\n{clock(p['start'], ',')} --> {clock(p['end'], ',')}\n{said[p['file']]}\n"
            for n, p in enumerate(parts, 1)
        ]
        (folder / "drawn.srt").write_text("\n".join(lines))
        words = read_transcript(folder / "drawn.srt")
        found = make_timeline(
            bundle, str(talk), Options(explain=True, purpose="a picture for the docs"), transcript=words
        )
        page_file = folder / "drawn.html"
        page_file.write_bytes(to_html(found, "always"))
        with sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            page.goto(page_file.as_uri())
            page.wait_for_function("document.getElementById('player').readyState >= 2")
            page.locator("tr.row").nth(4).click()
            page.wait_for_timeout(500)
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=str(folder / "shot.png"))
            browser.close()
        picture = Image.open(folder / "shot.png").convert("RGB").quantize(128)
        picture.save(out, optimize=True)
    assert out.stat().st_size < LIMIT, out.stat().st_size


if __name__ == "__main__":
    main()
