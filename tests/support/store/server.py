"""versitygw, a real S3 server over a folder, on loopback: started, killed, restarted, or with little space.

`Front` is a TCP proxy before it, with which a test acts at a chosen request.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from support.ports import free_ports
from toxicity_api.spec import ObjectStore
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_store.artifacts import BucketStore
from toxicity_store.client import connect

KEY, SECRET = "reader-of-tests", "a-secret-of-tests"
BUCKET = "models"
START_SECONDS = 20.0
RETRY = {
    "max_retries": 60,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(milliseconds=400), "base": 2},
}
NO_RETRY = {"max_retries": 0, "retry_timeout": timedelta(seconds=2)}


@dataclass
class S3Server:
    """One server. Its bucket is the folder `bucket`, in which an object is a file."""

    program: Path
    folder: Path
    certificate: tuple[Path, Path] | None = None
    """certificate and key for https"""
    host: str = "127.0.0.1"
    tmpfs_bytes: int | None = None
    """size of a tmpfs that holds the buckets; None for the folder itself"""
    port: int = field(default_factory=lambda: free_ports(1)[0])
    _process: subprocess.Popen[bytes] | None = None
    _planned: list[threading.Timer] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bucket(self) -> Path:
        return self.folder / "buckets" / BUCKET

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{self.host}:{self.port}"

    def start(self) -> None:
        """Starts the server and waits until it accepts connections."""
        self.bucket.mkdir(parents=True, exist_ok=True)
        certificate = self.certificate and ("--cert", str(self.certificate[0]), "--key", str(self.certificate[1]))
        command = [str(self.program), "--port", f"{self.host}:{self.port}", *(certificate or ()), "posix"]
        command.append(str(self.bucket.parent))
        if self.tmpfs_bytes:
            script = f'mount -t tmpfs -o size={self.tmpfs_bytes} tmpfs "$0" && mkdir "$0/{BUCKET}" && exec "$@"'
            command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, command[-1], *command]
        with self._lock, (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={"PATH": os.environ["PATH"], "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until("the S3 server to listen", self._listens, START_SECONDS, 0.02)

    def kill(self) -> None:
        """Kills the server as a lost node does."""
        with self._lock:
            if self._process is not None:
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()
                self._process = None

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Kills or starts the server from another thread, at the latest before the test ends."""
        self._planned.append(threading.Timer(seconds, action))
        self._planned[-1].start()

    def close(self) -> None:
        for planned in self._planned:
            planned.join()
        self.kill()

    def files(self) -> list[str]:
        """The paths of all objects below the prefix."""
        root = self.bucket / "team"
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection((self.host, self.port), 1):
            return True
        return False


@contextmanager
def running(server: S3Server) -> Iterator[S3Server]:
    server.start()
    try:
        yield server
    finally:
        server.close()


def write_secret(folder: Path, **keys: str) -> Path:
    """The mounted Secrets of a pod: credentials and, as `ca`, the certificate of an authority."""
    authority = keys.pop("ca", None)
    for name, content in keys.items():
        path = folder / "credentials" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    if authority is not None:
        (folder / "ca").mkdir(parents=True, exist_ok=True)
        (folder / "ca" / "ca.crt").write_text(authority)
    return folder


def spec_of(endpoint: str, bucket: str = BUCKET, ca_secret: str | None = None) -> ObjectStore:
    url = f"s3://{bucket}/team"
    return ObjectStore(url=url, endpoint=endpoint, secret_name="store-key", ca_secret_name=ca_secret)


def open_store(endpoint: str, secrets: Path, retry: dict[str, object] | None = None) -> BucketStore:
    return BucketStore(connect(spec_of(endpoint), secrets, retry or RETRY))  # type: ignore[arg-type]


@dataclass
class Front:
    """A proxy that counts the requests and calls `on_request` with the number of each before it passes it on."""

    target: int
    on_request: Callable[[int, str], None] = lambda number, line: None
    lines: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as server:
            threading.Thread(target=_copy, args=(server, client), daemon=True).start()
            while data := client.recv(1 << 16):
                found = re.match(rb"(GET|PUT|POST|HEAD|DELETE) (\S+) HTTP/1.1\r\n", data)
                if found:
                    with self._lock:
                        line = f"{found[1].decode()} {found[2].decode()}"
                        self.lines.append(line)
                        self.on_request(len(self.lines), line)
                server.sendall(data)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
