"""The start retries only errors that can go away."""

from __future__ import annotations

import pytest

from toxicity_operator.errors import ClusterError
from toxicity_operator.runtime.retries import retry_until_ready


class Answers:
    """An API server that returns these statuses one by one, and a clock that only pauses advance."""

    def __init__(self, *statuses: int) -> None:
        self.left = list(statuses)
        self.now = 0.0

    def ask(self) -> None:
        status = self.left.pop(0)
        if status != 200:
            raise ClusterError("not now", status)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def start(self, seconds: float = 90.0) -> None:
        retry_until_ready(self.ask, seconds=seconds, pause=self.wait, clock=lambda: self.now)


def test_start_waits_for_a_crd_that_is_being_installed() -> None:
    answers = Answers(0, 503, 404, 404, 429, 200)
    answers.start()
    assert (answers.left, answers.now) == ([], 0.25 + 0.5 + 1 + 2 + 4)


@pytest.mark.parametrize("status", [401, 403])
def test_refusal_is_not_waited_for(status: int) -> None:
    answers = Answers(status, 200)
    with pytest.raises(ClusterError):
        answers.start()
    assert (answers.left, answers.now) == ([200], 0.0)


def test_start_gives_up_in_the_end() -> None:
    answers = Answers(*[404] * 1000)
    with pytest.raises(ClusterError) as caught:
        answers.start(seconds=30)
    assert caught.value.status == 404
    assert 25 <= answers.now <= 30
