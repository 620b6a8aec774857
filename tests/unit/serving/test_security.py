"""Test that paths below /v1 need the token, and that no log line or error response contains a text."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from support.serving.word_engine import (
    CONFIG,
    DEADLY_WORD,
    HELD_WORD,
    UNANSWERED_WORD,
    WordEngine,
    ready,
    running,
    wait,
)
from toxicity_serving.__main__ import EmptyTokenError, take_token
from toxicity_serving.engine.protocol import EngineError
from toxicity_serving.engine.vllm import VllmEngine
from toxicity_serving.http.app import MAX_BODY_BYTES
from toxicity_serving.http.middleware.deadline import DEADLINE_HEADER
from toxicity_serving.http.schemas import MAX_CHARACTERS, MAX_TEXTS

TOKEN = "s3cret-токен"
BEARER = {"authorization": f"Bearer {TOKEN}".encode()}
ANALYZE = "/v1alpha1/comments:analyze"
COMMENT = {"comment": {"text": "а"}, "requestedAttributes": {"TOXICITY": {}}}
POSTS: dict[str, dict[str, Any]] = {
    "/v1/classify": {"text": "а"},
    "/v1/moderations": {"input": "а"},
    ANALYZE: COMMENT,
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[httpx.Client]:
    with ready(token=TOKEN) as client:
        yield client


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/"])
def test_probes_metrics_and_descriptions_stay_open(guarded: httpx.Client, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/v1/model", "/v1/report", "/v1/plots/eda-labels", "/v1/none", "/v1alpha1/none"])
def test_everything_below_v1_needs_the_token(guarded: httpx.Client, path: str) -> None:
    refused = guarded.get(path)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="toxicity-model"')
    assert guarded.get(path, headers=BEARER).status_code != 401


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"]
)
@pytest.mark.parametrize("path", POSTS)
def test_wrong_token_is_401_in_the_format_of_the_route(
    guarded: httpx.Client, path: str, authorization: str
) -> None:
    answer = guarded.post(path, json=POSTS[path], headers={"authorization": authorization.encode()})
    assert answer.status_code == 401
    told = answer.json() if path == "/v1/classify" else answer.json()["error"]
    assert "Authorization: Bearer" in told["message"]


@pytest.mark.parametrize("path", POSTS)
def test_correct_token_is_accepted(guarded: httpx.Client, path: str) -> None:
    assert guarded.post(path, json=POSTS[path], headers=BEARER).status_code == 200
    assert guarded.post(path, json=POSTS[path], headers={"authorization": f"bearer  {TOKEN}".encode()}).is_success


def test_token_is_checked_before_the_body(guarded: httpx.Client) -> None:
    for content in (b"{", b" " * (MAX_BODY_BYTES + 1)):
        assert guarded.post("/v1/classify", content=content).status_code == 401


def test_perspective_route_accepts_the_token_as_key(guarded: httpx.Client) -> None:
    assert guarded.post(ANALYZE, params={"key": TOKEN}, json=COMMENT).status_code == 200
    assert (
        guarded.post(ANALYZE, params={"key": "wrong"}, json=COMMENT).json()["error"]["status"] == "UNAUTHENTICATED"
    )
    assert guarded.post("/v1/classify", params={"key": TOKEN}, json={"text": "а"}).status_code == 401


# in UTF-8 they end in the byte 0x85 or 0xA0, which is a space in latin-1
@pytest.mark.parametrize("ending", ["х", "Р", "à", "Å", "…", "\u00a0", "\u0085", "\u3000", "x"])
def test_token_is_stripped_alike_in_header_and_environment(ending: str) -> None:
    secret = f"{ending}токен{ending}"
    taken = take_token({"API_TOKEN": f" {secret}\r\n"})
    assert taken == secret
    with ready(token=taken) as client:
        for header in (f"Bearer {secret}", f"Bearer  \t{secret}"):
            assert client.get("/v1/model", headers={"authorization": header.encode()}).status_code == 200
        for wrong in (secret[:-1], secret + ending, secret.strip(ending)):
            assert (
                client.get("/v1/model", headers={"authorization": f"Bearer {wrong}".encode()}).status_code == 401
            )
        assert client.post(ANALYZE, params={"key": secret}, json=COMMENT).status_code == 200


def test_openai_client_sends_the_token_as_its_api_key() -> None:
    with ready(token="plain-token") as service:
        base = f"{service.base_url}/v1"
        with openai.OpenAI(base_url=base, api_key="plain-token", max_retries=0) as client:
            assert client.moderations.create(input="а").results
        with (
            openai.OpenAI(base_url=base, api_key="wrong", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError) as raised,
        ):
            client.moderations.create(input="а")
        assert raised.value.code == "invalid_api_key"


def test_openapi_documents_the_token_only_when_one_is_set(guarded: httpx.Client) -> None:
    document = guarded.get("/openapi.json").json()
    assert document["paths"]["/v1/classify"]["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in document["paths"]["/readyz"]["get"]
    with ready() as client:
        assert "security" not in client.get("/openapi.json").json()["paths"]["/v1/classify"]["post"]


def test_token_is_removed_from_the_environment() -> None:
    environment = {"API_TOKEN": "abc\n", "HOME": "/tmp"}
    assert take_token(environment) == "abc", "without the line feed that files end with"
    assert environment == {"HOME": "/tmp"}
    assert take_token(environment) is None


@pytest.mark.parametrize("value", ["", " \n", "\u00a0"])
def test_empty_token_is_refused_with_instructions(value: str) -> None:
    with pytest.raises(EmptyTokenError, match=r"serving\.apiTokenSecretName"):
        take_token({"API_TOKEN": value})


MARK = "секретныйтекст"


def speaking(path: str, text: Any) -> dict[str, Any]:
    return {
        "/v1/classify": {"text": text},
        "/v1/moderations": {"input": text},
        ANALYZE: {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}},
    }[path]


def wrong_requests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield invalid requests, each with the mark in place of a text."""
    for path in POSTS:
        yield path, {"json": speaking(path, MARK + UNANSWERED_WORD)}
        yield path, {"json": speaking(path, {MARK: 1} | {"type": MARK})}
        yield path, {"json": speaking(path, [MARK, 7])}
        yield path, {"json": speaking(path, MARK * MAX_CHARACTERS)}
        yield path, {"json": speaking(path, [MARK] * (MAX_TEXTS + 1))}
        yield path, {"json": MARK}
        yield path, {"json": speaking(path, MARK + HELD_WORD), "headers": {DEADLINE_HEADER: "30"}}
        yield path, {"json": speaking(path, MARK), "headers": {DEADLINE_HEADER: "x"}}
        yield path, {"content": f'{{"text": "{MARK}'.encode()}
        yield path, {"content": (MARK * (MAX_BODY_BYTES // len(MARK))).encode()}
    yield "/v1/classify", {"json": {"text": MARK, "threshold": MARK}}
    yield "/v1/moderations", {"json": {"input": MARK, "model": [MARK]}}
    yield "/v1/none", {"json": {"text": MARK}}
    yield "/v1/classify", {"json": {"text": MARK + DEADLY_WORD}}


def test_no_text_is_in_any_log_or_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "hpack"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    statuses = set()
    with running(WordEngine(), check_seconds=60) as client:
        wait(lambda: client.get("/readyz").status_code == 200)
        for path, request in wrong_requests():
            answer = client.post(path, **{"headers": {}, **request})
            assert answer.status_code >= 400, answer.text
            assert MARK not in answer.text
            statuses.add(answer.status_code)
    assert statuses >= {400, 404, 413, 422, 500, 503, 504}
    assert caplog.records
    assert not [record for record in caplog.records if MARK in record.getMessage() or MARK in str(record.exc_info)]


def test_failed_text_is_logged_by_hash_and_length(caplog: pytest.LogCaptureFixture) -> None:
    with ready() as client:
        client.post("/v1/classify", json={"texts": ["спасибо", UNANSWERED_WORD]})
    [record] = [record for record in caplog.records if record.getMessage().startswith("label_token_missing")]
    for text in ("спасибо", UNANSWERED_WORD):
        assert f"{hashlib.sha256(text.encode()).hexdigest()[:12]}:{len(text)}" in record.getMessage()


def test_changed_weights_are_refused_before_they_are_loaded(tmp_path: Path) -> None:
    from toxicity_api.checksums import write_checksums

    (tmp_path / "model.safetensors").write_bytes(b"weights")
    write_checksums(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    engine = VllmEngine(CONFIG.model_copy(update={"model_dir": tmp_path}), tmp_path / "scratch")
    with pytest.raises(EngineError, match=r"model\.safetensors has sha256"):
        asyncio.run(engine.start())
