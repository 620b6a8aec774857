"""Test the Perspective API with Google's own client library, which only gets another base URL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from googleapiclient import discovery
from googleapiclient.errors import HttpError

from support.serving.word_engine import CONFIG, TOXIC_WORD, ready
from toxicity_api.spec import HttpSpec

TOKEN = "plain-token"
PERSPECTIVE = ["SEVERE_TOXICITY", "IDENTITY_ATTACK", "INSULT", "PROFANITY", "THREAT"]
"""The attributes that Perspective scores in Russian beside TOXICITY."""


def client_of(service: httpx.Client, path: str = "/$discovery/rest?version=v1alpha1", key: str = TOKEN) -> Any:
    """Build the client as Perspective's sample code does, except for the host."""
    return discovery.build(
        "commentanalyzer",
        "v1alpha1",
        developerKey=key,
        discoveryServiceUrl=str(service.base_url).rstrip("/") + path,
        static_discovery=False,
        cache_discovery=False,
    )


@pytest.fixture(scope="module")
def service() -> Iterator[httpx.Client]:
    with ready(token=TOKEN) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: httpx.Client) -> Iterator[Any]:
    with client_of(service) as client:
        yield client


def analyze(client: Any, text: str, attributes: list[str], **more: Any) -> dict[str, Any]:
    body = {"comment": {"text": text}, "requestedAttributes": {name: {} for name in attributes}, **more}
    answer: dict[str, Any] = client.comments().analyze(body=body).execute()
    return answer


def test_sample_code_gets_a_score_after_a_change_of_the_url(client: Any) -> None:
    answer = analyze(client, TOXIC_WORD, ["TOXICITY"], languages=["ru"], doNotStore=True)
    assert answer["attributeScores"]["TOXICITY"]["summaryScore"]["value"] > 0.8
    assert answer["languages"] == ["ru"]


def test_client_of_googles_central_discovery_service(service: httpx.Client) -> None:
    with client_of(service, "/discovery/v1/apis/{api}/{apiVersion}/rest") as client:
        assert analyze(client, "спасибо", ["TOXICITY"])["attributeScores"]["TOXICITY"]


def test_other_attributes_are_left_out_and_listed(client: Any, service: httpx.Client) -> None:
    assert set(analyze(client, TOXIC_WORD, [*PERSPECTIVE, "TOXICITY"])["attributeScores"]) == {"TOXICITY"}
    body = {"comment": {"text": "а"}, "requestedAttributes": {"THREAT": {}, "TOXICITY": {}, "INSULT": {}}}
    answer = service.post("/v1alpha1/comments:analyze", json=body, headers={"x-goog-api-key": TOKEN})
    assert answer.headers["toxicity-unscored-attributes"] == "THREAT,INSULT"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (["INSULT", "THREAT"], "Attribute INSULT does not support request languages: ru; request TOXICITY"),
        (["TOXICITY", "KINDNESS"], "Unknown requested attribute: KINDNESS"),
        ([], "Missing requested_attributes"),
    ],
)
def test_attributes_without_a_score_are_the_clients_error(client: Any, attributes: list[str], reason: str) -> None:
    with pytest.raises(HttpError) as raised:
        analyze(client, "а", attributes)
    assert (raised.value.status_code, raised.value.reason) == (400, reason)


def test_suggested_score_is_accepted_and_its_token_repeated(client: Any) -> None:
    score = {"value": 0.1, "type": "PROBABILITY"}
    body = {
        "comment": {"text": "спасибо"},
        "attributeScores": {"TOXICITY": {"summaryScore": score, "spanScores": [{"begin": 0, "end": 7}]}},
        "languages": ["ru"],
        "communityId": "/forum/movies",
        "clientToken": "comment-1",
    }
    answer = client.comments().suggestscore(body=body).execute()
    assert answer == {"clientToken": "comment-1", "requestedLanguages": ["ru"]}
    with pytest.raises(HttpError, match="Comment must be non-empty"):
        client.comments().suggestscore(body={**body, "comment": {}}).execute()


def test_wrong_key_is_googles_authentication_error(service: httpx.Client) -> None:
    with client_of(service, key="wrong") as client, pytest.raises(HttpError, match="X-Goog-Api-Key") as raised:
        analyze(client, "а", ["TOXICITY"])
    assert raised.value.status_code == 401


@pytest.mark.parametrize("path", ["/v1alpha1/comments:analyze", "/v1alpha1/comments:suggestscore"])
def test_key_is_accepted_in_googles_header(service: httpx.Client, path: str) -> None:
    for key, refused in ((TOKEN, False), ("wrong", True)):
        answer = service.post(path, json={}, headers={"x-goog-api-key": key})
        assert (answer.status_code == 401) is refused
    assert service.post("/v1/classify", json={}, headers={"x-goog-api-key": TOKEN}).status_code == 401


@pytest.mark.parametrize(
    ("proxies", "scheme"), [([], "http"), (["127.0.0.0/8"], "https"), (["10.0.0.0/8"], "http")]
)
def test_document_has_the_url_that_the_client_used(proxies: list[str], scheme: str) -> None:
    """The scheme is the proxy's only if the proxy is trusted."""
    with ready(config=CONFIG.model_copy(update={"http": HttpSpec(trusted_proxies=proxies)})) as service:
        headers = {"host": "toxicity.example:8443", "x-forwarded-proto": "https"}
        document = service.get("/$discovery/rest", params={"version": "v1alpha1"}, headers=headers).json()
        assert document["rootUrl"] == document["baseUrl"] == f"{scheme}://toxicity.example:8443/"
        assert service.get("/$discovery/rest", headers={"host": 'a"<b>'}).status_code == 400
