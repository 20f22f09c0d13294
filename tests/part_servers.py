"""Local servers that play the Hugging Face hub and the indexes of pip and npm, for tests."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable


class Server:
    """Serves `answer(method, path) -> (status, headers, content)` with ranges, until closed."""

    def __init__(self, answer: Callable[[str], tuple[int, dict[str, str], bytes]]) -> None:
        self.requests: list[tuple[str, str, str | None]] = []
        self.break_after = 0  # bytes of the next long answer, then the connection ends
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                outer.requests.append((self.command, self.path, self.headers.get("Range")))
                status, headers, data = answer(self.path)
                size, start = len(data), 0
                if (given := self.headers.get("Range")) and status == 200:
                    start = int(given.removeprefix("bytes=").split("-")[0])
                    status, data = 206, data[start:]
                    headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "HEAD":
                    return
                if outer.break_after and len(data) > outer.break_after:
                    data, outer.break_after = data[: outer.break_after], 0
                    self.close_connection = True
                self.wfile.write(data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def fetched(self) -> list[str]:
        """Names of the files whose content was asked for."""
        return [p.rsplit("/", 1)[-1] for m, p, _ in self.requests if m == "GET" and "resolve" in p]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


COMMIT = "c" * 40


class Hub(Server):
    """Repositories {OWNER/NAME: {file: content}}; `wrong`: files with another published sum."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.wrong: set[str] = set()
        super().__init__(self.answer)

    def checksum(self, name: str, data: bytes) -> str:
        return "0" * 64 if name in self.wrong else hashlib.sha256(data).hexdigest()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        repo = "/".join(path.removeprefix("/api/models").split("?")[0].strip("/").split("/")[:2])
        files = self.repos.get(repo)
        if files is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if path.startswith("/api/"):
            return 200, {"Content-Type": "application/json"}, self.listing(repo, files)
        name = path.split("/resolve/")[1].split("/", 1)[1]
        if name not in files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        data = files[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": '"e"', "Accept-Ranges": "bytes"}
        headers["X-Linked-Size"] = str(len(data))
        headers["X-Linked-Etag"] = f'"{self.checksum(name, data)}"'
        return 200, headers, data

    def listing(self, repo: str, files: dict[str, bytes]) -> bytes:
        siblings = []
        for name, data in files.items():
            blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            entry = {"rfilename": name, "size": len(data), "blobId": blob}
            if not name.endswith((".json", ".jinja")):
                sha = self.checksum(name, data)
                entry["lfs"] = {"sha256": sha, "size": len(data), "pointerSize": 130}
            siblings.append(entry)
        return json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode()


def wheel(name: str, version: str, files: dict[str, bytes]) -> bytes:
    """A wheel with the files and what pip wants to see."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    described = {
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        for path, data in {**files, **described}.items():
            package.writestr(path, data)
    return out.getvalue()


class SimpleIndex(Server):
    """An index for pip: {(name, version): content of the wheel}."""

    def __init__(self) -> None:
        self.packages: dict[tuple[str, str], bytes] = {}
        super().__init__(self.answer)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        found = {
            f"{n.replace('-', '_')}-{v}-py3-none-any.whl": data
            for (n, v), data in self.packages.items()
        }
        if path.startswith("/files/"):
            return 200, {"Content-Type": "application/zip"}, found[path.removeprefix("/files/")]
        name = path.strip("/").rsplit("/", 1)[-1].replace("-", "_")
        links = [f'<a href="/files/{f}">{f}</a>' for f in found if f.startswith(name)]
        page = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>"
        return (200 if links else 404), {"Content-Type": "text/html"}, page.encode()


def tarball(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as package:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            package.addfile(member, io.BytesIO(data))
        for path, target in links.items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            package.addfile(member)
    return out.getvalue()


class NpmRegistry(Server):
    """A registry of one package for npm."""

    def __init__(self, name: str, version: str, content: bytes) -> None:
        self.name, self.version, self.content = name, version, content
        super().__init__(self.answer)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if path.endswith(".tgz"):
            return 200, {"Content-Type": "application/octet-stream"}, self.content
        digest = base64.b64encode(hashlib.sha512(self.content).digest()).decode()
        dist = {"tarball": f"{self.address}/p.tgz", "integrity": f"sha512-{digest}"}
        one = {"name": self.name, "version": self.version, "dist": dist}
        body = {
            "name": self.name,
            "dist-tags": {"latest": self.version},
            "versions": {self.version: one},
        }
        return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()
