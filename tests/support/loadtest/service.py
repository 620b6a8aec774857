"""A classification service with known behaviour on 127.0.0.1, and the load test in separate processes.

Separate processes keep gevent's patches out of the tests, and they match how the load test runs in its pod.
"""

from __future__ import annotations

import heapq
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from toxicity_api.spec import LoadTestSpec, ObjectStore
from toxicity_api.stage_config import LoadTestConfig

STALLED_SECONDS = 3.0
STALLED = "an answer that stalls after its head"
SHAPES: dict[str, object] = {
    "/v1/moderations": {"results": [{"category_scores": {"harassment": 0.25}}]},
    "/v1alpha1/comments:analyze": {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.25}}}},
}
"""Valid answers of the routes other than /v1/classify, for one text."""

GOOD: dict[str, Any] = {
    "model": "m",
    "threshold": 0.5,
    "results": [{"score": 0.25, "toxic": False, "truncated": False}],
}


@dataclass
class Service:
    """Behaviour of the service, and what it recorded: one entry per POST, in order of arrival.

    `answer` gets the request's number. The status code 0 means that the connection is dropped. `hold` blocks the
    request with that number. `spent` has, by X-Request-Id, the times when the service got the request and when it had
    answered, on the machine's monotonic clock, which the generator's process shares.
    """

    url: str = ""
    ready: bool = True
    delay: Callable[[int], float] = lambda number: 0.0
    answer: Callable[[int], tuple[int, object]] = lambda number: (200, GOOD)
    hold: Callable[[int, float], None] = lambda number, arrival: None
    texts: list[str] = field(default_factory=list)
    spent: dict[str, tuple[float, float]] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    arrivals: list[float] = field(default_factory=list)
    got_asked: threading.Event = field(default_factory=threading.Event)
    got_some: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


def _shaped(answer: tuple[int, object], path: str, texts: int) -> tuple[int, object]:
    """Give a valid answer the shape of the route and a result for each text."""
    code, document = answer
    if document is not GOOD:
        return answer
    return code, SHAPES.get(path, {**GOOD, "results": [GOOD["results"][0]] * texts})


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            service.got_asked.set()
            ready = service.ready and self.path == "/readyz"
            self._send(200 if ready else 503, {"state": "Ready" if ready else "Loading"})

        def do_POST(self) -> None:
            arrival = time.monotonic()
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = document.get("texts") or document.get("input") or [document["comment"]["text"]]
            with service.lock:
                number = len(service.arrivals)
                service.texts += texts
                service.paths.add(self.path)
                service.arrivals.append(arrival)
                service.tokens.add(self.headers.get("Authorization", ""))
            service.got_some.set()
            service.hold(number, arrival)
            time.sleep(service.delay(number))
            self._send(*_shaped(service.answer(number), self.path, len(texts)))
            service.spent[self.headers["X-Request-Id"]] = (arrival, time.monotonic())

        def _send(self, code: int, document: object) -> None:
            if not code:
                self.close_connection = True
                return
            body = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if document is STALLED:
                self.wfile.flush()
                time.sleep(STALLED_SECONDS)
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_arguments: object) -> None:
        """Ignore the error: some tests close the connection in the middle of an answer."""


class Replicas:
    """Behaviour of `count` replicas that each serve one request at a time in `seconds`: what Service.hold calls.

    The times are computed, so that the capacity is exactly count / seconds however late a thread wakes.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self._free, self._seconds, self._lock = [0.0] * count, seconds, threading.Lock()

    def __call__(self, number: int, arrival: float) -> None:
        with self._lock:
            end = max(heapq.heappop(self._free), arrival) + self._seconds
            heapq.heappush(self._free, end)
        time.sleep(max(0.0, end - time.monotonic()))


@contextmanager
def running_service() -> Iterator[Service]:
    """Run a service that gives valid answers immediately, unless the test changes it."""
    service = Service()
    with Server(("127.0.0.1", 0), _handler(service)) as server:
        service.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Ended:
    """The end of a load test process: all published statuses, the result document and the log."""

    exit_code: int
    statuses: list[dict[str, Any]]
    result: dict[str, Any]
    log: str

    @property
    def status(self) -> dict[str, Any]:
        return self.statuses[-1]


def free_port() -> int:
    """Return a free port for a master and its workers."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


TEXTS = "text,label\nНу что за день,0\nДа иди ты лесом со своими советами,1\n"


class Run:
    """A load test process with `--local` against a service. `index` is its completion index among several.

    `program` are Python's own arguments, for a load test that something was done to.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        spec: LoadTestSpec,
        *arguments: str,
        csv: str = TEXTS,
        index: int = 0,
        port: int = 0,
        token: str | None = None,
        trace: Path | None = None,
        program: Sequence[str] = ("-m", "toxicity_loadtest"),
        object_store: ObjectStore | None = None,
    ) -> None:
        texts = folder / ("test.csv" if object_store is None else "train-abc/splits/test.csv")
        if object_store is None:
            texts.write_text(csv, encoding="utf-8")
        config = LoadTestConfig(
            model="demo",
            namespace="default",
            fingerprint="0123abcd",
            url=url,
            artifacts=folder,
            texts_path=texts,
            serving_deployment="demo-serve",
            serving_fingerprint="beef0123",
            trace_path=trace,
            master_port=port,
            load_test=spec,
            object_store=object_store,
        )
        self.folder = config.output_dir
        self._termination_log = folder / f"termination-log-{index}"
        options = ["--local", "--calibration-seconds", "0", "--termination-log", str(self._termination_log)]
        environment = {"STAGE_CONFIG": json.dumps(config.to_wire()), "JOB_COMPLETION_INDEX": str(index)}
        if token is not None:
            environment["API_TOKEN"] = token
        self.process = subprocess.Popen(
            [sys.executable, *program, *options, *arguments],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> Ended:
        """Wait for the end. A process that runs longer than five minutes is killed and fails the test."""
        try:
            out, log = self.process.communicate(timeout=300)
        finally:
            self.process.kill()
        result = json.loads(self._termination_log.read_text(encoding="utf-8"))
        return Ended(self.process.returncode, [json.loads(line) for line in out.splitlines()], result, log)
