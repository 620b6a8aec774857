"""Test POST /v1/classify: order of scores, threshold, long texts, and errors that name the field."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.serving.word_engine import (
    CONFIG,
    TOXIC_WORD,
    UNANSWERED_WORD,
    UNKNOWN_CHARACTER,
    VOCABULARY,
    post,
    ready,
    samples,
)
from toxicity_api.prompting import MOST_WINDOWS
from toxicity_serving.http.app import MAX_BODY_BYTES
from toxicity_serving.http.schemas import MAX_CHARACTERS, MAX_TEXTS

HIGH = 1 / (1 + math.exp(-1.5))


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with ready() as client:
        yield client


def test_score_is_the_softmax_of_the_two_labels(client: httpx.Client) -> None:
    body = client.post("/v1/classify", json={"text": f"ты {TOXIC_WORD}"}).json()
    assert body == {
        "model": "ru-toxicity",
        "threshold": 0.5,
        "results": [{"score": pytest.approx(HIGH), "toxic": True, "truncated": False, "windows": 1}],
    }


def test_batch_keeps_its_order(client: httpx.Client) -> None:
    texts = ["спасибо", f"ты {TOXIC_WORD}", "до свидания"]
    results = client.post("/v1/classify", json={"texts": texts}).json()["results"]
    assert [result["toxic"] for result in results] == [False, True, False]
    assert [result["score"] for result in results] == pytest.approx([1 - HIGH, HIGH, 1 - HIGH])


@pytest.mark.parametrize(("threshold", "toxic"), [(0, True), (0.8, True), (0.9, False), (1, False)])
def test_threshold_of_the_request_takes_precedence(client: httpx.Client, threshold: float, toxic: bool) -> None:
    body = client.post("/v1/classify", json={"text": TOXIC_WORD, "threshold": threshold}).json()
    assert (body["threshold"], body["results"][0]["toxic"]) == (threshold, toxic)


def long_answers(answer: httpx.Response) -> list[tuple[bool, bool, int]]:
    assert answer.status_code == 200, answer.text
    return [(result["toxic"], result["truncated"], result["windows"]) for result in answer.json()["results"]]


def test_long_text_has_the_score_of_its_worst_window(client: httpx.Client) -> None:
    """WordEngine refuses a prompt without its end. 199 tokens hold 184 of the text, 120 of them new per window."""
    answer = post(client, "а" * 500 + TOXIC_WORD, "а" * 500, "а")
    assert long_answers(answer) == [(True, False, 4), (False, False, 4), (False, False, 1)]
    counted = samples(client)
    assert (counted["toxicity_windowed_texts_total"], counted["toxicity_truncated_texts_total"]) == (2, 0)


def test_long_text_is_truncated_when_the_request_sets_it(client: httpx.Client) -> None:
    answer = post(client, "а" * 500 + TOXIC_WORD, "а", long_texts="truncate")
    assert long_answers(answer) == [(False, True, 1), (False, False, 1)]
    counted = samples(client)
    assert (counted["toxicity_windowed_texts_total"], counted["toxicity_truncated_texts_total"]) == (0, 1)


def test_long_text_is_truncated_by_configuration_unless_the_request_differs() -> None:
    with ready(config=CONFIG.model_copy(update={"long_texts": "truncate"})) as client:
        assert long_answers(post(client, "а" * 500 + TOXIC_WORD)) == [(False, True, 1)]
        assert long_answers(post(client, "а" * 500 + TOXIC_WORD, long_texts="window")) == [(True, False, 4)]
        assert client.get("/v1/model").json()["longTexts"] == "truncate"


def test_text_with_too_many_windows_is_marked_as_truncated(client: httpx.Client) -> None:
    assert long_answers(post(client, "а" * MAX_CHARACTERS)) == [(False, True, MOST_WINDOWS)]


def test_same_text_scores_alike_alone_and_in_a_batch_of_64(client: httpx.Client) -> None:
    text = f"ты {TOXIC_WORD}"
    [alone] = post(client, text).json()["results"]
    assert post(client, *[text] * MAX_TEXTS).json()["results"] == [alone] * MAX_TEXTS == [alone] * 64


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"text": "а", "texts": ["б"]}, "body"),
        ({"text": ""}, "text"),
        ({"text": " \n"}, "text"),
        ({"text": 7}, "text"),
        ({"text": "а" * (MAX_CHARACTERS + 1)}, "text"),
        ({"texts": []}, "texts"),
        ({"texts": "а"}, "texts"),
        ({"texts": ["а", None]}, "texts.1"),
        ({"texts": ["а"] * (MAX_TEXTS + 1)}, "texts"),
        ({"text": "а", "threshold": 1.5}, "threshold"),
        ({"text": "а", "threshold": "0.5"}, "threshold"),
        ({"text": "а", "long_texts": "cut"}, "long_texts"),
        ({"text": "а", "extra": 1}, "extra"),
        ([], "body"),
    ],
)
def test_invalid_body_is_422_and_names_the_field(client: httpx.Client, body: Any, field: str) -> None:
    answer = client.post("/v1/classify", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert answer.json()["message"].startswith(f"{field}: ")


@pytest.mark.parametrize("content", [b'{"text": "\\ud800"}', b"{", b'{"text": "a", "threshold": NaN}'])
def test_unreadable_body_is_the_clients_error(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/v1/classify", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_huge_body_is_refused_by_its_length(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/classify", content=b" " * (MAX_BODY_BYTES + 1), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert samples(client)['toxicity_requests_total{outcome="client_error"}'] == 1


def test_control_tokens_in_a_text_are_ordinary_characters(client: httpx.Client) -> None:
    """The engine ignores everything before an end-of-text token, so an author could hide an insult with one."""
    for text in (f"{TOXIC_WORD} <eos>", f"ты {TOXIC_WORD}<eos>привет", f"<eos><eos>{TOXIC_WORD}"):
        [result] = post(client, text).json()["results"]
        assert result["toxic"], text


def test_token_that_the_weights_do_not_know_is_refused_and_the_others_are_answered(client: httpx.Client) -> None:
    answer = post(client, "спасибо", UNKNOWN_CHARACTER)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body")
    assert f"text 1 has token {VOCABULARY}" in answer.json()["message"]
    assert post(client, "спасибо").status_code == 200
    assert samples(client)["toxicity_queue_depth"] == 0


def test_missing_label_token_is_an_error_and_never_a_score(client: httpx.Client) -> None:
    answer = client.post("/v1/classify", json={"texts": ["спасибо", UNANSWERED_WORD]})
    assert answer.status_code == 500
    assert "label token" in answer.json()["message"]
    counted = samples(client)
    assert counted["toxicity_label_token_misses_total"] == 1
    assert counted['toxicity_requests_total{outcome="server_error"}'] == 1
    assert counted["toxicity_texts_total"] == 0


def test_metrics_count_classify_requests_only(client: httpx.Client) -> None:
    before = samples(client)
    assert before['toxicity_requests_total{outcome="ok"}'] == 0, "probes and the self-test are no requests"
    client.post("/v1/classify", json={"texts": ["а", "б", "в"]})
    client.post("/v1/classify", json={"text": ""})
    client.get("/v1/classify")
    counted = samples(client)
    assert {name: counted[f'toxicity_requests_total{{outcome="{name}"}}'] for name in ("ok", "client_error")} == {
        "ok": 1,
        "client_error": 1,
    }
    assert counted["toxicity_texts_total"] == 3
    assert counted["toxicity_request_duration_seconds_count"] == 2
    assert counted["toxicity_requests_in_flight"] == 0


def test_model_card_describes_the_served_model(client: httpx.Client) -> None:
    card = client.get("/v1/model").json()
    expected = {
        "model": "ru-toxicity",
        "baseModel": "gemma",
        "fingerprint": "f1",
        "threshold": 0.5,
        "weights": "decompressed",
        "dtype": "float32",
        "engine": "words 1",
        "maxTexts": MAX_TEXTS,
    }
    assert expected.items() <= card.items()


def test_openapi_documents_the_route_with_an_example(client: httpx.Client) -> None:
    assert client.get("/docs").status_code == 200
    document = client.get("/openapi.json").json()
    assert set(document["paths"]["/v1/classify"]["post"]["responses"]) >= {"200", "422", "503"}
    [example] = document["components"]["schemas"]["ClassifyRequest"]["examples"]
    assert client.post("/v1/classify", json=example).status_code == 200
