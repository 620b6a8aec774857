"""Clients that a service must survive: silent, slow, greedy and wrong ones, each in a thread until it is stopped."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx

JSON = {"content-type": "application/json"}
HEAD = "POST /v1/classify HTTP/1.1\r\nHost: a\r\n"
ORDINARY = [" ".join(["спасибо за рецепт, вечером попробую"] * times) for times in (1, 3, 10)]
"""35, 107 and 359 characters: a short comment, a common one, and one that is longer than nine of ten."""

WINDOWED = "ужасно длинный текст " * 900


@contextlib.contextmanager
def _connection(url: httpx.URL) -> Iterator[socket.socket]:
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        opened.settimeout(10)
        opened.connect((url.host, url.port or 80))
        yield opened


def _never_reads(url: httpx.URL, stopped: threading.Event) -> None:
    with _connection(url) as opened:
        opened.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        stopped.wait(2)


def _is_silent(url: httpx.URL, stopped: threading.Event) -> None:
    with _connection(url):
        stopped.wait(5)


def _sends_byte_by_byte(url: httpx.URL, stopped: threading.Event) -> None:
    with _connection(url) as opened:
        for byte in (HEAD + "X-Slow: " + "a" * 1000).encode():
            opened.sendall(bytes([byte]))
            if stopped.wait(0.05):
                return


def _leaves_its_body_unfinished(url: httpx.URL, stopped: threading.Event) -> None:
    with _connection(url) as opened:
        opened.sendall(f"{HEAD}Content-Length: 4000000\r\n\r\n".encode() + b" " * 100_000)
        stopped.wait(2)


def _post(
    content: bytes, path: str = "/v1/classify", **headers: str
) -> Callable[[httpx.URL, threading.Event], None]:
    def act(url: httpx.URL, stopped: threading.Event) -> None:
        # over http, and without certificates, whose loading would take processor time of the service
        with httpx.Client(base_url=url, timeout=70, trust_env=False, verify=False) as client:
            client.post(path, content=content, headers=JSON | headers)
        stopped.wait(0.2)

    return act


def _goes_away(url: httpx.URL, stopped: threading.Event) -> None:
    body = json.dumps({"texts": [WINDOWED] * 4}).encode()
    with _connection(url) as opened:
        opened.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        stopped.wait(0.3)


_VALUES = '{"comment":{"text":"a"},"requestedAttributes":{"TOXICITY":{}},"context":{"entries":[%s]}}'
HOSTILE: dict[str, Callable[[httpx.URL, threading.Event], None]] = {
    "never reads": _never_reads,
    "is silent": _is_silent,
    "sends byte by byte": _sends_byte_by_byte,
    "leaves its body unfinished": _leaves_its_body_unfinished,
    "goes away": _goes_away,
    "sends a batch of long texts": _post(json.dumps({"texts": [WINDOWED] * 8}).encode()),
    "sends the largest batch": _post(json.dumps({"texts": [WINDOWED] * 64}).encode()),
    "sends a bomb": _post(gzip.compress(b" " * 50_000_000), **{"content-encoding": "gzip"}),
    "sends many values": _post((_VALUES % ",".join(["{}"] * 300_000)).encode(), "/v1alpha1/comments:analyze"),
    "sends no JSON": _post(b"\xff" * 100_000),
}


@dataclass
class Traffic:
    """What ordinary clients, which send one text after the other, saw."""

    url: httpx.URL
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def run(self, stopped: threading.Event) -> None:
        with httpx.Client(base_url=self.url, timeout=70, trust_env=False) as client:
            for text in itertools.cycle(ORDINARY):
                if stopped.is_set():
                    return
                began = time.perf_counter()
                answer = client.post("/v1/classify", json={"text": text})
                self.seconds.append(time.perf_counter() - began)
                self.statuses[answer.status_code] += 1

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.seconds, n=20)[-1]


@contextlib.contextmanager
def hostile_clients(url: httpx.URL) -> Iterator[None]:
    """Run each of HOSTILE again and again until the block ends."""
    stopped = threading.Event()

    def repeat(act: Callable[[httpx.URL, threading.Event], None]) -> None:
        while not stopped.is_set():
            with contextlib.suppress(OSError, httpx.TransportError):  # refusals and cut connections are the point
                act(url, stopped)

    threads = [threading.Thread(target=repeat, args=[act], name=name) for name, act in HOSTILE.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def measure(url: httpx.URL, clients: int, seconds: float) -> Traffic:
    """Run ordinary clients for so long."""
    traffic, stopped = Traffic(url), threading.Event()
    threads = [threading.Thread(target=traffic.run, args=[stopped]) for _ in range(clients)]
    for thread in threads:
        thread.start()
    stopped.wait(seconds)
    stopped.set()
    for thread in threads:
        thread.join()
    return traffic
