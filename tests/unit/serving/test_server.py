"""Test the HTTP parser on raw sockets: upgrade requests, request boundaries and the size of headers."""

from __future__ import annotations

import importlib.util
import json
import socket

import httpx
import pytest

from support.serving.word_engine import ready
from toxicity_operator.manifests.serving import GRACE_SECONDS
from toxicity_serving.http.middleware.deadline import REQUEST_SECONDS
from toxicity_serving.http.server import DRAIN_SECONDS, FINISH_SECONDS

TEXT = json.dumps({"text": "спасибо"}).encode()
UPGRADES = {
    "as Java's own client asks": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA",
    "of a web socket": "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: YQ==\r\nSec-WebSocket-Version: 13",
}
LONG_HEADER = 1 << 20


def exchange(client: httpx.Client, request: bytes) -> bytes:
    """Send `request`, and return all bytes until the server closes the connection."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as connection:
        received = b""
        try:
            connection.sendall(request)
            while piece := connection.recv(65536):
                received += piece
        except ConnectionError:  # the server closed the connection while the request was sent
            pass
    return received


def post(headers: str, body: bytes) -> bytes:
    head = f"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{headers}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


LAST = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def test_httptools_is_installed() -> None:
    """The image contains httptools, a dependency of vLLM. Without it, these tests would pass with any configuration."""
    assert importlib.util.find_spec("httptools")


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


def test_size_of_headers_is_limited() -> None:
    """The same request is answered with a short header, and refused as invalid HTTP with a long one."""

    def asking(length: int) -> bytes:
        return b"GET /v1/model HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Long: " + b"a" * length + b"\r\n\r\n"

    with ready(token="secret") as client:
        assert exchange(client, asking(1000)).startswith(b"HTTP/1.1 401 ")
        # nothing comes back where the connection was reset while the header was still being sent
        status, _, _ = exchange(client, asking(LONG_HEADER)).partition(b"\r\n")
        assert status in (b"HTTP/1.1 400 Bad Request", b"")
        assert exchange(client, LAST).startswith(b"HTTP/1.1 200 ")


def test_request_at_the_end_of_draining_has_its_full_time_limit() -> None:
    assert FINISH_SECONDS > REQUEST_SECONDS
    assert GRACE_SECONDS > DRAIN_SECONDS + FINISH_SECONDS
