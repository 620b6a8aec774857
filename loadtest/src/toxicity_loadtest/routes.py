"""The routes of the service under test: how each is asked for scores, and when its answer is valid.

Status 200 alone is no success: an answer must have exactly one score in [0, 1] for each text of the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

RouteName = Literal["classify", "openai", "perspective"]


@dataclass(frozen=True)
class Route:
    """`body` builds the JSON document that asks for the scores of texts. `scores` finds them in an answer."""

    path: str
    body: Callable[[Sequence[str]], dict[str, object]]
    scores: Callable[[Any], list[object]]

    def request_body(self, texts: Sequence[str]) -> bytes:
        """Return the JSON body of a request."""
        return json.dumps(self.body(texts), ensure_ascii=False).encode()

    def has_valid_scores(self, body: bytes | bytearray | None, texts: int) -> bool:
        """Whether the answer is JSON with exactly `texts` scores, each in [0, 1]."""
        try:
            scores = self.scores(json.loads(bytes(body or b"")))
        except (ValueError, LookupError, TypeError):
            return False
        return len(scores) == texts and all(_is_score(score) for score in scores)


def _is_score(score: object) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1


def _of_perspective(texts: Sequence[str]) -> dict[str, object]:
    (text,) = texts
    return {"comment": {"text": text}, "languages": ["ru"], "requestedAttributes": {"TOXICITY": {}}}


CLASSIFY = Route(
    "/v1/classify",
    lambda texts: {"texts": list(texts)},
    lambda answer: [result["score"] for result in answer["results"]],
)
OPENAI = Route(
    "/v1/moderations",
    lambda texts: {"input": list(texts)},
    lambda answer: [result["category_scores"]["harassment"] for result in answer["results"]],
)
PERSPECTIVE = Route(
    "/v1alpha1/comments:analyze",
    _of_perspective,
    lambda answer: [answer["attributeScores"]["TOXICITY"]["summaryScore"]["value"]],
)
ROUTES: dict[RouteName, Route] = {"classify": CLASSIFY, "openai": OPENAI, "perspective": PERSPECTIVE}
