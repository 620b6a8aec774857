"""What `helm test` runs: the rendered program, as its pod runs it, against a server on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support.chart import (
    EVERYTHING,
    NAMESPACE,
    RELEASE,
    Documents,
    environment,
    image_reference,
    load_values,
    of_kind,
)

TIMEOUT_SECONDS = 30
ANSWERS = {
    "/healthz": (200, '{"operator": true}'),
    "/down/healthz": (500, "a watch has ended"),
    "/good/v1/classify": (200, '{"results": [{"score": 0.03, "toxic": false}]}'),
    "/busy/v1/classify": (429, '{"message": "too many requests"}'),
    "/outside/v1/classify": (200, '{"results": [{"score": 1.5}]}'),
    "/nan/v1/classify": (200, '{"results": [{"score": NaN}]}'),
    "/other/v1/classify": (200, "<html>not the service</html>"),
    "/empty/v1/classify": (200, '{"results": []}'),
}


class Handler(BaseHTTPRequestHandler):
    """Answers as the path says, and keeps what it was asked."""

    asked: list[tuple[str, str]] = []
    token: str | None = None

    def do_GET(self) -> None:
        self._answer("")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["content-length"])).decode())

    def _answer(self, body: str) -> None:
        self.asked.append((self.path, body))
        Handler.token = self.headers["authorization"]
        status, text = ANSWERS[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the test prints what it needs."""


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of a server with the answers above."""
    Handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def ask(documents: Documents, operator: str, service: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the pod's command with these URLs in place of the cluster's."""
    (container,) = of_kind(documents, "Pod")["spec"]["containers"]
    program, *arguments = container["command"]
    assert program == "python3"
    given = {"OPERATOR_URL": operator, "SERVICE_URL": service, **more}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment(container), **given},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def test_pod_asks_the_operator_and_the_given_service(everything: Documents) -> None:
    pod, values = of_kind(everything, "Pod"), load_values(EVERYTHING)
    (container,) = pod["spec"]["containers"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert container["image"] == image_reference(values["images"]["loadtest"])
    service = of_kind(everything, "Service")
    (port,) = (port["port"] for port in service["spec"]["ports"] if port["name"] == "healthz")
    (token,) = (entry for entry in container["env"] if entry["name"] == "TOKEN")
    secret = {"name": values["helmTest"]["tokenSecretName"], "key": "token"}
    assert token == {"name": "TOKEN", "valueFrom": {"secretKeyRef": secret}}
    assert environment(container) == {
        "OPERATOR_URL": f"http://{service['metadata']['name']}.{NAMESPACE}.svc:{port}/healthz",
        "SERVICE_URL": values["helmTest"]["url"],
        "TEXT": values["helmTest"]["text"],
    }
    assert service["metadata"]["name"] == RELEASE


def test_a_text_is_classified(everything: Documents, server: str) -> None:
    done = ask(everything, f"{server}/healthz", f"{server}/good/")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"score": 0.03' in done.stdout
    (_, (path, body)) = Handler.asked
    assert (path, json.loads(body)) == ("/good/v1/classify", {"text": load_values(EVERYTHING)["helmTest"]["text"]})


def test_without_a_service_the_operators_health_is_asked_for(defaults: Documents, server: str) -> None:
    done = ask(defaults, f"{server}/healthz", "")
    assert (done.returncode, [path for path, _ in Handler.asked]) == (0, ["/healthz"])
    assert "no text was classified" in done.stdout


@pytest.mark.parametrize(("more", "header"), [({}, None), ({"TOKEN": "a-secret"}, "Bearer a-secret")])
def test_the_services_token_is_sent_where_there_is_one(
    everything: Documents, server: str, more: dict[str, str], header: str | None
) -> None:
    done = ask(everything, f"{server}/healthz", f"{server}/good", **more)
    assert (done.returncode, Handler.token) == (0, header)
    assert "a-secret" not in done.stdout + done.stderr


def test_an_operator_that_is_not_well_fails_the_test(everything: Documents, server: str) -> None:
    done = ask(everything, f"{server}/down/healthz", f"{server}/good")
    assert done.returncode == 1
    assert "a watch has ended" in done.stderr
    assert [path for path, _ in Handler.asked] == ["/down/healthz"]


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("busy", "too many requests"),
        ("outside", "1.5"),
        ("nan", "NaN"),
        ("other", "not the service"),
        ("empty", "no score"),
    ],
)
def test_an_answer_without_a_score_fails_the_test_and_is_printed(
    everything: Documents, server: str, service: str, said: str
) -> None:
    done = ask(everything, f"{server}/healthz", f"{server}/{service}")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_service_that_is_not_there_fails_the_test(everything: Documents, server: str) -> None:
    done = ask(everything, f"{server}/healthz", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr
