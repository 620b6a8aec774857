"""Test POST /v1alpha1/comments:analyze against examples from the documentation of the Perspective API."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.serving.word_engine import (
    TOXIC_WORD,
    UNANSWERED_WORD,
    UNKNOWN_CHARACTER,
    WordEngine,
    ready,
    running,
    samples,
)
from toxicity_serving.http.app import MAX_BODY_BYTES
from toxicity_serving.http.schemas import MAX_CHARACTERS

HIGH = 1 / (1 + math.exp(-1.5))
PATH = "/v1alpha1/comments:analyze"
ERROR_DETAIL = "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"
FIELDS_DETAIL = "type.googleapis.com/google.rpc.BadRequest"


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with ready() as client:
        yield client


def request(text: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": parameters or {}}, **more}


def test_documented_request_gets_the_documented_answer(client: httpx.Client) -> None:
    """The AnalyzeComment example of the reference: one span for the whole text, and the request's languages."""
    text = f"ты {TOXIC_WORD}"
    score = {"value": pytest.approx(HIGH), "type": "PROBABILITY"}
    assert client.post(f"{PATH}?key=any", json=request(text, languages=["ru"])).json() == {
        "attributeScores": {
            "TOXICITY": {
                "spanScores": [{"begin": 0, "end": len(text), "score": score}],
                "summaryScore": score,
            }
        },
        "languages": ["ru"],
    }


def test_every_documented_field_is_accepted_and_the_token_is_echoed(client: httpx.Client) -> None:
    body = {
        "comment": {"text": "спасибо", "type": "PLAIN_TEXT"},
        "context": {"entries": [{"text": "о чём речь", "type": "PLAIN_TEXT"}]},
        "requestedAttributes": {"TOXICITY": {"scoreType": "PROBABILITY", "scoreThreshold": 0.1}},
        "languages": ["en", "ru-RU"],
        "doNotStore": True,
        "clientToken": "comment-53922",
        "sessionId": "7",
        "communityId": "/forum/movies",
        "spanAnnotations": True,
    }
    answer = client.post(PATH, json=body).json()
    assert (answer["clientToken"], answer["languages"]) == ("comment-53922", ["en", "ru-RU"])
    assert len(answer["attributeScores"]["TOXICITY"]["spanScores"]) == 1


def test_body_without_a_content_type_is_read_as_in_the_reference_sample(client: httpx.Client) -> None:
    answer = client.post(PATH, content=b'{"comment":{"text":"a"},"requestedAttributes":{"TOXICITY":{}}}')
    assert answer.status_code == 200
    assert answer.json()["languages"] == ["ru"]


def test_span_ends_count_utf16_code_units(client: httpx.Client) -> None:
    scores = client.post(PATH, json=request("да 🙂")).json()["attributeScores"]["TOXICITY"]
    assert scores["spanScores"][0]["end"] == 5


@pytest.mark.parametrize(("threshold", "there"), [(0, True), (0.81, True), (0.82, False), (1, False)])
def test_score_below_its_threshold_is_left_out(client: httpx.Client, threshold: float, there: bool) -> None:
    """As recorded in sloria/perspective-api-client#175, `attributeScores` is absent in this case."""
    answer = client.post(PATH, json=request(TOXIC_WORD, {"scoreThreshold": threshold})).json()
    assert ("attributeScores" in answer) is there


def test_score_equals_that_of_classify_and_a_header_reports_windows(client: httpx.Client) -> None:
    for text in ("спасибо", TOXIC_WORD, "а" * 500):
        [own] = client.post("/v1/classify", json={"text": text}).json()["results"]
        answer = client.post(PATH, json=request(text))
        assert answer.json()["attributeScores"]["TOXICITY"]["summaryScore"]["value"] == own["score"]
        assert answer.headers.get("toxicity-windows", "0=1") == f"0={own['windows']}"
        assert "toxicity-truncated" not in answer.headers


EMPTY = ("COMMENT_EMPTY", "Comment must be non-empty.")
NO_ATTRIBUTES = ("NO_REQUESTED_ATTRIBUTES", "Missing requested_attributes")
UNSUPPORTED = "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"
TOXICITY: dict[str, Any] = {"TOXICITY": {}}
TWO_CONTEXTS = {"entries": [{"text": "а"}], "articleAndParentComment": {"article": {"text": "б"}}}


