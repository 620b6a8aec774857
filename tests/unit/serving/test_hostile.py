"""Test that ordinary clients are served beside hostile ones, and that nothing is left of those afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from support.serving.hostile import hostile_clients, measure
from support.serving.word_engine import CONFIG, WordEngine, ready, samples, wait
from toxicity_serving.http import app
from toxicity_serving.http.connection import ConnectionLimits
from toxicity_serving.http.middleware.body_limit import MemoryBudget

LIMITS = ConnectionLimits(idle=2, head=1, write=1)
TOKEN_SECONDS = 1e-5


class SlowEngine(WordEngine):
    """Computes one prompt at a time, so that a batch of long texts takes seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = asyncio.Lock()

    async def label_logits(self, prompt_ids: list[int], *, large: bool = False) -> tuple[float, float]:
        async with self._turn:
            await asyncio.sleep(TOKEN_SECONDS * len(prompt_ids))
            return await super().label_logits(prompt_ids)


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> MemoryBudget:
    budget = MemoryBudget(app.MAX_BUFFERED_BYTES)
    monkeypatch.setattr(app, "MemoryBudget", lambda _: budget)
    return budget


@pytest.fixture
def client(budget: MemoryBudget) -> Iterator[httpx.Client]:
    with ready(SlowEngine(), config=CONFIG.model_copy(update={"max_num_seqs": 4}), limits=LIMITS) as client:
        yield client


def test_ordinary_clients_are_served_beside_hostile_ones(client: httpx.Client, budget: MemoryBudget) -> None:
    with hostile_clients(client.base_url):
        traffic = measure(client.base_url, clients=3, seconds=2.5)
    assert set(traffic.statuses) == {200} and traffic.statuses[200] > 3
    wait(lambda: samples(client)["toxicity_requests_in_flight"] == 0)
    assert samples(client)["toxicity_queue_depth"] == 0
    assert budget.left == app.MAX_BUFFERED_BYTES
