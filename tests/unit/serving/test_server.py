"""Test the HTTP parser on raw sockets: upgrade requests, request boundaries, the size of heads and pipelining."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable

import httpx
import pytest

from support.serving.word_engine import ready
from toxicity_operator.manifests.serving import GRACE_SECONDS
from toxicity_serving.http.connection import MAX_HEAD_BYTES, MAX_PIPELINED
from toxicity_serving.http.middleware.deadline import REQUEST_SECONDS
from toxicity_serving.http.server import DRAIN_SECONDS, FINISH_SECONDS

TEXT = json.dumps({"text": "спасибо"}).encode()
UPGRADES = {
    "as Java's own client asks": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA",
    "of a web socket": "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: YQ==\r\nSec-WebSocket-Version: 13",
}
LONG_HEAD = 3 * MAX_HEAD_BYTES // 2


def exchange(client: httpx.Client, *pieces: bytes) -> bytes:
    """Send the pieces in packets of their own, and return all bytes until the server closes the connection."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.02)
            while answer := connection.recv(65536):
                received += answer
        except ConnectionError:  # the server closed the connection while the request was sent
            pass
    return received


def post(headers: str, body: bytes) -> bytes:
    head = f"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{headers}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


LAST = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("headers", UPGRADES.values(), ids=UPGRADES)
def test_upgrade_request_gets_an_ordinary_response(headers: str) -> None:
    with ready() as client:
        answers = exchange(client, post(headers, TEXT) + LAST)
    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"HTTP/1.1 ") == 2
    assert b'"score"' in answers


def test_body_of_an_upgrade_request_is_not_parsed_as_a_request() -> None:
    with ready() as client:
        answers = exchange(client, post(UPGRADES["as Java's own client asks"], LAST) + LAST)
    assert answers.count(b"HTTP/1.1 ") == 2
    assert answers.startswith(b"HTTP/1.1 422")


@pytest.mark.parametrize("headers", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("end", ["length", "chunked"])
def test_upgrade_request_may_arrive_in_pieces(headers: str, end: str) -> None:
    size = len(TEXT)
    body = TEXT if end == "length" else f"{size:x}\r\n".encode() + TEXT + b"\r\n0\r\n\r\n"
    framing = f"Content-Length: {size}" if end == "length" else "Transfer-Encoding: chunked"
    head = f"POST /v1/classify HTTP/1.1\r\nHost: a\r\n{headers}\r\n{framing}\r\n\r\n".encode()
    with ready() as client:
        answers = exchange(client, head[:40], head[40:], body[:9], body[9:] + LAST)
    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"HTTP/1.1 ") == 2
    assert b'"score"' in answers


HEADS: dict[str, Callable[[int], tuple[bytes, bytes]]] = {
    "one long header": lambda size: (b"", b"X-Long: %b\r\n" % (b"a" * size)),
    "many headers": lambda size: (b"", b"".join(b"X-%d: a\r\n" % number for number in range(size // 10))),
    "a long path": lambda size: (b"?" + b"a" * size, b""),
}
"""By kind: the end of a path and the headers, of about so many bytes."""


@pytest.mark.parametrize("kind", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("piece", [1 << 12, 1 << 24], ids=["in pieces", "at once"])
def test_size_of_heads_is_limited(kind: Callable[[int], tuple[bytes, bytes]], piece: int) -> None:
    """A head of the same form is answered when it is short, and refused as invalid HTTP when it is long."""

    def asking(size: int) -> list[bytes]:
        request = b"GET /v1/model%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n" % kind(size)
        return [request[start : start + piece] for start in range(0, len(request), piece)]

    with ready(token="secret") as client:
        assert exchange(client, *asking(MAX_HEAD_BYTES // 2)).startswith(b"HTTP/1.1 401 ")
        # nothing comes back where the connection was reset while the head was still being sent
        status, _, _ = exchange(client, *asking(LONG_HEAD)).partition(b"\r\n")
        assert status in (b"HTTP/1.1 400 Bad Request", b"")
        assert exchange(client, LAST).startswith(b"HTTP/1.1 200 ")


CHUNKS = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "path": b"GET /",
    "header": b"GET / HTTP/1.1\r\nX-Long: ",
    "extension of a chunk": CHUNKS + b"1;",
    "trailer": CHUNKS + b"1\r\na\r\n0\r\nX-Long: ",
}


@pytest.mark.parametrize("begin", ENDLESS.values(), ids=ENDLESS)
def test_line_that_never_ends_is_refused_early(begin: bytes) -> None:
    sent = 0
    with ready() as client, socket.create_connection((client.base_url.host, client.base_url.port or 80)) as opened:
        opened.sendall(begin)
        with pytest.raises(ConnectionError):
            while sent < 40 * MAX_HEAD_BYTES:
                opened.sendall(b"a" * 4096)
                sent += 4096
                time.sleep(0.001)
    assert MAX_HEAD_BYTES / 2 < sent < 4 * MAX_HEAD_BYTES


def test_trailers_are_not_headers() -> None:
    """Neither of their own request nor of the next one, which may be of another client behind the same proxy."""
    chunked = CHUNKS + f"{len(TEXT):x}\r\n".encode()
    trailers = b"\r\n0\r\nX-Request-Id: from-a-trailer\r\nContent-Type: text/plain\r\n\r\n"
    with ready() as client:
        answers = exchange(client, chunked + TEXT + trailers + LAST)
        later = exchange(client, chunked, TEXT, trailers, LAST)
    for received in (answers, later):
        assert received.count(b"HTTP/1.1 200 OK") == received.count(b"HTTP/1.1 ") == 2
        assert received.lower().count(b"x-request-id: ") == 2
        assert b"from-a-trailer" not in received


AMBIGUOUS = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "a blank before the colon": b"Content-Length : 5\r\n",
    "a folded header": b"X-A: a\r\n b\r\nContent-Length: 5\r\n",
    "a signed length": b"Content-Length: +5\r\n",
    "a bare line feed": b"X-A: a\nContent-Length: 5\r\n",
    "a zero byte": b"X-A: \x00\r\nContent-Length: 5\r\n",
}


@pytest.mark.parametrize("headers", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_request_with_an_ambiguous_end_is_refused(headers: bytes) -> None:
    """A proxy that reads it in another way would take the rest for the next client's request."""
    request = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\n%b\r\n0\r\n\r\n" % headers
    with ready() as client:
        answers = exchange(client, request + LAST)
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"HTTP/1.1 ") == 1


def test_connect_is_refused() -> None:
    with ready() as client:
        answers = exchange(client, b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n" + LAST)
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"HTTP/1.1 ") == 1


def test_requests_sent_ahead_are_answered_in_order() -> None:
    paths = [b"/healthz" if number % 2 else b"/none" for number in range(MAX_PIPELINED)]
    ahead = b"".join(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in paths)
    with ready() as client:
        answers = exchange(client, ahead + LAST)
    assert [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", answers)] == [404, 200] * (
        MAX_PIPELINED // 2
    ) + [200]


def test_client_that_sends_requests_without_end_loses_its_connection() -> None:
    with ready() as client:
        answers = exchange(client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5000)
        assert answers.count(b"HTTP/1.1 ") <= 2 * MAX_PIPELINED
        assert exchange(client, LAST).startswith(b"HTTP/1.1 200 ")


def test_request_at_the_end_of_draining_has_its_full_time_limit() -> None:
    assert FINISH_SECONDS > REQUEST_SECONDS
    assert GRACE_SECONDS > DRAIN_SECONDS + FINISH_SECONDS