@pytest.mark.parametrize(
    ("body", "field", "error_type", "message"),
    [
        (request(""), "comment.text", *EMPTY),
        (request(" \n"), "comment.text", *EMPTY),
        ({"comment": {}, "requestedAttributes": TOXICITY}, "comment.text", *EMPTY),
        ({"requestedAttributes": TOXICITY}, "comment", *EMPTY),
        (request("а" * (MAX_CHARACTERS + 1)), "comment.text", "COMMENT_TOO_LONG", "Comment text too long."),
        ({"comment": {"text": "а"}}, "requestedAttributes", *NO_ATTRIBUTES),
        ({"comment": {"text": "а"}, "requestedAttributes": {}}, "requestedAttributes", *NO_ATTRIBUTES),
        (
            {"comment": {"text": "а"}, "requestedAttributes": {**TOXICITY, "KINDNESS": {}}},
            "requestedAttributes",
            "INVALID_REQUEST",
            "Unknown requested attribute: KINDNESS",
        ),
        (
            request("а", languages=["en", "fr"]),
            "languages",
            UNSUPPORTED,
            "Attribute TOXICITY does not support request languages: en, fr",
        ),
        (
            request("а", {"scoreType": "PERCENTILE"}),
            "requestedAttributes.TOXICITY.scoreType",
            "INVALID_REQUEST",
            "Requested score type PERCENTILE is not supported by attribute TOXICITY",
        ),
        (
            request("а", {"scoreThreshold": 2}),
            "requestedAttributes.TOXICITY.scoreThreshold",
            "INVALID_REQUEST",
            "Invalid value at 'requestedAttributes.TOXICITY.scoreThreshold': "
            "Input should be less than or equal to 1",
        ),
        (
            {"comment": {"text": "а", "type": "HTML"}, "requestedAttributes": TOXICITY},
            "comment.type",
            "INVALID_REQUEST",
            "Currently, only 'PLAIN_TEXT' comments are supported",
        ),
        (
            {"comment": {"text": "а", "type": "RTF"}, "requestedAttributes": TOXICITY},
            "comment.type",
            "INVALID_REQUEST",
            "Unknown text type",
        ),
        (
            request("а", context=TWO_CONTEXTS),
            "context",
            "INVALID_REQUEST",
            "Context can have either entries or article_and_parent_comment, but both fields were populated.",
        ),
        (
            request("а", extra=1),
            "extra",
            "INVALID_REQUEST",
            'Invalid JSON payload received. Unknown name "extra": Cannot find field.',
        ),
    ],
)
def test_documented_error_has_its_message_its_type_and_its_field(
    client: httpx.Client, body: dict[str, Any], field: str, error_type: str, message: str
) -> None:
    answer = client.post(PATH, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["status"], error["message"]) == (400, "INVALID_ARGUMENT", message)
    own, fields = error["details"]
    assert (own["@type"], own["errorType"]) == (ERROR_DETAIL, error_type)
    assert fields == {"@type": FIELDS_DETAIL, "fieldViolations": [{"field": field, "description": message}]}


def test_unsupported_language_names_attribute_and_languages(client: httpx.Client) -> None:
    """Clients remove the attribute that this detail names, and retry."""
    detail = client.post(PATH, json=request("а", languages=["en"])).json()["error"]["details"][0]
    assert detail == {
        "@type": ERROR_DETAIL,
        "errorType": UNSUPPORTED,
        "languageNotSupportedByAttributeError": {"attribute": "TOXICITY", "requestedLanguages": ["en"]},
    }


SURROGATE = "\ud800"
UNREADABLE = [
    b"{",
    b"[]",
    *(
        json.dumps(body).encode()
        for body in (
            request(SURROGATE),
            request("а", languages=[SURROGATE]),
            request("а", clientToken=SURROGATE),
            request("а", {"scoreType": SURROGATE}),
            {**request("а"), SURROGATE: 1},
            {"comment": {"text": "а"}, "requestedAttributes": {SURROGATE: {}}},
        )
    ),
]


@pytest.mark.parametrize("content", UNREADABLE)
def test_unreadable_body_is_the_clients_error(client: httpx.Client, content: bytes) -> None:
    answer = client.post(PATH, content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["errorType"] == "INVALID_REQUEST"


def test_huge_body_and_wrong_method_keep_the_envelope(client: httpx.Client) -> None:
    huge, wrong = client.post(PATH, content=b" " * (MAX_BODY_BYTES + 1)), client.get(PATH)
    assert [answer.json()["error"]["code"] for answer in (huge, wrong)] == [413, 405]
    assert wrong.headers["allow"] == "POST"


def test_token_that_the_weights_do_not_know_is_an_invalid_argument(client: httpx.Client) -> None:
    error = client.post(PATH, json=request(UNKNOWN_CHARACTER)).json()["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert "text 0 has token" in error["message"]


def test_missing_label_token_is_internal(client: httpx.Client) -> None:
    answer = client.post(PATH, json=request(UNANSWERED_WORD))
    assert answer.status_code == 500
    assert answer.json() == {
        "error": {
            "code": 500,
            "message": "the model returned no probability for a label token",
            "status": "INTERNAL",
        }
    }


def test_loading_service_is_unavailable() -> None:
    with running(WordEngine(held=True)) as client:
        answer = client.post(PATH, json=request("а"))
    assert (answer.status_code, answer.json()["error"]["status"]) == (503, "UNAVAILABLE")


def test_requests_are_counted_with_the_others(client: httpx.Client) -> None:
    client.post(PATH, json=request("а"))
    client.post(PATH, json={})
    client.get(PATH)
    counted = samples(client)
    assert sum(value for name, value in counted.items() if name.startswith("toxicity_requests_total{")) == 2
    assert counted['toxicity_requests_total{outcome="client_error"}'] == 1
    assert counted["toxicity_texts_total"] == 1


def test_openapi_documents_the_route_with_an_example(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"][PATH]["post"]["responses"]) == {"200", "4XX", "5XX"}
    [example] = document["components"]["schemas"]["AnalyzeCommentRequest"]["examples"]
    assert client.post(PATH, json=example).status_code == 200
