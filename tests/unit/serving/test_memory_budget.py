"""Test the memory budget for the bodies of all requests: stalled uploads cannot exhaust the memory."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from support.serving.word_engine import HELD_WORD, WordEngine, ready, samples, wait
from toxicity_serving.http import app
from toxicity_serving.http.middleware.body_limit import MemoryBudget
from toxicity_serving.http.middleware.deadline import DEADLINE_HEADER

BUDGET = 100_000
BODIES: dict[str, dict[str, Any]] = {
    "/v1/classify": {"text": "а" * 50},
    "/v1/moderations": {"input": "а" * 50},
    "/v1alpha1/comments:analyze": {"comment": {"text": "а" * 50}, "requestedAttributes": {"TOXICITY": {}}},
}
JSON = {"content-type": "application/json"}
SMALL_BODY = BUDGET * 3 // 4
"""The limit for a Perspective body in these tests, in bytes."""


@pytest.fixture
def engine() -> WordEngine:
    return WordEngine()


@pytest.fixture
def budget() -> MemoryBudget:
    return MemoryBudget(BUDGET)


@pytest.fixture
def client(engine: WordEngine, budget: MemoryBudget, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    limits = dict.fromkeys(app.BODY_LIMITS, 2 * BUDGET)
    monkeypatch.setattr(app, "BODY_LIMITS", limits | {"/v1alpha1/comments:analyze": SMALL_BODY})
    monkeypatch.setattr(app, "MemoryBudget", lambda _: budget)
    with ready(engine) as client:
        yield client
    assert budget.left == BUDGET, "whatever a request met, it gave back what it had"


@contextlib.contextmanager
def upload(
    client: httpx.Client, headers: str, content: bytes, path: str = "/v1/classify"
) -> Iterator[socket.socket]:
    """Send the head and `content` of a request, and yield the open connection."""
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n".encode() + content)
        yield connection


@contextlib.contextmanager
def stalled(
    client: httpx.Client, budget: MemoryBudget, left: int, path: str = "/v1/classify", headers: str = ""
) -> Iterator[socket.socket]:
    """Stall an upload one byte before its end, when `left` bytes of the budget remain."""
    size = budget.left - left
    with upload(client, f"{headers}Content-Length: {size + 1}", b" " * size, path) as connection:
        wait(lambda: budget.left == left)
        yield connection


def fits(client: httpx.Client, size: int) -> bool:
    """Return whether a request of `size` bytes is accepted."""
    content = json.dumps({"text": "a"}).encode().ljust(size)
    answer = client.post("/v1/classify", content=content, headers=JSON)
    assert answer.status_code in (200, 429)
    return answer.status_code == 200


def chunk(size: int) -> bytes:
    return f"{size:x}\r\n".encode() + b" " * size + b"\r\n"


@pytest.mark.parametrize("uploaded", BODIES)
@pytest.mark.parametrize("path", BODIES)
def test_request_is_refused_at_once_while_stalled_uploads_fill_the_budget(
    client: httpx.Client, budget: MemoryBudget, path: str, uploaded: str
) -> None:
    with stalled(client, budget, BUDGET // 2, uploaded), stalled(client, budget, 50, uploaded):
        answer = client.post(path, json=BODIES[path])
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert answer.json().keys() == ({"message", "errors"} if path == "/v1/classify" else {"error"})
        assert "retry later" in answer.text
        assert fits(client, 50) and not fits(client, 51)
        counted = samples(client)
        assert counted["toxicity_requests_in_flight"] == 2
        assert counted['toxicity_requests_total{outcome="overloaded"}'] == 2


def test_content_length_alone_reserves_no_memory(client: httpx.Client) -> None:
    with contextlib.ExitStack() as uploads:
        for _ in range(20):
            uploads.enter_context(upload(client, f"Content-Length: {BUDGET}", b""))
        wait(lambda: samples(client)["toxicity_requests_in_flight"] == 20)
        assert fits(client, BUDGET)


def test_body_without_a_length_is_refused_when_it_exceeds_the_budget(
    client: httpx.Client, budget: MemoryBudget
) -> None:
    with stalled(client, budget, BUDGET // 2):
        content = iter([b" " * (BUDGET // 4)] * 4)
        answer = client.post("/v1/classify", content=content, headers=JSON)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert budget.left == BUDGET // 2, "what it had brought is free again"


def test_refused_body_is_released_before_its_end(client: httpx.Client, budget: MemoryBudget) -> None:
    with upload(client, "Transfer-Encoding: chunked", chunk(BUDGET // 2)) as connection:
        wait(lambda: budget.left == BUDGET // 2)
        with stalled(client, budget, 1):
            connection.sendall(chunk(2))
            wait(lambda: budget.left == BUDGET // 2 + 1)
            connection.sendall(chunk(0))
            assert connection.recv(4096).startswith(b"HTTP/1.1 429 ")


def test_request_within_the_budget_is_accepted(client: httpx.Client, budget: MemoryBudget) -> None:
    assert fits(client, BUDGET) and not fits(client, BUDGET + 1)
    with stalled(client, budget, BUDGET // 2):
        assert fits(client, BUDGET // 2) and not fits(client, BUDGET // 2 + 1)


def test_texts_stay_reserved_until_the_response(
    client: httpx.Client, budget: MemoryBudget, engine: WordEngine
) -> None:
    """By what they take in memory: the parsed body is dropped, and a text with an emoji takes 4 bytes a character."""
    text = HELD_WORD + "a" * 12_000 + "🙂"
    content = json.dumps({"text": text}).encode().ljust(BUDGET // 2)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(client.post, "/v1/classify", content=content, headers=JSON)
        wait(lambda: engine.active == 1)
        assert BUDGET > BUDGET - budget.left >= sys.getsizeof(text) > 48_000
        engine.release()
        assert held.result().status_code == 200
    assert fits(client, BUDGET)


def test_budget_is_released_after_a_disconnect(client: httpx.Client, budget: MemoryBudget) -> None:
    with stalled(client, budget, 10):
        pass
    wait(lambda: budget.left == BUDGET)
    assert fits(client, BUDGET)


def test_budget_is_released_when_the_body_is_late(client: httpx.Client, budget: MemoryBudget) -> None:
    with stalled(client, budget, 10, headers=f"{DEADLINE_HEADER}: 300\r\n") as connection:
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert fits(client, BUDGET)


def test_budget_is_released_when_the_scores_are_late(client: httpx.Client) -> None:
    content = json.dumps({"text": HELD_WORD}).encode().ljust(BUDGET)
    answer = client.post("/v1/classify", content=content, headers={**JSON, DEADLINE_HEADER: "50"})
    assert answer.status_code == 504
    assert fits(client, BUDGET)


def test_budget_is_released_after_a_disconnect_during_scoring(
    client: httpx.Client, budget: MemoryBudget, engine: WordEngine
) -> None:
    content = json.dumps({"text": HELD_WORD}).encode().ljust(BUDGET)
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/classify", content=content, headers=JSON, timeout=0.2)
    wait(lambda: engine.active == 0 and budget.left == BUDGET)
    assert fits(client, BUDGET)


def test_budget_is_released_once_a_body_is_too_large(client: httpx.Client, budget: MemoryBudget) -> None:
    """The bytes are released before the body ends, because the rest is discarded."""
    path = "/v1alpha1/comments:analyze"
    with upload(client, "Transfer-Encoding: chunked", chunk(SMALL_BODY), path) as connection:
        wait(lambda: budget.left == BUDGET - SMALL_BODY)
        connection.sendall(chunk(1))
        wait(lambda: budget.left == BUDGET)
        connection.sendall(chunk(0))
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"])
def test_budget_is_released_after_an_invalid_body(client: httpx.Client, content: bytes) -> None:
    assert client.post("/v1/classify", content=content.ljust(BUDGET), headers=JSON).status_code in (400, 422)
    assert fits(client, BUDGET)


def test_budget_is_released_after_an_unexpected_error(
    client: httpx.Client, engine: WordEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object) -> tuple[float, float]:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(engine, "label_logits", crash)
        content = json.dumps({"text": "a"}).encode().ljust(BUDGET)
        assert client.post("/v1/classify", content=content, headers=JSON).status_code == 500
    assert fits(client, BUDGET)
