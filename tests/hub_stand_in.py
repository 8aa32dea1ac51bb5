"""A Hugging Face hub on this machine, as far as its client asks: what a repository is, its files and hashes, and their bytes."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
import pytest

COMMIT = "c0ffee" + 34 * "0"
LARGE = (".safetensors", ".gguf", ".bin")  # files that a repository keeps in Git LFS


class Hub:
    """Repository ``owner/name`` with the files of ``folder``, whose branch ``main`` stands at ``COMMIT``.

    Attributes:
        asked: method, file and first byte of each download that the client asked for.
        lies: file → the hash that the hub gives instead of the file's own.
        cut: number of bytes after which downloads end, as when a connection breaks.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.asked: list[tuple[str, str, int]] = []
        self.lies: dict[str, str] = {}
        self.cut: int | None = None

    def hash_of(self, name: str) -> str:
        content = (self.folder / name).read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return self.lies.get(name, hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else blob)

    def files(self) -> list[dict]:
        """What the hub says of each file."""
        found = []
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                name, size = path.relative_to(self.folder).as_posix(), path.stat().st_size
                lfs = {"oid": self.hash_of(name), "sha256": self.hash_of(name), "size": size, "pointerSize": 134}
                entry = {"type": "file", "path": name, "rfilename": name, "size": size}
                entry["oid"] = entry["blobId"] = 40 * "0" if name.endswith(LARGE) else self.hash_of(name)
                found.append(entry | ({"lfs": lfs} if name.endswith(LARGE) else {}))
        return found


class _Requests(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = urlsplit(self.path).path
        if path in (f"/api/models/owner/name/revision/{name}" for name in ("main", COMMIT)):
            return self._json({"id": "owner/name", "sha": COMMIT, "siblings": self.hub.files()})
        if path == f"/api/models/owner/name/tree/{COMMIT}":
            return self._json(self.hub.files())
        prefix = f"/owner/name/resolve/{COMMIT}/"
        name = path.removeprefix(prefix)
        if not path.startswith(prefix) or not (self.hub.folder / name).is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if "/owner/name/" not in path else "EntryNotFound")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = (self.hub.folder / name).read_bytes()
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if body:
            self.hub.asked.append(("GET", name, first))
        self.send_response(206 if first else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{self.hub.hash_of(name)}"')
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if body:
            self.wfile.write(content[first:] if self.hub.cut is None else content[first : first + self.hub.cut])
            if self.hub.cut is not None:
                self.close_connection = True

    def _json(self, facts) -> None:
        body = json.dumps(facts).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def hub_at(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub of ``folder``, which the client asks inside the block, with its cache in ``cache``."""
    hub = Hub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Requests", (_Requests,), {"hub": hub}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.utils._http.close_session()
    try:
        yield hub
    finally:
        server.shutdown()
        huggingface_hub.utils._http.close_session()
