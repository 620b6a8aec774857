"""Test with generated requests that the responses of every route conform to the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema

from support.serving.word_engine import ready

EXAMPLES = 25
"""Number of generated requests per route and mode. They are the same in each run."""
ROUTES = {
    ("POST", "/v1/classify"),
    ("POST", "/v1/moderations"),
    ("POST", "/v1alpha1/comments:analyze"),
    ("POST", "/v1alpha1/comments:suggestscore"),
    ("GET", "/v1/model"),
    ("GET", "/v1/report"),
    ("GET", "/v1/plots/{plot}"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with ready() as client:
        yield client


@pytest.fixture(scope="module")
def schema(client: httpx.Client) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")


def test_document_has_every_route(schema: BaseSchema) -> None:
    found = {(result.ok().method.upper(), result.ok().path) for result in schema.get_all_operations()}
    assert found == ROUTES


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        (method, path, mode)
        for method, path in sorted(ROUTES)
        for mode in GenerationMode
        if method == "POST" or mode is GenerationMode.POSITIVE  # a request without parameters cannot be invalid
    ],
)
def test_responses_conform_to_the_document(
    schema: BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    operation = schema[path][method]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def conforms(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        case.call_and_validate()

    conforms()
