"""The number of open requests against a simulated service that works on some batches at a time."""

from __future__ import annotations

import asyncio

import pytest

from toxicity_score.limiter import Limiter


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def settle(workers: int, most: int = 256, rounds: int = 400) -> tuple[int, Limiter]:
    """Return the limit after `rounds` batches of a service with `workers` that takes one second per batch."""
    clock = Clock()
    limiter = Limiter(most, clock)
    for _ in range(rounds):
        seconds = max(1.0, limiter.limit / workers)  # Little's law
        clock.seconds += seconds / limiter.limit
        limiter.answered(seconds, 1.0)
    return limiter.limit, limiter


@pytest.mark.parametrize("workers", [1, 4, 30])
def test_limit_keeps_every_worker_busy_and_the_queue_short(workers: int) -> None:
    limit, _ = settle(workers)
    assert workers <= limit <= 5 * workers


def test_limit_follows_replicas_that_are_added() -> None:
    _, limiter = settle(2)
    before = limiter.limit
    for _ in range(2000):
        limiter.answered(max(1.0, limiter.limit / 8), 1.0)
    assert before < 11 <= limiter.limit <= 40


def test_longer_texts_do_not_look_like_a_busy_service() -> None:
    limiter = Limiter(64)
    for work in [1.0, 10.0, 100.0] * 20:
        limiter.answered(0.1 * work, work)
    assert limiter.limit == 61


def test_limit_has_a_maximum_and_is_never_below_one() -> None:
    limit, limiter = settle(1000, most=7)
    assert limit == 7
    for _ in range(10):
        limiter.refused(0.0)
    assert limiter.limit == 1


def test_refusals_of_one_moment_halve_the_limit_once() -> None:
    clock = Clock()
    limiter = Limiter(64, clock)
    for _ in range(30):
        limiter.answered(1.0, 1.0)
    before = limiter.limit
    for _ in range(before):
        limiter.refused(1.0)
    assert limiter.limit == before // 2


def test_no_more_requests_are_open_than_the_limit_and_none_waits_for_ever() -> None:
    async def scenario() -> int:
        limiter, open_now, highest = Limiter(8), 0, 0

        async def request() -> None:
            nonlocal open_now, highest
            await limiter.acquire()
            open_now += 1
            highest = max(highest, open_now - limiter.limit)
            await asyncio.sleep(0)
            open_now -= 1
            limiter.release()
            limiter.answered(1.0, 1.0)

        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(request())
        return highest

    assert asyncio.run(scenario()) == 0
