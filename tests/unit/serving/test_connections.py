"""Test on raw sockets that a client which is silent, slow or does not read loses its connection in time."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from support.serving.word_engine import ready, wait
from toxicity_serving.http.connection import MAX_PIPELINED, ConnectionLimits

LIMITS = ConnectionLimits(idle=2, head=0.6, write=0.8)
ENOUGH = 10.0


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with ready(limits=LIMITS) as client:
        yield client


@contextmanager
def connection(client: httpx.Client, receive_buffer: int = 0) -> Iterator[socket.socket]:
    with socket.socket() as opened:
        if receive_buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        opened.settimeout(ENOUGH)
        opened.connect((client.base_url.host, client.base_url.port))
        yield opened


def seconds_until_closed(opened: socket.socket, keep_sending: Callable[[], bytes] | None = None) -> float:
    """Return how long the server keeps the connection, while the client sends a piece every 50 ms."""
    began = time.monotonic()
    opened.settimeout(0.05)
    while True:
        assert time.monotonic() - began < ENOUGH, "the connection stays open"
        try:
            if not opened.recv(1 << 16):
                return time.monotonic() - began
            continue
        except TimeoutError:
            pass
        except ConnectionError:
            return time.monotonic() - began
        if keep_sending is not None:
            try:
                opened.sendall(keep_sending())
            except ConnectionError:
                return time.monotonic() - began


def test_silent_connection_is_closed_like_an_idle_one(client: httpx.Client) -> None:
    with connection(client) as silent, connection(client) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert LIMITS.idle - 0.5 < seconds_until_closed(silent) < LIMITS.idle + 3
        assert seconds_until_closed(idle) < LIMITS.idle + 3


@pytest.mark.parametrize(
    "begun", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["first", "second request"]
)
def test_head_that_arrives_byte_by_byte_is_cut_off(client: httpx.Client, begun: bytes) -> None:
    with connection(client) as opened:
        opened.sendall(begun + b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        assert seconds_until_closed(opened, lambda: b"a") < LIMITS.head + 1.3


@pytest.mark.parametrize("path", ["/healthz", "/none", "/"])
def test_endless_body_behind_its_response_is_cut_off(client: httpx.Client, path: str) -> None:
    with connection(client) as opened:
        opened.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n".encode())
        assert seconds_until_closed(opened, lambda: b"a") < LIMITS.head + 1.3


@pytest.mark.parametrize("requests", [1, 2])
def test_connection_is_idle_after_a_body_behind_its_response(client: httpx.Client, requests: int) -> None:
    """It may be idle for longer than a head may take, and not for ever."""
    with connection(client) as opened:
        opened.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        assert opened.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        opened.sendall(b"abc")
        if requests == 2:
            time.sleep(LIMITS.head + 0.4)
            opened.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert opened.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert seconds_until_closed(opened) < LIMITS.idle + 3


def test_client_that_never_reads_loses_its_connection(client: httpx.Client) -> None:
    """Its responses fill the buffers of both sockets. Without a limit the next one would wait for ever."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
    with connection(client, receive_buffer=1 << 12) as opened:
        opened.sendall(request * MAX_PIPELINED)
        wait(lambda: opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET)


def test_client_that_does_not_read_the_last_response_loses_its_connection(client: httpx.Client) -> None:
    """Closing a connection waits until the client has read what is in the buffers, here less than the high water."""
    request = b"GET / HTTP/1.1\r\nHost: a\r\n"
    with connection(client, receive_buffer=1 << 12) as opened:
        opened.sendall((request + b"\r\n") * 3 + request + b"Connection: close\r\n\r\n")
        wait(lambda: opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET)


def test_slow_reader_within_the_limit_gets_the_whole_response(client: httpx.Client) -> None:
    whole = client.get("/openapi.json").content
    with connection(client, receive_buffer=1 << 12) as opened:
        opened.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = b""
        while piece := opened.recv(1 << 12):
            received += piece
            time.sleep(0.005)
    assert received.endswith(whole)
