"""All routes score the normal form that the model was trained with, and refuse texts that a reader cannot see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.serving.word_engine import TOXIC_WORD, WordEngine, post, ready

HIDDEN = "\u200b".join(TOXIC_WORD)
WRITTEN = [
    TOXIC_WORD, HIDDEN, "\u00ad".join(TOXIC_WORD), "де\u0301би\u0301л", f"\u202e{TOXIC_WORD[::-1]}\u202c", "дeбил",
    "д е б и л", "дебиииил",
]  # fmt: skip
INVISIBLE = ["", " \n", "\u200b\u2060", "\u202e\u202c", "\u0301", "\u00ad\ufeff"]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with ready(WordEngine(normal_form=1)) as client:
        yield client


def scores(client: httpx.Client, text: str) -> list[float]:
    """The score of each route."""
    comment = {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}}
    analyzed = client.post("/v1alpha1/comments:analyze", json=comment).json()
    return [
        post(client, text).json()["results"][0]["score"],
        client.post("/v1/moderations", json={"input": text}).json()["results"][0]["category_scores"]["harassment"],
        client.post("/v1/moderations", json={"input": [{"type": "text", "text": text}]}).json()["results"][0][
            "category_scores"
        ]["harassment"],
        analyzed["attributeScores"]["TOXICITY"]["summaryScore"]["value"],
    ]


@pytest.mark.parametrize("text", WRITTEN)
def test_all_ways_to_write_a_word_have_its_score_on_every_route(client: httpx.Client, text: str) -> None:
    assert len(set(scores(client, text))) == 1
    assert scores(client, text) == scores(client, TOXIC_WORD) != scores(client, "спасибо")


def test_model_that_was_trained_without_the_form_gets_the_text_as_it_is() -> None:
    with ready(WordEngine(normal_form=0)) as client:
        assert scores(client, HIDDEN) == scores(client, "спасибо") != scores(client, TOXIC_WORD)
        assert client.get("/v1/model").json()["normalForm"] == 0


def test_card_names_the_form(client: httpx.Client) -> None:
    assert client.get("/v1/model").json()["normalForm"] == 1


@pytest.mark.parametrize("text", INVISIBLE)
def test_text_without_a_visible_character_is_refused_by_every_route(client: httpx.Client, text: str) -> None:
    told: Any = post(client, "чай", text)
    assert told.status_code == 422
    assert told.json()["errors"] == [{"field": "texts.1", "message": "the text has no visible character"}]
    told = client.post("/v1/moderations", json={"input": ["чай", text]})
    assert (told.status_code, told.json()["error"]["param"]) == (400, "input[1]")
    assert told.json()["error"]["code"] == "empty_string"
    body = {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}}
    told = client.post("/v1alpha1/comments:analyze", json=body)
    assert (told.status_code, told.json()["error"]["message"]) == (400, "Comment must be non-empty.")


def test_span_counts_the_characters_of_the_text_that_was_sent(client: httpx.Client) -> None:
    body = {"comment": {"text": HIDDEN}, "requestedAttributes": {"TOXICITY": {}}}
    (span,) = client.post("/v1alpha1/comments:analyze", json=body).json()["attributeScores"]["TOXICITY"][
        "spanScores"
    ]
    assert (span["begin"], span["end"]) == (0, len(HIDDEN))
