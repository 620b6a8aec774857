"""Test what any HTTP client may send: HEAD, encodings, content types, origins of pages, redirects, request ids."""

from __future__ import annotations

import gzip
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from support.serving.word_engine import CONFIG, TOXIC_WORD, UNANSWERED_WORD, ready
from toxicity_api.spec import HttpSpec
from toxicity_serving.http.app import BODY_LIMITS
from toxicity_serving.http.decoding import MAX_MEMBERS

ANALYZE = "/v1alpha1/comments:analyze"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/classify": {"text": TOXIC_WORD},
    "/v1/moderations": {"input": TOXIC_WORD},
    ANALYZE: {"comment": {"text": TOXIC_WORD}, "requestedAttributes": {"TOXICITY": {}}},
    "/v1alpha1/comments:suggestscore": {"comment": {"text": TOXIC_WORD}, "attributeScores": {"TOXICITY": {}}},
}
GZIP = {"content-type": "application/json", "content-encoding": "gzip"}
PAGE = "https://forum.example"


def with_http(**fields: Any) -> Any:
    return CONFIG.model_copy(update={"http": HttpSpec(**fields)})


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with ready() as client:
        yield client


def test_these_tests_cover_every_route_with_a_body() -> None:
    assert set(BODIES) == set(BODY_LIMITS)


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/metrics", "/v1/model", "/docs", "/openapi.json", "/no"]
)
def test_head_is_get_without_the_body(client: httpx.Client, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # its length changes
        assert head.headers["content-length"] == got.headers["content-length"] != "0"


def test_head_of_a_post_route_is_405(client: httpx.Client) -> None:
    answer = client.head("/v1/classify")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_gzip_body_gets_the_same_answer(client: httpx.Client, path: str, encoding: str) -> None:
    plain = client.post(path, json=BODIES[path])
    content = gzip.compress(json.dumps(BODIES[path]).encode())
    packed = client.post(path, content=content, headers={**GZIP, "content-encoding": encoding})
    assert (packed.status_code, packed.json() | {"id": ""}) == (200, plain.json() | {"id": ""})


def test_gzip_body_may_have_several_members(client: httpx.Client) -> None:
    whole = json.dumps(BODIES["/v1/classify"]).encode()
    content = gzip.compress(whole[:9]) + gzip.compress(b"") + gzip.compress(whole[9:])
    assert client.post("/v1/classify", content=content, headers=GZIP).status_code == 200


@pytest.mark.parametrize("path", BODIES)
def test_gzip_bomb_is_refused_at_the_limit_of_the_decoded_body(client: httpx.Client, path: str) -> None:
    bomb = gzip.compress(b" " * 20 * BODY_LIMITS[path])
    assert len(bomb) < BODY_LIMITS[path] / 10
    answer = client.post(path, content=bomb, headers=GZIP)
    assert answer.status_code == 413
    assert f"larger than {BODY_LIMITS[path]} bytes" in answer.text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{}", "not gzip data"),
        (gzip.compress(b"{}")[:-5], "end early"),
        (gzip.compress(b"{}") + b"{}", "not gzip data"),
        (gzip.compress(b"") * (MAX_MEMBERS + 1), f"more than {MAX_MEMBERS} members"),
    ],
    ids=["plain", "cut", "followed by other data", "many members"],
)
def test_wrong_gzip_body_is_refused_by_the_name_of_the_header(
    client: httpx.Client, content: bytes, problem: str
) -> None:
    answer = client.post("/v1/classify", content=content, headers=GZIP)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("content-encoding: ") and problem in answer.text


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
def test_other_encodings_are_refused_with_the_one_to_use(client: httpx.Client, encoding: str) -> None:
    answer = client.post("/v1/classify", content=b"{}", headers={**GZIP, "content-encoding": encoding})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip")
    assert "content-encoding: expected gzip" in answer.json()["message"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("kind", [None, "application/json; charset=utf-8", "application/vnd.forum+json"])
def test_body_is_json_unless_its_header_says_otherwise(client: httpx.Client, path: str, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = client.post(path, content=json.dumps(BODIES[path]).encode(), headers=headers)
    assert "content-type" not in answer.request.headers or kind
    assert answer.status_code == 200


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"]
)
def test_other_content_type_is_refused_by_the_name_of_the_header(
    client: httpx.Client, path: str, kind: str
) -> None:
    answer = client.post(path, content=json.dumps(BODIES[path]).encode(), headers={"content-type": kind})
    assert answer.status_code == 415
    told = answer.json() if path == "/v1/classify" else answer.json()["error"]
    assert told["message"].startswith("content-type: expected application/json")


@pytest.mark.parametrize("path", BODIES)
def test_empty_body_is_named_as_such(client: httpx.Client, path: str) -> None:
    answer = client.post(path, content=b"")
    assert answer.status_code in (400, 422)
    assert "the body is empty" in answer.text


def test_body_may_begin_with_a_byte_order_mark(client: httpx.Client) -> None:
    content = b"\xef\xbb\xbf" + json.dumps({"text": "а"}).encode()
    assert client.post("/v1/classify", content=content).status_code == 200


PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


@pytest.mark.parametrize("path", BODIES)
def test_page_of_a_listed_origin_may_call_the_service(path: str) -> None:
    with ready(config=with_http(cors_origins=["https://a.example", PAGE]), token="secret") as client:
        asked = client.options(path, headers=PREFLIGHT)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, PAGE)
        assert "x-stainless-lang" in asked.headers["access-control-allow-headers"]
        headers = {"origin": PAGE, "authorization": "Bearer secret"}
        answer = client.post(path, json=BODIES[path], headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        refused = client.post(path, json=BODIES[path], headers={"origin": PAGE})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
        other = client.options(path, headers={**PREFLIGHT, "origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


def test_no_page_of_another_origin_may_call_the_service_by_default(client: httpx.Client) -> None:
    assert client.options("/v1/classify", headers=PREFLIGHT).status_code == 405
    answer = client.post("/v1/classify", json={"text": "а"}, headers={"origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("target", ["/v1/model/", "/docs/?a=b", "/v1/classify/"])
def test_redirect_names_neither_scheme_nor_host(client: httpx.Client, target: str) -> None:
    answer = client.get(target, headers={"x-forwarded-proto": "https"})
    assert answer.status_code == 307
    assert answer.headers["location"] == target.replace("/?", "?").removesuffix("/")


def test_request_id_is_returned(client: httpx.Client) -> None:
    for path in ("/healthz", "/v1/model", "/none", "/docs/"):
        assert client.get(path, headers={"x-request-id": "a/B-7_c"}).headers["x-request-id"] == "a/B-7_c"
    one, other = (client.get("/healthz").headers["x-request-id"] for _ in range(2))
    assert one != other and len(one) == 32


@pytest.mark.parametrize("sent", ["", "a b", 'a"b', "ж", "a" * 129, "a\tb"])
def test_unusable_request_id_is_replaced(client: httpx.Client, sent: str) -> None:
    given = client.get("/healthz", headers={"x-request-id": sent.encode()}).headers["x-request-id"]
    assert given != sent and len(given) == 32


def test_every_error_has_the_request_id(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"x-request-id": "mine"}
    with ready(token="secret") as client:
        refused = client.get("/v1/model", headers=named)
        headers = {**named, "authorization": "Bearer secret"}
        answers = [
            client.post("/v1/classify", headers=headers, json={}),
            client.post("/v1/classify", headers=headers, content=b" " * (BODY_LIMITS["/v1/classify"] + 1)),
            client.post("/v1/classify", headers=headers, json={"text": UNANSWERED_WORD}),
        ]
        monkeypatch.setattr("toxicity_serving.http.routes.ClassifyResponse", None)
        answers.append(client.post("/v1/classify", headers=headers, json={"text": "а"}))
    assert [answer.status_code for answer in (refused, *answers)] == [401, 422, 413, 500, 500]
    assert {answer.headers["x-request-id"] for answer in (refused, *answers)} == {"mine"}
    assert "label_token_missing request_id=mine" in caplog.text


def test_openai_client_shows_the_request_id(client: httpx.Client) -> None:
    with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0) as vendor:
        answer = vendor.moderations.create(input="а", extra_headers={"x-request-id": "mine"})
        assert answer._request_id == "mine"
        with pytest.raises(openai.BadRequestError) as raised:
            vendor.moderations.create(input="", extra_headers={"x-request-id": "mine"})
        assert raised.value.request_id == "mine"


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records if record.name.endswith(".access")]


def test_each_request_is_one_line_of_json_without_texts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with ready(token="secret") as client:
        caplog.clear()
        headers = {"x-request-id": "mine", "authorization": "Bearer secret"}
        client.post("/v1/classify", json={"texts": ["спасибо", "а" * 500]}, headers=headers)
        client.post(f"{ANALYZE}?key=wrong-secret", json=BODIES[ANALYZE])
        client.get("/healthz")
        client.get("/none")
    scored, refused, unknown = logged(caplog)
    assert (scored["request_id"], scored["method"], scored["path"]) == ("mine", "POST", "/v1/classify")
    assert (scored["status"], scored["client"], scored["texts"], scored["windows"]) == (200, "127.0.0.1", 2, 5)
    assert scored["tokens"] > 500 and 0 < scored["seconds"] < 10 and scored["bytes"] > 100
    assert 0 <= scored["tokenize_seconds"] + scored["engine_seconds"] <= scored["seconds"] + 0.001
    assert (refused["status"], refused["path"], "texts" in refused) == (401, ANALYZE, False)
    assert (unknown["status"], unknown["path"]) == (404, "/none")
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("toxicity_serving")]
    assert not [line for line in ours if "спасибо" in line or "secret" in line]


def test_client_in_the_log_is_the_one_behind_a_trusted_proxy(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for proxies, seen in (([], "127.0.0.1"), (["127.0.0.1"], "203.0.113.7")):
        with ready(config=with_http(trusted_proxies=proxies)) as client:
            caplog.clear()
            client.get("/v1/model", headers={"x-forwarded-for": "203.0.113.7"})
        assert [line["client"] for line in logged(caplog)] == [seen]


def test_requests_are_not_logged_without_an_access_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with ready(config=with_http(access_log=False)) as client:
        client.get("/v1/model")
    assert logged(caplog) == []


def test_disconnected_client_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with ready() as client:
        caplog.clear()
        with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
    assert [line["status"] for line in logged(caplog)] == [499]
