"""Test overload: the bounded queue, deadlines, disconnects and body limits, on all routes that classify."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from support.serving.word_engine import CONFIG, HELD_WORD, WordEngine, post, ready, samples, wait
from toxicity_serving.http.app import BODY_LIMITS, CLASSIFYING
from toxicity_serving.http.middleware import deadline
from toxicity_serving.http.middleware.deadline import DEADLINE_HEADER

BODIES: dict[str, dict[str, Any]] = {
    "/v1/classify": {"text": HELD_WORD},
    "/v1/moderations": {"input": HELD_WORD},
    "/v1alpha1/comments:analyze": {"comment": {"text": HELD_WORD}, "requestedAttributes": {"TOXICITY": {}}},
}
TELLS = {
    "/v1/classify": lambda body: set(body) == {"message", "errors"},
    "/v1/moderations": lambda body: set(body["error"]) == {"message", "type", "param", "code"},
    "/v1alpha1/comments:analyze": lambda body: {"code", "message", "status"} <= set(body["error"]),
}
"""Checks for the error format of each path."""
SMALL = CONFIG.model_copy(update={"max_num_seqs": 2, "queue_limit": 3})


@pytest.fixture(scope="module")
def shared() -> Iterator[httpx.Client]:
    """A service for tests that do not check metrics."""
    with ready() as client:
        yield client


def test_these_tests_cover_every_route_that_classifies() -> None:
    assert set(BODIES) == set(TELLS) == CLASSIFYING


@contextlib.contextmanager
def full(engine: WordEngine) -> Iterator[httpx.Client]:
    """Run a service whose five places are taken until the block ends."""
    with ready(engine, config=SMALL) as client, ThreadPoolExecutor() as pool:
        held = pool.submit(post, client, *[HELD_WORD] * 5)
        wait(lambda: engine.active == 5)
        yield client
        engine.release()
        assert held.result().status_code == 200


@pytest.mark.parametrize("path", BODIES)
def test_full_queue_refuses_requests_with_retry_after(path: str) -> None:
    with full(WordEngine()) as client:
        answer = client.post(path, json=BODIES[path])
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert TELLS[path](answer.json())
        assert "the queue is full" in answer.text
        counted = samples(client)
        assert counted['toxicity_requests_total{outcome="overloaded"}'] == 1
        assert counted["toxicity_queue_depth"] == 3
        assert counted["toxicity_requests_in_flight"] == 1


def test_queue_accepts_what_fits_and_is_released_afterwards() -> None:
    engine = WordEngine()
    with ready(engine, config=SMALL) as client, ThreadPoolExecutor() as pool:
        held = pool.submit(post, client, *[HELD_WORD] * 3)
        wait(lambda: engine.active == 3)
        assert post(client, "а", "б", "в").status_code == 429
        assert post(client, "а", "б").status_code == 200
        engine.release()
        assert held.result().status_code == 200
        assert post(client, "а", "б", "в").status_code == 200
        assert samples(client)["toxicity_queue_depth"] == 0


def test_windows_of_a_long_text_wait_and_take_no_places_of_texts() -> None:
    engine = WordEngine()
    with ready(engine, config=SMALL) as client, ThreadPoolExecutor() as pool:
        held = pool.submit(post, client, HELD_WORD * 160)
        wait(lambda: engine.active == 4)
        assert samples(client)["toxicity_queue_depth"] == 2
        assert post(client, "а", "б", "в", "г").status_code == 200
        assert post(client, "а", "б", "в", "г", "д").status_code == 429
        engine.release()
        assert held.result().json()["results"][0]["windows"] == 4


LONG = "а" * 1000
"""More windows than SMALL has places."""


@pytest.mark.parametrize("path", BODIES)
def test_excess_windows_are_refused_before_the_engine_and_released(path: str) -> None:
    engine = WordEngine()
    with ready(engine, config=SMALL) as client, ThreadPoolExecutor() as pool:
        held = pool.submit(post, client, HELD_WORD * 160)
        wait(lambda: engine.active == 4)
        answered = engine.answered
        body = json.loads(json.dumps(BODIES[path], ensure_ascii=False).replace(HELD_WORD, LONG))
        for answer in [client.post(path, json=body) for _ in range(3)]:
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert TELLS[path](answer.json()) and "more windows exceed the limit" in answer.text
        assert (engine.active, engine.answered) == (4, answered)
        assert post(client, "а", "б", "в", "г").status_code == 200, "all other places are free"
        engine.release()
        assert held.result().status_code == 200
        assert client.post(path, json=body).status_code == 200


def test_batch_of_long_texts_is_refused_for_good_and_others_are_served() -> None:
    """64 texts of 32 windows would take minutes. A retry does not help, so it is an error of the request."""
    with ready(config=CONFIG.model_copy(update={"max_num_seqs": 8, "queue_limit": 32})) as client:
        answer = post(client, *["а" * 4000] * 64)
        assert answer.status_code == 422
        assert "more than 40 windows beyond one per text; send fewer long texts" in answer.json()["message"]
        assert post(client, "а" * 4000).json()["results"][0]["windows"] > 20
        assert samples(client)["toxicity_queue_depth"] == 0


def test_depth_stays_within_the_limit_for_mixed_lengths() -> None:
    engine = WordEngine()
    with ready(engine, config=SMALL) as client, ThreadPoolExecutor(24) as pool:
        held = pool.submit(post, client, HELD_WORD)
        wait(lambda: engine.active == 1)
        texts = [
            HELD_WORD,
            HELD_WORD * 100,
            HELD_WORD * 300,
        ] * 8  # 1, 3 and more windows than places
        waiting = [pool.submit(post, client, text) for text in texts]
        wait(lambda: sum(answer.done() for answer in waiting) >= len(texts) - 4)
        # five texts, and five windows or those of one text
        assert samples(client)["toxicity_queue_depth"] <= 3 + max(5, len(HELD_WORD * 300) // 100)
        engine.release()
        assert {answer.result().status_code for answer in [held, *waiting]} == {200, 429}
        wait(lambda: samples(client)["toxicity_requests_in_flight"] == 0)
        assert samples(client)["toxicity_queue_depth"] == 0


def test_idle_service_accepts_a_text_with_more_windows_than_places() -> None:
    with ready(config=SMALL) as client:
        answer = post(client, LONG)
        assert answer.status_code == 200 and answer.json()["results"][0]["windows"] > 5
        assert samples(client)["toxicity_queue_depth"] == 0


def test_idle_service_accepts_a_batch_beyond_its_queue() -> None:
    with ready(config=SMALL) as client:
        assert post(client, *"абвгдежз").status_code == 200


def test_openai_client_sees_its_rate_limit_error() -> None:
    with full(WordEngine()) as service:
        client = openai.OpenAI(base_url=f"{service.base_url}/v1", api_key="any", max_retries=0)
        with client, pytest.raises(openai.RateLimitError) as raised:
            client.moderations.create(input="а")
        assert raised.value.code == "rate_limit_exceeded"


@pytest.mark.parametrize("path", BODIES)
def test_deadline_ends_the_request_and_its_work(path: str) -> None:
    engine = WordEngine()
    with ready(engine) as client:
        answer = client.post(path, json=BODIES[path], headers={DEADLINE_HEADER: "500"})
        assert answer.status_code == 504
        assert TELLS[path](answer.json()) and "no answer within 0.5 s" in answer.text
        wait(lambda: engine.active == 0)
        counted = samples(client)
        assert counted['toxicity_requests_total{outcome="deadline"}'] == 1
        assert counted["toxicity_queue_depth"] == counted["toxicity_requests_in_flight"] == 0


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "²", "9" * 5000])
@pytest.mark.parametrize("path", BODIES)
def test_invalid_deadline_is_refused_by_name(shared: httpx.Client, path: str, value: str) -> None:
    answer = shared.post(path, json=BODIES[path], headers={DEADLINE_HEADER: value.encode()})
    assert answer.status_code == 400
    assert DEADLINE_HEADER in answer.text and TELLS[path](answer.json())


def test_deadline_beyond_the_maximum_does_not_extend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "REQUEST_SECONDS", 0.5)
    engine = WordEngine()
    with ready(engine) as client:
        far = {DEADLINE_HEADER: "3600000"}
        assert client.post("/v1/classify", json={"text": "а"}, headers=far).status_code == 200
        answer = client.post("/v1/classify", json={"text": HELD_WORD}, headers=far)
        assert answer.status_code == 504
        assert "no answer within 0.5 s" in answer.text
        wait(lambda: engine.active == 0)


def test_disconnect_releases_the_places() -> None:
    engine = WordEngine()
    with ready(engine, config=SMALL) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/classify", json={"texts": [HELD_WORD] * 5}, timeout=0.2)
        wait(lambda: engine.active == 0)
        assert post(client, "а", "б", "в").status_code == 200
        counted = samples(client)
        assert counted['toxicity_requests_total{outcome="cancelled"}'] == 1
        assert counted["toxicity_requests_in_flight"] == counted["toxicity_queue_depth"] == 0
        assert counted["toxicity_texts_total"] == 3


class Crashing(WordEngine):
    """Raises an unexpected exception for HELD_WORD."""

    async def _answer(self, text: str) -> tuple[float, float]:
        if HELD_WORD in text:
            raise ZeroDivisionError(text)
        return await super()._answer(text)


@pytest.mark.parametrize("path", BODIES)
def test_unexpected_error_is_500_in_the_format_of_the_route(path: str) -> None:
    with ready(Crashing()) as client:
        answer = client.post(path, json=BODIES[path])
        assert answer.status_code == 500 and TELLS[path](answer.json())
        assert "ZeroDivisionError" in answer.text and HELD_WORD not in answer.text
        assert answer.headers["connection"] == "close"
        counted = samples(client)
        assert counted['toxicity_requests_total{outcome="server_error"}'] == 1
        assert counted["toxicity_queue_depth"] == 0
        assert post(client, "а").status_code == 200


@pytest.mark.parametrize("path", BODIES)
def test_unexpected_error_does_not_lose_the_next_request(path: str) -> None:
    """Without `Connection: close`, a client would send its next request on a connection that the server closes."""
    with ready(Crashing()) as service:
        for _ in range(50):
            with httpx.Client(base_url=service.base_url, timeout=10) as client:
                assert client.post(path, json=BODIES[path]).status_code == 500
                assert post(client, "а").status_code == 200


def test_first_failure_ends_the_other_texts_of_the_batch() -> None:
    engine = WordEngine()
    with ready(engine) as client:
        assert post(client, HELD_WORD, "молчи").status_code == 500
        assert engine.active == 0


def chunks(size: int) -> Iterator[bytes]:
    """Yield blanks, which JSON allows before a value, for a body without Content-Length."""
    for _ in range(0, size, 1 << 16):
        yield b" " * (1 << 16)


@pytest.mark.parametrize("path", BODIES)
def test_huge_body_without_a_length_is_refused(path: str) -> None:
    with ready() as client:
        headers = {"content-type": "application/json"}
        answer = client.post(path, content=chunks(BODY_LIMITS[path] + (1 << 16)), headers=headers)
        assert "content-length" not in answer.request.headers
        assert answer.status_code == 413 and TELLS[path](answer.json())
        assert samples(client)['toxicity_requests_total{outcome="client_error"}'] == 1
        assert post(client, "а").status_code == 200


def test_endless_body_closes_the_connection() -> None:
    """The service reads at most twice the limit. 64 MiB exceed the sockets' buffers."""
    with ready() as client, socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with pytest.raises(ConnectionError):
            for _ in range(1024):
                connection.sendall(chunk)
        wait(lambda: samples(client)['toxicity_requests_total{outcome="client_error"}'] == 1)


def test_small_body_without_a_length_is_answered(shared: httpx.Client) -> None:
    body = json.dumps({"text": "спасибо"}).encode()
    headers = {"content-type": "application/json"}
    assert shared.post("/v1/classify", content=iter([body[:10], body[10:]]), headers=headers).status_code == 200


def test_incomplete_body_is_408_at_the_deadline() -> None:
    with ready() as client, socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        head = f"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n{DEADLINE_HEADER}: 50\r\n\r\n"
        connection.sendall(head.encode() + b"{")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 408 "), "and the connection is closed, or the loop would not end"
        assert samples(client)['toxicity_requests_total{outcome="deadline"}'] == 1


def test_disconnect_during_the_body_counts_as_cancelled() -> None:
    with ready() as client:
        with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
            wait(lambda: samples(client)["toxicity_requests_in_flight"] == 1)
        wait(lambda: samples(client)['toxicity_requests_total{outcome="cancelled"}'] == 1)


def test_requests_are_refused_while_all_places_are_taken() -> None:
    """The requests are refused before the held ones are released."""
    with full(WordEngine()) as client:
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(post(client, "а").status_code)) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [429] * 20
