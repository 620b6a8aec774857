"""Test that invalid bodies of any size cause few validation errors and a short response."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from support.serving.word_engine import ready
from toxicity_serving.http.app import BODY_LIMITS, ENVELOPES
from toxicity_serving.http.compat.openai.schemas import ModerationRequest
from toxicity_serving.http.compat.perspective.schemas import (
    MAX_LANGUAGES,
    AnalyzeCommentRequest,
    SuggestCommentScoreRequest,
)
from toxicity_serving.http.schemas import MAX_ERRORS, MAX_SHOWN, MAX_TEXTS, ClassifyRequest, RequestBody

CLASSIFY, MODERATIONS, ANALYZE, SUGGEST = ENVELOPES
MODELS: dict[str, type[BaseModel]] = {
    CLASSIFY: ClassifyRequest,
    MODERATIONS: ModerationRequest,
    ANALYZE: AnalyzeCommentRequest,
    SUGGEST: SuggestCommentScoreRequest,
}
SOME_BYTES = 100_000
"""Large enough to detect a number of errors that grows with the body."""
ROUTES_OWN = 500
"""Bytes reserved for the rest of a body around the filling."""
MOST_ANSWERED = 64 << 10
MOST_ERRORS = MAX_TEXTS + 3 * MAX_ERRORS
"""Maximum number of pydantic errors for a body: one per text, and unknown fields on three levels of objects."""

FIELDS = {
    CLASSIFY: ["text", "texts", "threshold", "long_texts", "sentences", "check_language"],
    MODERATIONS: ["input", "model"],
    ANALYZE: [
        "comment",
        "requestedAttributes",
        "languages",
        "context",
        "spanAnnotations",
        "doNotStore",
        "clientToken",
        "sessionId",
        "communityId",
    ],
    SUGGEST: ["comment", "attributeScores", "languages", "context", "clientToken", "sessionId", "communityId"],
}
WITHIN = {
    CLASSIFY: ['{"texts": [%s]}'],
    MODERATIONS: ['{"input": [%s]}', '{"input": [{"type": "text", "text": "a"}, %s]}', '{"input": ["a", %s]}'],
    ANALYZE: [
        '{"requestedAttributes": {"TOXICITY": {}}, "comment": {"text": %s}}',
        '{"requestedAttributes": {"TOXICITY": {}}, "comment": {"text": "a", "type": %s}}',
        '{"comment": {"text": "a"}, "requestedAttributes": {"TOXICITY": %s}}',
        '{"comment": {"text": "a"}, "requestedAttributes": {"TOXICITY": {"scoreType": %s}}}',
        '{"comment": {"text": "a"}, "requestedAttributes": {"TOXICITY": {"scoreThreshold": %s}}}',
        '{"comment": {"text": "a"}, "requestedAttributes": {"TOXICITY": {}}, "languages": [%s]}',
        '{"comment": {"text": "a"}, "requestedAttributes": {"TOXICITY": {}}, "context": {"entries": [%s]}}',
        '{"comment": {"text": "a"}, "requestedAttributes": {"TOXICITY": {}}, "context": {"entries": [{"text": %s}]}}',
    ],
    SUGGEST: [
        '{"comment": {"text": "a"}, "attributeScores": {"TOXICITY": %s}}',
        '{"comment": {"text": "a"}, "attributeScores": {"TOXICITY": {"summaryScore": %s}}}',
        '{"comment": {"text": "a"}, "attributeScores": {"TOXICITY": {"spanScores": [%s]}}}',
    ],
}
"""Places inside a route's fields."""


