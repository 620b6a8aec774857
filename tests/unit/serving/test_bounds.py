"""Values exactly at a bound: scores at the threshold, texts of the most characters, deadlines at the cap."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from starlette.types import Message

from support.serving.word_engine import CONFIG, TOXIC_WORD, post, ready
from toxicity_serving.http.errors import Refusal
from toxicity_serving.http.middleware.body_limit import BodyLimitMiddleware, MemoryBudget, Reservation
from toxicity_serving.http.middleware.deadline import REQUEST_SECONDS, time_limit
from toxicity_serving.http.schemas import MAX_CHARACTERS

MODERATIONS, PERSPECTIVE = "/v1/moderations", "/v1alpha1/comments:analyze"
TOXICITY: dict[str, Any] = {"TOXICITY": {}}


def test_score_that_equals_the_threshold_is_toxic_on_every_route() -> None:
    with ready() as client:
        score = post(client, TOXIC_WORD).json()["results"][0]["score"]
        for threshold, toxic in ((score, True), (math.nextafter(score, 1), False)):
            body = {"text": TOXIC_WORD, "threshold": threshold}
            assert client.post("/v1/classify", json=body).json()["results"][0]["toxic"] is toxic
            attributes = {"TOXICITY": {"scoreThreshold": threshold}}
            body = {"comment": {"text": TOXIC_WORD}, "requestedAttributes": attributes}
            assert ("attributeScores" in client.post(PERSPECTIVE, json=body).json()) is toxic
    for threshold, toxic in ((score, True), (math.nextafter(score, 1), False)):
        with ready(config=CONFIG.model_copy(update={"threshold": threshold})) as client:
            [result] = client.post(MODERATIONS, json={"input": TOXIC_WORD}).json()["results"]
            assert (result["flagged"], result["categories"]["harassment"]) == (toxic, toxic)


def parts(*lengths: int) -> list[dict[str, str]]:
    return [{"type": "text", "text": "а" * length} for length in lengths]


def test_text_of_exactly_the_most_characters_is_taken_on_every_route() -> None:
    longest = "а" * MAX_CHARACTERS
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/classify", {"text": longest}),
        ("/v1/classify", {"texts": [longest]}),
        (MODERATIONS, {"input": longest}),
        (MODERATIONS, {"input": [longest]}),
        (MODERATIONS, {"input": parts(MAX_CHARACTERS)}),
        # a line break joins two parts
        (MODERATIONS, {"input": parts(1, MAX_CHARACTERS - 2)}),
        (PERSPECTIVE, {"comment": {"text": longest}, "requestedAttributes": TOXICITY}),
    ]
    with ready() as client:
        assert [client.post(path, json=body).status_code for path, body in bodies] == [200] * len(bodies)
        assert client.post(MODERATIONS, json={"input": parts(1, MAX_CHARACTERS - 1)}).status_code == 400


@pytest.mark.parametrize(
    ("languages", "supported"),
    [
        (["ru_RU"], True), (["ru-RU"], True), (["RU"], True), (["Ru_Cyrl_RU"], True), (["en", "ru"], True),
        (["rue"], False), (["en_RU"], False), (["ru.RU"], False),
    ],
)  # fmt: skip
def test_russian_is_named_by_any_of_its_codes(languages: list[str], supported: bool) -> None:
    with ready() as client:
        body = {"comment": {"text": "а"}, "requestedAttributes": TOXICITY, "languages": languages}
        answer = client.post(PERSPECTIVE, json=body)
    assert answer.status_code == (200 if supported else 400)
    if supported:
        assert answer.json()["languages"] == languages


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, REQUEST_SECONDS), ("1", 0.001), ("500", 0.5), ("59999", 59.999), ("60000", 60.0), ("60001", 60.0),
        ("3600000", 60.0), ("9" * 15, 60.0),
    ],
)  # fmt: skip
def test_caller_waits_as_long_as_it_says_but_never_longer_than_the_service(
    header: str | None, seconds: float
) -> None:
    assert REQUEST_SECONDS == 60
    assert time_limit(header) == seconds


@pytest.mark.parametrize("header", ["0", "-1", "+1", "1.5", "", "²", "9" * 16])
def test_deadline_that_is_no_number_of_milliseconds_is_refused(header: str) -> None:
    refusal = time_limit(header)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400


class Chunk(bytes):
    """Counts the chunks of a body that are still in memory."""

    alive = 0

    def __new__(cls, size: int) -> Chunk:
        cls.alive += 1
        return super().__new__(cls, size)

    def __del__(self) -> None:
        Chunk.alive -= 1


@pytest.mark.parametrize(
    ("budget", "limit", "status"), [(5_000, 100_000, 429), (1_000_000, 10_000, 413)], ids=["crowded", "too large"]
)
def test_body_that_is_refused_while_it_arrives_stays_not_in_memory(budget: int, limit: int, status: int) -> None:
    """It is read on, so that its client sees the answer."""
    alive: list[int] = []
    left = 15

    async def receive() -> Message:
        nonlocal left
        alive.append(Chunk.alive)
        left -= 1
        return {"type": "http.request", "body": Chunk(1_000), "more_body": left > 0}

    async def refused() -> bytes | Refusal:
        async def no_app(*_: object) -> None:
            raise AssertionError("a refused body reaches no route")

        def no_answer(*_: object) -> Any:
            raise AssertionError

        memory = MemoryBudget(budget)
        middleware = BodyLimitMiddleware(no_app, {"/": limit}, memory, no_answer)
        with Reservation(memory) as reservation:
            found = await middleware._read({"type": "http", "path": "/", "headers": []}, receive, reservation)
            assert memory.left == budget, "what is thrown away takes no room from others"
        return found

    refusal = asyncio.run(refused())
    assert isinstance(refusal, Refusal)
    assert (refusal.status, left) == (status, 0)
    assert max(alive[:5]) >= 4, "chunks are kept until the body is refused"
    assert max(alive[-3:]) <= 2
