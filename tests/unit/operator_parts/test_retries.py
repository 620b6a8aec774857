"""A failed pass is retried with increasing delays."""

from __future__ import annotations

import asyncio

from toxicity_api.types import Key
from toxicity_operator.runtime.retries import Retries

ONE, OTHER = ("default", "one"), ("default", "other")


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    async def scenario() -> list[float | None]:
        retries = Retries(lambda key: None)
        pauses = [retries.note(ONE, failed=True) for _ in range(7)]
        pauses.append(retries.note(OTHER, failed=True))
        pauses.append(retries.note(ONE, failed=False))
        pauses.append(retries.note(ONE, failed=True))
        retries.stop()
        return pauses

    assert asyncio.run(scenario()) == [1, 2, 4, 8, 16, 30, 30, 1, None, 1]


def test_failures_in_a_row_leave_one_timer_and_a_success_none() -> None:
    looks: list[Key] = []

    async def scenario() -> None:
        retries = Retries(looks.append, first_seconds=0.02)
        for _ in range(3):
            retries.note(ONE, failed=True)
        retries.note(OTHER, failed=True)
        retries.note(OTHER, failed=False)
        async with asyncio.timeout(10):
            while not looks:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)

    asyncio.run(scenario())
    assert looks == [ONE]


def test_stopped_ones_look_no_more() -> None:
    looks: list[Key] = []

    async def scenario() -> None:
        retries = Retries(looks.append, first_seconds=0.01)
        retries.note(ONE, failed=True)
        retries.stop()
        await asyncio.sleep(0.05)

    asyncio.run(scenario())
    assert looks == []
