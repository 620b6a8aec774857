"""Test the queue before the engine: requests share it by tokens, and no prompt is lost or counted twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from toxicity_serving.fair_queue import LOOKAHEAD_SECONDS, MIN_TOKENS, FairQueue, Flow


class Engine:
    """Finishes one prompt at a time, oldest first, at `speed` tokens per second of its own clock."""

    def __init__(self, speed: float, max_prompts: int = 256) -> None:
        self.now = 0.0
        self.queue = FairQueue(max_prompts, lambda: self.now)
        self.finished: list[tuple[str, float]] = []
        self.most_prompts = self.most_tokens = 0
        self._speed = speed
        self._prompts: list[tuple[str, Flow, int]] = []

    async def ask(self, name: str, flow: Flow, tokens: int) -> None:
        await self.queue.enter(flow, tokens)
        self._prompts.append((name, flow, tokens))
        self.most_prompts = max(self.most_prompts, len(self._prompts))
        self.most_tokens = max(self.most_tokens, sum(tokens for *_, tokens in self._prompts))

    async def step(self) -> bool:
        """Finish the oldest prompt. Returns False when there is none."""
        for _ in range(3):
            await asyncio.sleep(0)
        if not self._prompts:
            return False
        name, flow, tokens = self._prompts.pop(0)
        self.now += tokens / self._speed
        self.queue.leave(flow, tokens, answered=True)
        self.finished.append((name, self.now))
        return True


def test_single_text_overtakes_a_batch() -> None:
    async def run() -> float:
        engine, batch = Engine(speed=2000), Flow()
        tasks = [asyncio.create_task(engine.ask("batch", batch, 500)) for _ in range(300)]
        for _ in range(20):
            await engine.step()
        asked = engine.now
        tasks.append(asyncio.create_task(engine.ask("single", Flow(), 40)))
        while await engine.step():
            pass
        await asyncio.gather(*tasks)
        assert Counter(name for name, _ in engine.finished) == {"batch": 300, "single": 1}
        return dict(engine.finished)["single"] - asked

    assert asyncio.run(run()) < 2 * LOOKAHEAD_SECONDS, "in the order of arrival it would take 70 seconds"


def test_batch_gets_its_share_of_an_endless_stream_of_single_texts() -> None:
    async def run() -> float:
        engine, batch, number = Engine(speed=2000), Flow(), 0
        tasks = [asyncio.create_task(engine.ask("batch", batch, 500)) for _ in range(100)]
        for _ in range(2000):
            while number < len(engine.finished) + 10:  # ten clients, each with the next text at once
                tasks.append(asyncio.create_task(engine.ask("single", Flow(), 50)))
                number += 1
            await engine.step()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        done = Counter(name for name, _ in engine.finished)
        return done["batch"] * 500 / (done["batch"] * 500 + done["single"] * 50)

    assert 0.05 < asyncio.run(run()) < 0.25, "one of about eleven requests"


@pytest.mark.parametrize("speed", [100, 100_000])
def test_engine_has_work_for_half_a_second(speed: float) -> None:
    async def run() -> Engine:
        engine = Engine(speed, max_prompts=10_000)
        tasks = [asyncio.create_task(engine.ask("", Flow(), 50)) for _ in range(3000)]
        while await engine.step():
            pass
        await asyncio.gather(*tasks)
        return engine

    engine = asyncio.run(run())
    assert len(engine.finished) == 3000
    assert engine.most_tokens == pytest.approx(max(MIN_TOKENS, speed * LOOKAHEAD_SECONDS), rel=0.05)


def test_engine_has_at_most_so_many_prompts_and_always_one() -> None:
    async def run() -> tuple[int, int]:
        small, long = Engine(1e6, max_prompts=7), Engine(100)
        tasks = [asyncio.create_task(small.ask("", Flow(), 1)) for _ in range(50)]
        tasks += [asyncio.create_task(long.ask("", Flow(), 10 * MIN_TOKENS)) for _ in range(3)]
        while await small.step() or await long.step():
            pass
        await asyncio.gather(*tasks)
        return small.most_prompts, long.most_prompts

    assert asyncio.run(run()) == (7, 1)


@pytest.mark.parametrize("seed", range(20))
def test_cancelled_prompts_leave_no_trace(seed: int) -> None:
    """Random cancellations: before the turn, at the same moment, and in the engine."""

    async def run() -> tuple[int, float]:
        chance, queue = random.Random(seed), FairQueue(3)

        async def use(flow: Flow, tokens: int) -> None:
            await queue.enter(flow, tokens)
            answered = False
            try:
                await asyncio.sleep(0)
                answered = True
            finally:
                queue.leave(flow, tokens, answered=answered)

        flows = [Flow() for _ in range(5)]
        tasks = [asyncio.create_task(use(chance.choice(flows), chance.randint(1, 900))) for _ in range(60)]
        while not all(task.done() for task in tasks):
            chance.choice(tasks).cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [flow.prompts for flow in flows] == [0] * 5
        await asyncio.wait_for(use(Flow(), 10_000), 1)
        return queue.in_engine, queue.unanswered_seconds()

    assert asyncio.run(run()) == (0, 0.0)


def test_only_an_answer_ends_the_time_for_which_the_engine_owes_one() -> None:
    async def run() -> list[float]:
        now = 0.0
        queue, flow, seen = FairQueue(4, lambda: now), Flow(), []
        await queue.enter(flow, 1)
        now = 2.0
        queue.leave(flow, 1, answered=False)
        now = 3.0
        seen.append(queue.unanswered_seconds())
        await queue.enter(flow, 1)
        await queue.enter(flow, 1)
        now = 4.0
        queue.leave(flow, 1, answered=True)
        seen.append(queue.unanswered_seconds())
        now = 5.5
        seen.append(queue.unanswered_seconds())
        queue.leave(flow, 1, answered=True)
        now = 9.0
        return [*seen, queue.unanswered_seconds()]

    assert asyncio.run(run()) == [3.0, 0.0, 1.5, 0.0]
