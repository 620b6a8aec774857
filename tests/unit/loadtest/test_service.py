from __future__ import annotations

import json

import pytest

from toxicity_loadtest.service import has_valid_score, request_body


@pytest.mark.parametrize("score", [0, 0.5, 1])
def test_answer_with_a_probability_is_valid(score: float) -> None:
    body = {"model": "m", "threshold": 0.5, "results": [{"score": score, "toxic": True, "truncated": False}]}
    assert has_valid_score(json.dumps(body).encode())


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
def test_answer_without_one_probability_is_invalid(body: bytes | None) -> None:
    assert not has_valid_score(body)


def test_request_body_carries_the_text_unchanged() -> None:
    assert json.loads(request_body('Ну "да"\n')) == {"texts": ['Ну "да"\n']}
