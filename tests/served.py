"""Starts `emojax serve` as a separate process for tests."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2

TOKEN = "a token of the tests"
AUTH = {"Authorization": f"Bearer {TOKEN}"}


class Server:
    def __init__(self, model, folder, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.url = Path(folder), f"http://127.0.0.1:{self.port}"
        command = [
            sys.executable,
            "-m",
            "emojax.cli",
            "serve",
            "--model",
            str(model),
            "--port",
            str(self.port),
        ]
        env = {**os.environ, "JAX_PLATFORMS": "cpu", "EMOJAX_TOKEN": TOKEN}
        self.process = subprocess.Popen(
            [*command, "--folder", str(folder), *options],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(1200):
            assert self.process.poll() is None, "the server process has ended"
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(f"{self.url}/health", timeout=2).status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def post(self, path, **given):
        given.setdefault("headers", AUTH)
        return httpx2.post(self.url + path, timeout=120, **given)

    def memory(self) -> int:
        """Resident memory, MB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(x for x in lines if x.startswith("VmRSS")).split()[1]) // 1024

    def left(self) -> list[str]:
        return [str(p) for p in (self.folder / "requests").rglob("*")]

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(30)


def upload(clip, **fields):
    return {"files": {"file": (clip.name, clip.read_bytes())}, "data": fields}
