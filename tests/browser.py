"""A headless Chromium for tests of pages, driven by Playwright.

It is Debian's package (`make browser`); without it the tests are skipped.
"""

import contextlib
import shutil
from pathlib import Path

import pytest

# Without these it contacts servers of its vendor at every start.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    # A webcam that shows a test picture:
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@contextlib.contextmanager
def chromium(width: int = 1200, height: int = 900):
    """Yields (page, faults): script errors and all requests to other machines."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is not installed: `make browser` installs Debian's")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=QUIET)
        page = browser.new_page(viewport={"width": width, "height": height})
        faults: list[str] = []
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on("request", lambda r: faults.append(r.url) if not _local(r.url) else None)
        try:
            yield page, faults
        finally:
            browser.close()


def _local(url: str) -> bool:
    return url.startswith(
        ("file:", "data:", "blob:", "http://127.0.0.1", "http://localhost", "ws://127.0.0.1")
    )


def url_of(path: Path) -> str:
    return path.absolute().as_uri()
