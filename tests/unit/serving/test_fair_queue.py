"""Test the queue before the engine: a large request holds up no small one, and no prompt is lost or counted twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from statistics import quantiles

import pytest

from toxicity_serving.fair_queue import LOOKAHEAD_SECONDS, MIN_TOKENS, FairQueue, Flow, Turn


class Engine:
    """Finishes one prompt at a time, oldest first, at `speed` tokens per second of its own clock."""

    def __init__(self, speed: float, max_prompts: int = 256) -> None:
        self.now = 0.0
        self.queue = FairQueue(max_prompts, None, lambda: self.now)
        self.finished: list[tuple[str, float]] = []
        self.most_prompts = self.most_tokens = 0
        self._speed = speed
        self._prompts: list[tuple[str, Turn]] = []

    async def ask(self, name: str, flow: Flow | None, tokens: int) -> None:
        """Flow None means a request of this prompt alone."""
        flow = flow or self.queue.flow(tokens)
        self._prompts.append((name, await self.queue.enter(flow, tokens)))
        self.most_prompts = max(self.most_prompts, len(self._prompts))
        self.most_tokens = max(self.most_tokens, sum(turn.tokens for _, turn in self._prompts))

    async def step(self) -> bool:
        """Finish the oldest prompt. Returns False when there is none."""
        for _ in range(3):
            await asyncio.sleep(0)
        if not self._prompts:
            return False
        name, turn = self._prompts.pop(0)
        self.now += turn.tokens / self._speed
        self.queue.leave(turn, answered=True)
        self.finished.append((name, self.now))
        return True


def test_single_text_overtakes_a_batch() -> None:
    async def run() -> float:
        engine = Engine(speed=2000)
        batch = engine.queue.flow(300 * 500)
        tasks = [asyncio.create_task(engine.ask("batch", batch, 500)) for _ in range(300)]
        for _ in range(20):
            await engine.step()
        asked = engine.now
        tasks.append(asyncio.create_task(engine.ask("single", None, 40)))
        while await engine.step():
            pass
        await asyncio.gather(*tasks)
        assert Counter(name for name, _ in engine.finished) == {"batch": 300, "single": 1}
        return dict(engine.finished)["single"] - asked

    assert asyncio.run(run()) < 2 * LOOKAHEAD_SECONDS, "in the order of arrival it would take 70 seconds"


def test_batch_gets_its_share_of_an_endless_stream_of_single_texts() -> None:
    async def run() -> float:
        engine, number = Engine(speed=2000), 0
        batch = engine.queue.flow(100 * 500)
        tasks = [asyncio.create_task(engine.ask("batch", batch, 500)) for _ in range(100)]
        for _ in range(2000):
            while number < len(engine.finished) + 10:  # ten clients, each with the next text at once
                tasks.append(asyncio.create_task(engine.ask("single", None, 50)))
                number += 1
            await engine.step()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        done = Counter(name for name, _ in engine.finished)
        return done["batch"] * 500 / (done["batch"] * 500 + done["single"] * 50)

    assert 0.08 < asyncio.run(run()) < 0.4, (
        "one of eleven requests, and the engine takes one of its prompts at a time"
    )


class SteppingEngine:
    """Computes all prompts at once, in steps of at most `chunk` tokens of each, as vLLM does with a chunked prefill.

    A step takes as long as measured with a Gemma 3 270M on two cores.
    """

    def __init__(self, chunk: int) -> None:
        self.now, self._chunk = 0.0, chunk
        self.queue = FairQueue(1024, chunk, lambda: self.now)
        self._left: dict[asyncio.Future[None], int] = {}

    async def compute(self, flow: Flow, tokens: int) -> None:
        turn = await self.queue.enter(flow, tokens)
        computed = asyncio.get_running_loop().create_future()
        self._left[computed] = tokens
        answered = False
        try:
            await computed
            answered = True
        finally:
            self._left.pop(computed, None)
            self.queue.leave(turn, answered=answered)

    async def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            await asyncio.sleep(0)

    async def run(self, until: float) -> None:
        while self.now < until:
            for _ in range(10):
                await asyncio.sleep(0)
            begun = {prompt: min(left, self._chunk) for prompt, left in self._left.items()}
            self.now += 0.02 + 0.0006 * sum(begun.values())
            for prompt, tokens in begun.items():
                if prompt in self._left:
                    self._left[prompt] -= tokens
                    if not self._left[prompt]:
                        prompt.set_result(None)


@pytest.mark.parametrize("singles", [0, 16])
def test_batches_get_their_share_and_the_engine_is_busy(singles: int) -> None:
    """32 clients with requests of 100 to 500 tokens, of which some are small, or 16 of them beside 16 single texts."""

    async def run() -> tuple[float, float]:
        engine, chance, computed = SteppingEngine(chunk=64), random.Random(3), Counter[str]()

        async def ask(name: str, texts: int) -> None:
            flow = engine.queue.flow(50 * texts)
            await asyncio.gather(*(engine.compute(flow, 50) for _ in range(texts)))
            computed[name] += 50 * texts

        async def client(name: str) -> None:
            while True:
                await ask(name, chance.randint(2, 10) if name == "batch" else 1)
                await engine.pass_time(chance.uniform(0.001, 0.01))

        names = ["single"] * singles + ["batch"] * (32 - singles)
        tasks = [asyncio.create_task(client(name)) for name in names]
        await engine.run(until=120)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return computed.total() / 120, computed["batch"] / computed.total()

    speed, of_batches = asyncio.run(run())
    assert speed > 1400, "with 1 024 tokens a step it would be 1 613 tokens per second"
    assert of_batches > (0.4 if singles else 0.99)


async def p95_of_single_texts(lengths: Callable[[random.Random], int], batches: list[list[int]]) -> float:
    """The p95 of eight clients with one text after the other, beside clients with a batch of texts after the other."""
    engine, chance, seconds = SteppingEngine(chunk=64), random.Random(5), []

    async def single() -> None:
        while True:
            asked, tokens = engine.now, lengths(chance)
            await engine.compute(engine.queue.flow(tokens), tokens)
            seconds.append(engine.now - asked)
            await engine.pass_time(chance.uniform(0.001, 0.01))  # at times, none of them has a text here

    async def batch(windows: list[int]) -> None:
        while True:
            flow = engine.queue.flow(sum(windows))
            await asyncio.gather(*(engine.compute(flow, tokens) for tokens in windows))

    tasks = [asyncio.create_task(single()) for _ in range(8)]
    tasks += [asyncio.create_task(batch(windows)) for windows in batches]
    await engine.run(until=120)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return quantiles(seconds, n=20)[-1]


@pytest.mark.parametrize("lengths", [lambda _: 17, lambda chance: min(250, int(chance.lognormvariate(3.7, 0.75)))])
@pytest.mark.parametrize("windows", [[511] * 100, [200] * 250, [60] * 500, [511, 300, 20] * 40])
def test_batches_do_not_double_the_p95_of_single_texts(
    lengths: Callable[[random.Random], int], windows: list[int]
) -> None:
    alone = asyncio.run(p95_of_single_texts(lengths, []))
    assert asyncio.run(p95_of_single_texts(lengths, [windows] * 3)) < 2 * alone


@pytest.mark.parametrize("speed", [100, 100_000])
def test_engine_has_work_for_half_a_second(speed: float) -> None:
    async def run() -> Engine:
        engine = Engine(speed, max_prompts=10_000)
        tasks = [asyncio.create_task(engine.ask("", None, 50)) for _ in range(3000)]
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
        tasks = [asyncio.create_task(small.ask("", None, 1)) for _ in range(50)]
        tasks += [asyncio.create_task(long.ask("", None, 10 * MIN_TOKENS)) for _ in range(3)]
        while await small.step() or await long.step():
            pass
        await asyncio.gather(*tasks)
        return small.most_prompts, long.most_prompts

    assert asyncio.run(run()) == (7, 1)


@pytest.mark.parametrize("seed", range(20))
def test_cancelled_prompts_leave_no_trace(seed: int) -> None:
    """Random cancellations: before the turn, at the same moment, and in the engine."""

    async def run() -> tuple[int, float]:
        chance, queue = random.Random(seed), FairQueue(3, 100)

        async def use(flow: Flow, tokens: int) -> None:
            turn = await queue.enter(flow, tokens)
            answered = False
            try:
                await asyncio.sleep(0)
                answered = True
            finally:
                queue.leave(turn, answered=answered)

        flows = [queue.flow(tokens) for tokens in (10, 200, 900, 5000, 100_000)]
        tasks = [asyncio.create_task(use(chance.choice(flows), chance.randint(1, 900))) for _ in range(60)]
        while not all(task.done() for task in tasks):
            chance.choice(tasks).cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [flow.prompts for flow in flows] == [0] * 5
        await asyncio.wait_for(use(queue.flow(10_000), 10_000), 1)
        return queue.in_engine, queue.unanswered_seconds()

    assert asyncio.run(run()) == (0, 0.0)


def test_only_an_answer_ends_the_time_for_which_the_engine_owes_one() -> None:
    async def run() -> list[float]:
        now = 0.0
        queue, seen = FairQueue(4, None, lambda: now), []
        flow = queue.flow(4)
        cancelled = await queue.enter(flow, 1)
        now = 2.0
        queue.leave(cancelled, answered=False)
        now = 3.0
        seen.append(queue.unanswered_seconds())
        first, second = await queue.enter(flow, 1), await queue.enter(flow, 1)
        now = 4.0
        queue.leave(first, answered=True)
        seen.append(queue.unanswered_seconds())
        now = 5.5
        seen.append(queue.unanswered_seconds())
        queue.leave(second, answered=True)
        now = 9.0
        return [*seen, queue.unanswered_seconds()]

    assert asyncio.run(run()) == [3.0, 0.0, 1.5, 0.0]