def items(item: str, size: int) -> str:
    """Return an array of `size` bytes."""
    return "[" + ",".join([item] * (size // (len(item) + 1))) + "]"


def fields(name: str, size: int) -> str:
    """Return an object of `size` bytes, whose fields have numbered names."""
    return "{" + ",".join(f'"{name}{number:06x}":1' for number in range(size // (len(name) + 11))) + "}"


FILLINGS: dict[str, Callable[[int], str]] = {
    "numbers": lambda size: items("1", size),
    "empty objects": lambda size: items("{}", size),
    "parts": lambda size: items('{"type":"text","text":"a","x":1}', size),
    "fields": lambda size: fields("", size),
    "fields that are no Unicode": lambda size: fields("\\ud800", size),
    "objects with many fields": lambda size: items(fields("", size // MAX_TEXTS - 1), size),
    "objects with some fields": lambda size: items(fields("", MAX_ERRORS * 11), size),
    "a long name": lambda size: '{"' + "n" * (size - 6) + '":1}',
    "a long string": lambda size: '"' + "s" * (size - 2) + '"',
    "nested arrays": lambda size: "[" * (size // 2) + "]" * (size // 2),
    "nested objects": lambda size: '{"a":' * (size // 6) + "1" + "}" * (size // 6),
    "nested to the depth that is read": lambda size: "[" * 400 + items("1", size - 1000) + "]" * 400,
}


def places(path: str) -> list[str]:
    """Return where a filling can be: as the body, in every field, and at the places inside fields."""
    return ["%s", *(f'{{"{field}": %s}}' for field in FIELDS[path]), *WITHIN[path]]


def filled(path: str, filling: str, size: int) -> Iterator[tuple[str, str]]:
    """Yield bodies of `size` bytes, by place."""
    content = FILLINGS[filling](size)
    for place in places(path):
        yield place, place.replace("%s", content)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with ready() as client:
        yield client


def test_these_tests_cover_every_field_of_every_route() -> None:
    def named(model: type[BaseModel]) -> list[str]:
        return [field.alias or name for name, field in model.model_fields.items()]

    assert {path: named(model) for path, model in MODELS.items()} == FIELDS


@pytest.mark.parametrize("path", ENVELOPES)
@pytest.mark.parametrize("filling", FILLINGS)
def test_large_invalid_body_causes_few_errors(path: str, filling: str) -> None:
    for place, body in filled(path, filling, SOME_BYTES):
        try:
            parsed = json.loads(body)
        except RecursionError:
            continue
        with pytest.raises(ValidationError) as raised:
            MODELS[path].model_validate(parsed)
        assert raised.value.error_count() <= MOST_ERRORS, place


@pytest.mark.parametrize("path", ENVELOPES)
@pytest.mark.parametrize("filling", FILLINGS)
def test_large_invalid_body_gets_a_short_response_in_the_format_of_the_route(
    client: httpx.Client, path: str, filling: str
) -> None:
    for place, body in filled(path, filling, BODY_LIMITS[path] - ROUTES_OWN):
        answer = client.post(path, content=body.encode(), headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), place
        assert len(answer.content) < MOST_ANSWERED, place
        told = answer.json() if path == CLASSIFY else answer.json()["error"]
        assert told["message"], place


def test_omitted_errors_are_counted(client: httpx.Client) -> None:
    told = client.post(CLASSIFY, json={"texts": [1] * MAX_TEXTS}).json()
    assert [error["field"] for error in told["errors"]] == [f"texts.{number}" for number in range(MAX_ERRORS)]
    assert told["message"].endswith(f"; and {MAX_TEXTS - MAX_ERRORS} more")


def test_few_unknown_fields_are_reported_by_name(client: httpx.Client) -> None:
    body = {"text": "а", **{f"x{number}": 1 for number in range(MAX_ERRORS)}}
    told = client.post(CLASSIFY, json=body).json()
    assert [error["field"] for error in told["errors"]] == [f"x{number}" for number in range(MAX_ERRORS)]
    assert "more" not in told["message"]
    [error] = client.post(CLASSIFY, json={**body, "y": 1}).json()["errors"]
    assert error == {"field": "body", "message": f"{MAX_ERRORS + 1} unknown fields"}


def test_fields_of_the_same_name_in_both_spellings_are_known(client: httpx.Client) -> None:
    body = {
        "comment": {"text": "а"},
        "requested_attributes": {"TOXICITY": {}},
        "languages": ["ru"] * MAX_LANGUAGES,
    }
    assert client.post(ANALYZE, json=body).status_code == 200


@pytest.mark.parametrize("path", ENVELOPES)
def test_long_name_of_an_unknown_field_is_shortened(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json={"я" * (MAX_SHOWN + 1): 1, **dict.fromkeys(FIELDS[path])})
    assert "я" * (MAX_SHOWN + 1) not in answer.text
    assert path != CLASSIFY or "я" * MAX_SHOWN in answer.text


def request_schemas(document: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema of a route's request with the name of its component."""
    schemas, seen = document["components"]["schemas"], set()

    def walk(owner: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(schema, list):
            for item in schema:
                yield from walk(owner, item)
        elif isinstance(schema, dict):
            yield owner, schema
            name = schema.get("$ref", "").rpartition("/")[2]
            if name and name not in seen:
                seen.add(name)
                yield from walk(name, schemas[name])
            for key, item in schema.items():
                if key not in ("examples", "example"):
                    yield from walk(owner, item)

    yield from walk("", document["paths"][path]["post"]["requestBody"])


def bounded_models(model: type[RequestBody] = RequestBody) -> set[str]:
    return {model.__name__}.union(*(bounded_models(kind) for kind in model.__subclasses__()))


@pytest.mark.parametrize("path", ENVELOPES)
def test_every_list_and_every_object_of_a_request_is_bounded(client: httpx.Client, path: str) -> None:
    found = list(request_schemas(client.get("/openapi.json").json(), path))
    lists = [schema for _, schema in found if schema.get("type") == "array" and "items" in schema]
    objects = {owner for owner, schema in found if schema.get("additionalProperties") is False}
    assert lists and objects
    assert all("maxItems" in schema for schema in lists), lists
    assert objects <= bounded_models()
