"""A model hub on loopback that serves one folder: the part of the hub's API that a download uses."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "org/tiny"


class FakeHub(ThreadingHTTPServer):
    """`asked` holds the paths of all requests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_arguments: object) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        files = sorted(self.server.folder.iterdir())
        if path == f"/api/models/{MODEL}/revision/main":
            siblings = [{"rfilename": file.name} for file in files]
            self._json({"id": MODEL, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False})
        elif path == f"/api/models/{MODEL}/tree/{COMMIT}":
            self._json([{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _tag(f)} for f in files])
        elif path.startswith(f"/{MODEL}/resolve/"):
            file = self.server.folder / Path(path).name
            self._reply(200, file.read_bytes(), {"ETag": f'"{_tag(file)}"', "X-Repo-Commit": COMMIT})
        else:
            self._reply(404, b'{"error":"Repository not found"}', {"X-Error-Code": "RepoNotFound"})

    def _json(self, value: object) -> None:
        self._reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _tag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def fake_hub(folder: Path) -> Iterator[FakeHub]:
    """A hub for the length of a `with` block."""
    with FakeHub(folder) as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
