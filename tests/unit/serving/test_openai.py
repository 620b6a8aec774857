"""Test POST /v1/moderations with OpenAI's client, which needs only a different base URL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, get_args

import httpx
import openai
import pytest
from openai.types import moderation

from support.serving.word_engine import (
    CONFIG,
    TOXIC_WORD,
    UNANSWERED_WORD,
    UNKNOWN_CHARACTER,
    WordEngine,
    ready,
    running,
    samples,
)
from toxicity_serving.http.app import MAX_BODY_BYTES
from toxicity_serving.http.compat.openai.schemas import CATEGORIES, SCORED, Category
from toxicity_serving.http.schemas import MAX_CHARACTERS, MAX_TEXTS

HIGH = 1 / (1 + math.exp(-1.5))
PATH = "/v1/moderations"


@pytest.fixture
def service() -> Iterator[httpx.Client]:
    with ready() as service:
        yield service


def client_of(service: httpx.Client) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.base_url}/v1", api_key="not looked at", max_retries=0)


@pytest.fixture
def client(service: httpx.Client) -> Iterator[openai.OpenAI]:
    with client_of(service) as client:
        yield client


def test_one_text_gets_one_result_in_which_harassment_is_the_score(client: openai.OpenAI) -> None:
    answer = client.moderations.create(input=f"ты {TOXIC_WORD}")
    assert answer.id.startswith("modr-")
    assert answer.model == "ru-toxicity"
    [result] = answer.results
    assert result.flagged and result.categories.harassment
    assert result.category_scores.harassment == pytest.approx(HIGH)
    assert result.category_applied_input_types.harassment == ["text"]


def test_other_categories_are_present_and_zero(client: openai.OpenAI) -> None:
    [result] = client.moderations.create(input=TOXIC_WORD).results
    for told, empty in (
        (result.categories, False),
        (result.category_scores, 0.0),
        (result.category_applied_input_types, []),
    ):
        others = told.to_dict()
        assert set(others) == set(CATEGORIES)
        del others[SCORED]
        assert all(value == empty for value in others.values())


def test_categories_are_those_that_the_client_knows() -> None:
    known = {field.alias or name for name, field in moderation.Categories.model_fields.items()}
    assert known == set(CATEGORIES) == set(get_args(Category))


def test_array_of_strings_gets_a_result_for_each_in_order(client: openai.OpenAI) -> None:
    answer = client.moderations.create(
        input=["спасибо", TOXIC_WORD, "до свидания"], model="omni-moderation-latest"
    )
    assert [result.flagged for result in answer.results] == [False, True, False]
    assert answer.model == "omni-moderation-latest"


def test_text_parts_are_one_text(client: openai.OpenAI) -> None:
    parts: list[Any] = [{"type": "text", "text": "спасибо"}, {"type": "text", "text": TOXIC_WORD}]
    assert [result.flagged for result in client.moderations.create(input=parts).results] == [True]


def test_scores_are_those_of_classify(service: httpx.Client, client: openai.OpenAI) -> None:
    texts = ["спасибо", f"ты {TOXIC_WORD}", "а" * 500]
    own = service.post("/v1/classify", json={"texts": texts}).json()["results"]
    told = client.moderations.create(input=texts).results
    assert [result.category_scores.harassment for result in told] == [result["score"] for result in own]
    assert [result.flagged for result in told] == [result["toxic"] for result in own]


def test_header_lists_the_texts_in_several_windows(client: openai.OpenAI) -> None:
    answer = client.moderations.with_raw_response.create(input=["а", "а" * 500, "б", "б" * 250])
    assert answer.headers["toxicity-windows"] == "1=4,3=2"
    assert "toxicity-windows" not in client.moderations.with_raw_response.create(input="а").headers


def test_header_lists_the_truncated_texts() -> None:
    with (
        ready(config=CONFIG.model_copy(update={"long_texts": "truncate"})) as service,
        client_of(service) as client,
    ):
        answer = client.moderations.with_raw_response.create(input=["а", "а" * 500, "б", "б" * 500])
        assert answer.headers["toxicity-truncated"] == "1,3"
        assert "toxicity-truncated" not in client.moderations.with_raw_response.create(input="а").headers


PART = {"type": "text", "text": "а"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/image.png"}}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "input", "missing_required_parameter"),
        ({"input": None}, "input", "invalid_type"),
        ({"input": 7}, "input", "invalid_type"),
        ({"input": " "}, "input", "empty_string"),
        ({"input": []}, "input", "empty_array"),
        ({"input": ["а", ""]}, "input[1]", "empty_string"),
        ({"input": ["а", 7]}, "input[1]", "invalid_value"),
        ({"input": ["а"] * (MAX_TEXTS + 1)}, "input", "array_above_max_length"),
        ({"input": "а" * (MAX_CHARACTERS + 1)}, "input", "string_above_max_length"),
        ({"input": [PART, {**PART, "text": "а" * MAX_CHARACTERS}]}, "input", "string_above_max_length"),
        ({"input": [PART, IMAGE]}, "input[1].type", "image_not_supported"),
        ({"input": [IMAGE]}, "input[0].type", "image_not_supported"),
        ({"input": [{"type": "text"}]}, "input[0].text", "missing_required_parameter"),
        ({"input": [{"type": "input_audio", "text": "а"}]}, "input[0].type", "invalid_value"),
        ({"input": "а", "model": 7}, "model", "invalid_value"),
        ({"input": "а", "threshold": 0.5}, "threshold", "unknown_parameter"),
        ([], "body", "invalid_value"),
    ],
)
def test_wrong_body_is_400_in_the_envelope_and_names_the_field(
    service: httpx.Client, body: Any, param: str, code: str
) -> None:
    answer = service.post(PATH, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert param in error["message"]


def test_client_raises_its_bad_request_error(client: openai.OpenAI) -> None:
    image: list[Any] = [IMAGE]
    with pytest.raises(openai.BadRequestError, match="images are not supported") as raised:
        client.moderations.create(input=image)
    assert (raised.value.type, raised.value.param) == ("invalid_request_error", "input[0].type")
    assert raised.value.code == "image_not_supported"


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"\\ud800": 1}',
        b'{"input": "\\ud800"}',
        b'{"input": "a", "model": "\\ud800"}',
        b'{"input": "\xff"}',
    ],
)
def test_unreadable_body_is_400_in_the_envelope(service: httpx.Client, content: bytes) -> None:
    answer = service.post(PATH, content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "body")
    assert "Invalid JSON" in answer.json()["error"]["message"]


def test_huge_body_and_wrong_method_keep_the_envelope(service: httpx.Client) -> None:
    huge = service.post(PATH, content=b" " * (MAX_BODY_BYTES + 1), headers={"content-type": "application/json"})
    wrong = service.get(PATH)
    assert (huge.status_code, wrong.status_code) == (413, 405)
    assert [answer.json()["error"]["type"] for answer in (huge, wrong)] == ["invalid_request_error"] * 2
    assert wrong.headers["allow"] == "POST"


def test_token_that_the_weights_do_not_know_is_the_clients_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="text 0 has token"):
        client.moderations.create(input=UNKNOWN_CHARACTER)


def test_missing_label_token_is_the_clients_internal_server_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="label token") as raised:
        client.moderations.create(input=UNANSWERED_WORD)
    assert (raised.value.status_code, raised.value.type) == (500, "server_error")


def test_loading_service_is_503_in_the_envelope() -> None:
    with (
        running(WordEngine(held=True)) as service,
        client_of(service) as client,
        pytest.raises(openai.InternalServerError, match="starting") as raised,
    ):
        client.moderations.create(input="а")
    assert (raised.value.status_code, raised.value.type) == (503, "server_error")


def test_requests_are_counted_with_the_others(service: httpx.Client, client: openai.OpenAI) -> None:
    client.moderations.create(input=["а", "б"])
    service.post(PATH, json={})
    service.post("/v1/classify", json={"text": "а"})
    service.get(PATH)
    counted = samples(service)
    assert sum(value for name, value in counted.items() if name.startswith("toxicity_requests_total{")) == 3
    assert counted['toxicity_requests_total{outcome="ok"}'] == 2
    assert counted["toxicity_texts_total"] == 3


def test_openapi_documents_the_route_with_an_example(service: httpx.Client) -> None:
    document = service.get("/openapi.json").json()
    assert set(document["paths"][PATH]["post"]["responses"]) == {"200", "4XX", "5XX"}
    [example] = document["components"]["schemas"]["ModerationRequest"]["examples"]
    assert service.post(PATH, json=example).status_code == 200
