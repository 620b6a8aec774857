from __future__ import annotations

import json

import pytest

from support.serving.word_engine import ready
from toxicity_loadtest.routes import CLASSIFY, OPENAI, PERSPECTIVE, ROUTES, Route


@pytest.mark.parametrize("score", [0, 0.5, 1])
def test_answer_with_a_probability_is_valid(score: float) -> None:
    body = {"model": "m", "threshold": 0.5, "results": [{"score": score, "toxic": True, "truncated": False}]}
    assert CLASSIFY.has_valid_scores(json.dumps(body).encode(), 1)


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"ok",
        b"\xff",
        b"[]",
        b"{}",
        b'{"results": []}',
        b'{"results": [{}]}',
        b'{"results": [0.5]}',
        b'{"results": [{"score": 1.01}]}',
        b'{"results": [{"score": NaN}]}',
        b'{"results": [{"score": true}]}',
        b'{"results": [{"score": "0.5"}]}',
        b'{"results": [{"score": 0.5}, {"score": 0.5}]}',
    ],
)
@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_answer_without_one_probability_is_invalid(body: bytes | None, route: Route) -> None:
    assert not route.has_valid_scores(body, 1)


def test_every_text_of_a_request_needs_a_score() -> None:
    body = b'{"results": [{"score": 0.5}, {"score": 0.25}]}'
    assert CLASSIFY.has_valid_scores(body, 2)
    assert not CLASSIFY.has_valid_scores(body, 3)


def test_request_body_carries_the_texts_unchanged() -> None:
    assert json.loads(CLASSIFY.request_body(['Ну "да"\n', "нет"])) == {"texts": ['Ну "да"\n', "нет"]}
    assert json.loads(OPENAI.request_body(["да", "нет"])) == {"input": ["да", "нет"]}
    assert json.loads(PERSPECTIVE.request_body(["да"]))["comment"] == {"text": "да"}


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_service_answers_every_route_validly(route: Route) -> None:
    texts = ["спасибо"] if route is PERSPECTIVE else ["спасибо", "до свидания"]
    with ready() as client:
        answer = client.post(
            route.path, content=route.request_body(texts), headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == 200, answer.text
    assert route.has_valid_scores(answer.content, len(texts))
    assert not route.has_valid_scores(answer.content, len(texts) + 1)
