"""Reads the service's answer: an HTTP 200 alone is no success, the score must be there and be a probability."""

from __future__ import annotations

import json
from typing import Any

CLASSIFY_PATH = "/v1/classify"


def request_body(text: str) -> bytes:
    """The JSON body that asks for one text's score."""
    return json.dumps({"texts": [text]}, ensure_ascii=False).encode()


def has_valid_score(body: bytes | bytearray | None) -> bool:
    """Whether the body is a JSON answer with exactly one result whose score lies in [0, 1]."""
    try:
        document = json.loads(bytes(body or b""))
    except ValueError:
        return False
    results: Any = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or len(results) != 1 or not isinstance(results[0], dict):
        return False
    score = results[0].get("score")
    return isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1
