"""Reading the end of a log over HTTP: the response is text, and every failure is a ClusterError."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest
from kubernetes import client

from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.client import LOG_LIMIT_BYTES, KubernetesCluster


class LogServer(ThreadingHTTPServer):
    """Server that answers every request with `answer` and keeps the last request."""

    answer: tuple[int, bytes] = (200, b"")
    asked = ""


class Handler(BaseHTTPRequestHandler):
    server: LogServer

    def do_GET(self) -> None:
        self.server.asked = self.path
        code, body = self.server.answer
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Suppress the request log."""


@pytest.fixture
def server() -> Iterator[LogServer]:
    with LogServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def read(server: LogServer) -> list[str]:
    with client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{server.server_port}")) as api_client:
        return KubernetesCluster(api_client).read_log_end("ns", "pod-1", "train", 40)


def test_only_the_end_of_one_container_is_asked_for(server: LogServer) -> None:
    server.answer = (200, "один\ntwo".encode() + b"\xff\n")
    assert read(server) == ["один", "two\ufffd"]
    asked = urlparse(server.asked)
    assert asked.path == "/api/v1/namespaces/ns/pods/pod-1/log"
    assert parse_qs(asked.query) == {
        "container": ["train"], "tailLines": ["40"], "limitBytes": [str(LOG_LIMIT_BYTES)],
    }  # fmt: skip


@pytest.mark.parametrize("code", [400, 403, 404, 500])
def test_refusal_is_a_cluster_error_with_the_servers_words(server: LogServer, code: int) -> None:
    server.answer = (code, b'{"message": "container is waiting to start"}')
    with pytest.raises(ClusterError, match="waiting to start") as refused:
        read(server)
    assert refused.value.status == code
