"""Fake servers of the Hugging Face hub and of Kaggle: HTTP on this machine, with the responses of the services."""

from __future__ import annotations

import hashlib
import io
import json
import re
import ssl
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


@dataclass
class Files:
    """The files and behaviour of a host, and the requests it received as (method, path, Authorization)."""

    datasets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False
    token: str | None = None
    """the token that requests need, if set"""
    cut: bool = False
    """whether the connection ends in the middle of a file"""
    status: int | None = None
    """the status of every response, if set"""
    zipped: bool = False
    commits: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, COMMIT: COMMIT})
    """the commit of each branch, tag and commit of a repository"""
    version: int | None = None
    """the newest version of each data set on Kaggle; by default Kaggle returns none"""
    queries: list[str] = field(default_factory=list)
    sign_in_page: bool = False
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)


class Host(BaseHTTPRequestHandler):
    """The common part of both hosts."""

    files: Files

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: the requests are in `files.requests`."""

    def do_GET(self) -> None:
        path, caller = unquote(urlsplit(self.path).path), self.headers.get("Authorization")
        self.files.requests.append((self.command, path, caller))
        self.files.queries.append(urlsplit(self.path).query)
        if self.files.status is not None:
            return self.send_empty(self.files.status)
        self.answer(path)

    do_HEAD = do_GET

    def answer(self, path: str) -> None:
        raise NotImplementedError

    def send_empty(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send_body(self, body: bytes, kind: str = "application/octet-stream", **headers: str) -> None:
        earlier = [path for method, path, _ in self.files.requests[:-1] if method == self.command == "GET"]
        if self.files.cut and unquote(urlsplit(self.path).path) in earlier:
            return self.send_empty(500)  # nor is the rest to be had afterwards
        self.send_response(200)
        standard = {"Content-Type": kind, "Content-Length": str(len(body))}
        for name, value in {**standard, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if self.files.cut and headers else body)
        self.close_connection = True


class Hub(Host):
    """The requests that the hub's client makes to list a repository and to fetch its files."""

    def answer(self, path: str) -> None:
        api = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if api:
            held = getattr(self.files, api[1]).get(api[2])
            answer = self._repository if api[3] == "revision" else self._tree
            return answer(api[2], held, api[4]) if self._is_open(held, api[4]) else None
        if not file:
            return self.send_empty(404)  # the client asks for more than files, and does without
        held = (self.files.datasets if file[1] else self.files.models).get(file[2])
        if self._is_open(held, file[3]):
            self._file((held or {}).get(file[4]), file[3])

    def _is_open(self, held: dict[str, bytes] | None, revision: str) -> bool:
        """Whether the request is allowed; otherwise responds with the hub's error."""
        hidden = self.files.token and self.headers.get("Authorization") != f"Bearer {self.files.token}"
        if held is None or hidden:
            self.send_empty(404 if self.headers.get("Authorization") else 401, X_Error_Code="RepoNotFound")
        elif revision not in self.files.commits:
            self.send_empty(404, X_Error_Code="RevisionNotFound")
        else:
            return True
        return False

    def _repository(self, name: str, held: dict[str, bytes], revision: str) -> None:
        siblings = [{"rfilename": path} for path in held]
        document = {
            "id": name,
            "sha": self.files.commits[revision],
            "siblings": siblings,
            "tags": [],
            "private": False,
        }
        self.send_body(json.dumps(document).encode(), "application/json")

    def _tree(self, name: str, held: dict[str, bytes], revision: str) -> None:
        entries = [
            {"type": "file", "path": path, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
            for path, body in held.items()
        ]
        self.send_body(json.dumps(entries).encode(), "application/json")

    def _file(self, body: bytes | None, revision: str) -> None:
        if self.files.gated:
            return self.send_empty(403, X_Error_Code="GatedRepo")
        if body is None:
            return self.send_empty(404, X_Error_Code="EntryNotFound")
        self.send_body(
            body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=self.files.commits[revision]
        )


class Kaggle(Host):
    """The download request, which Kaggle answers with a redirect to a file store on another host."""

    def answer(self, path: str) -> None:
        if path.startswith("/api/v1/datasets/view/"):
            if self.files.version is None:
                return self.send_empty(403)
            return self.send_body(
                json.dumps({"currentVersionNumber": self.files.version}).encode(), "application/json"
            )
        download = re.fullmatch(r"/api/v1/datasets/download/([^/]+/[^/]+)/(.+)", path)
        if download:
            return self._redirect(download[1], download[2])
        stored = re.fullmatch(r"/store/([^/]+/[^/]+)/(.+)", path)
        assert stored, path
        body = self.files.datasets[stored[1]][stored[2]]
        self.send_body(zip_of(stored[2], body) if self.files.zipped else body, ETag='"1"')

    def _redirect(self, name: str, file: str) -> None:
        if self.files.sign_in_page:
            return self.send_body(b"<html>Sign in</html>", "text/html; charset=utf-8")
        if self.files.token and self.headers.get("Authorization") != basic(self.files.token):
            return self.send_empty(401 if self.headers.get("Authorization") else 403)
        if file not in self.files.datasets.get(name, {}):
            return self.send_empty(404)
        _, port = self.server.server_address[:2]
        self.send_empty(302, Location=f"http://localhost:{port}/store/{name}/{file}?signature=1")


def basic(user_and_key: str) -> str:
    """The Authorization header of `user:key`."""
    return f"Basic {b64encode(user_and_key.encode()).decode()}"


def zip_of(name: str, *bodies: bytes) -> bytes:
    """A zip archive with the bodies as members of these names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, body in enumerate(bodies):
            archive.writestr(f"{number}/{name}", body)
    return buffer.getvalue()


@contextmanager
def serving(kind: type[Host], files: Files, certificate: Path | None = None) -> Iterator[str]:
    """Serves `files` while the block runs; yields the address. `certificate` is a .crt beside its .key, for HTTPS."""
    handler = type(kind.__name__, (kind,), {"files": files})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
