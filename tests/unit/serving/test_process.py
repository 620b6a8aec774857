"""Test the service as a process: it stops without losing a request, and exits when its engine dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from support.serving.word_engine import CONFIG, WordEngine, wait
from support.serving.word_service import LONG_WORD
from toxicity_api.results import EXIT_FAILED
from toxicity_serving.__main__ import serve

TESTS = Path(__file__).parents[2]
DRAIN_SECONDS, ENDLESS_SECONDS = 2.0, 600.0
CLIENTS = 8
ON_THE_WAY_SECONDS = 0.5
"""Tolerance in seconds between a client's timestamp and the arrival of its request, on a busy machine."""


@dataclass
class Served:
    """The running process with its URL and its output files."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    termination_log: Path
    pid_file: Path

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, "the service ended while it started"
        with contextlib.suppress(httpx.ConnectError):
            return self.get("/readyz").status_code == 200
        return False


@contextlib.contextmanager
def starting(
    tmp_path: Path, drain_seconds: float = DRAIN_SECONDS, pid: str = "pid", **fields: object
) -> Iterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    log, pid_file = tmp_path / "termination-log", tmp_path / pid
    log.touch()
    config = CONFIG.model_copy(update={"port": port, **fields})
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
        "STAGE_CONFIG": config.model_dump_json(by_alias=True),
    }
    program = TESTS / "support" / "serving" / "word_service.py"
    command = [sys.executable, str(program), str(log), str(drain_seconds), str(pid_file)]
    with (
        subprocess.Popen(command, env=variables) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
    ):
        try:
            yield Served(process, client, log, pid_file)
        finally:
            process.kill()


@contextlib.contextmanager
def serving(tmp_path: Path, drain_seconds: float = DRAIN_SECONDS) -> Iterator[Served]:
    with starting(tmp_path, drain_seconds) as found:
        wait(found.is_ready, 30)
        yield found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as found:
        yield found


@dataclass
class Traffic:
    """The results of clients that send requests on keep-alive connections until a connection is refused."""

    url: httpx.URL
    answered: list[float] = field(default_factory=list)
    """Start times of the requests that were scored; `lost` has those of the lost ones."""
    refusals: list[str] = field(default_factory=list)
    """Responses to the other requests."""
    lost: list[float] = field(default_factory=list)

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while True:
                began = time.monotonic()
                try:
                    answer = client.post("/v1/classify", json={"text": "спасибо"})
                except httpx.ConnectError:
                    return
                except httpx.TransportError:
                    self.lost.append(began)
                    return
                if answer.status_code == 200 and len(answer.json()["results"]) == 1:
                    self.answered.append(began)
                else:
                    self.refusals.append(f"{answer.status_code} {answer.text}")


def test_no_request_is_lost_when_the_process_stops_under_load(served: Served) -> None:
    traffic, ended, seen = Traffic(served.client.base_url), list[float](), list[httpx.Response]()
    threads = [threading.Thread(target=traffic.run) for _ in range(CLIENTS)]

    def ask_for_long() -> None:
        answer = served.client.post("/v1/classify", json={"text": LONG_WORD})
        assert answer.status_code == 200
        ended.append(time.monotonic())

    for thread in threads:
        thread.start()
    wait(lambda: len(traffic.answered) > 10 * CLIENTS)
    slow = threading.Thread(target=ask_for_long)
    slow.start()
    asked = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    wait(lambda: seen.append(served.get("/readyz")) or seen[-1].status_code == 503)
    assert (seen[-1].json()["state"], seen[-1].headers["connection"]) == ("draining", "close")
    for thread in [*threads, slow]:
        thread.join()
    assert served.process.wait(timeout=20) == 0
    refusing = asked + DRAIN_SECONDS
    early = [refusing - began for began in traffic.lost if began < refusing - ON_THE_WAY_SECONDS]
    assert not early, "requests begun so many seconds before the refusals got no answer"
    stopping = '503 {"message":"stopping: '
    assert [refusal for refusal in traffic.refusals if not refusal.startswith(stopping)] == []
    assert [began for began in traffic.answered if asked < began < refusing], "it took work while it drained"
    assert ended and ended[0] > refusing, "what was in flight was finished after the drain"
    assert served.termination_log.read_text() == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_service_listens_on_ipv4_and_ipv6(served: Served, host: str) -> None:
    assert httpx.get(served.client.base_url.copy_with(host=host).join("/readyz")).status_code == 200


def test_start_fails_with_the_reason_when_the_port_is_in_use(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve(CONFIG.model_copy(update={"port": port}), WordEngine(), None, log) == EXIT_FAILED
    assert log.read_text() == f"port: cannot listen on {port}: Address already in use"


def test_process_exits_with_the_reason_when_its_engine_dies(served: Served) -> None:
    os.kill(int(served.pid_file.read_text()), signal.SIGKILL)
    assert served.process.wait(timeout=20) == 1
    assert served.termination_log.read_text() == "EngineError: the child process ended with -9"


def test_process_whose_start_hangs_in_a_thread_exits_with_the_reason(tmp_path: Path) -> None:
    with starting(tmp_path, pid="none/pid", start_seconds=1) as served:
        assert served.process.wait(timeout=30) == EXIT_FAILED
        assert served.termination_log.read_text().startswith("StartTimeoutError: not ready 1 s after the start")


def test_second_signal_ends_the_drain(tmp_path: Path) -> None:
    with serving(tmp_path, ENDLESS_SECONDS) as served:
        served.process.send_signal(signal.SIGTERM)
        wait(lambda: served.get("/readyz").json()["state"] == "draining")
        assert served.get("/healthz").status_code == 200
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(timeout=20)
