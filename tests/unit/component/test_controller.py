"""Scheduling of passes: one at a time per resource, none lost, none for a deleted resource."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from support.builders import SETTINGS, a_model, progress
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import drive, status
from toxicity_api.progress import progress_line
from toxicity_operator.errors import ClusterError
from toxicity_operator.runtime.controller import Controller
from toxicity_operator.settings import OperatorSettings

KEY = ("default", "ru-toxicity")


class SlowCluster(FakeCluster):
    """Cluster that blocks every pass until it is released, and records how many run at once."""

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__(model)
        self.gate = threading.Event()
        self.looking = 0
        self.most = 0

    def get_model(self, namespace: str, name: str) -> Any:
        self.looking += 1
        self.most = max(self.most, self.looking)
        found = super().get_model(namespace, name)
        assert self.gate.wait(10)
        self.looking -= 1
        return found


def test_triggers_that_come_during_a_pass_make_exactly_one_more() -> None:
    cluster = SlowCluster(a_model().raw())

    async def scenario() -> None:
        controller = Controller(cluster, SETTINGS)
        first = asyncio.create_task(controller.trigger(KEY))
        while cluster.looks == 0:
            await asyncio.sleep(0.001)
        more = [asyncio.create_task(controller.trigger(KEY)) for _ in range(10)]
        await asyncio.sleep(0)
        cluster.gate.set()
        await asyncio.gather(first, *more)

    asyncio.run(scenario())
    # the first pass writes, so it looks twice
    assert (cluster.looks, cluster.most) == (3, 1)
    assert len(cluster.names_of("Job")) == 1


class BrokenCluster(FakeCluster):
    """Cluster that raises an unexpected exception once."""

    broken = True

    def list_children(self, namespace: str, name: str) -> Any:
        if self.broken:
            self.broken = False
            raise RuntimeError("a defect")
        return super().list_children(namespace, name)


def test_resync_tries_again_after_a_failure_nobody_expected() -> None:
    cluster = BrokenCluster(a_model().raw())
    settings = OperatorSettings(SETTINGS.images, resync_seconds=0.01)

    async def scenario() -> None:
        controller = Controller(cluster, settings)
        controller.start()
        await asyncio.gather(controller.trigger(KEY), return_exceptions=True)
        async with asyncio.timeout(10):
            while not cluster.names_of("Job"):
                await asyncio.sleep(0.005)
        assert controller.is_alive()
        controller.stop()

    asyncio.run(scenario())


class RefusingCluster(FakeCluster):
    """Cluster whose API server does not respond at first."""

    away = True

    def create(self, body: Any) -> None:
        if self.away:
            self.away = False
            raise ClusterError("no answer", 0)
        super().create(body)


def test_pass_that_failed_is_followed_by_another_soon() -> None:
    cluster = RefusingCluster(a_model().raw())
    settings = OperatorSettings(SETTINGS.images, resync_seconds=1000)

    async def scenario() -> None:
        controller = Controller(cluster, settings)
        controller.start()
        await controller.trigger(KEY)
        assert not cluster.names_of("Job")
        async with asyncio.timeout(10):
            while not cluster.names_of("Job"):
                await asyncio.sleep(0.05)
        controller.stop()

    asyncio.run(scenario())


def test_resource_that_is_gone_is_not_looked_at_again() -> None:
    cluster = FakeCluster(a_model().raw())
    cluster.model = None

    async def scenario() -> Controller:
        controller = Controller(cluster, SETTINGS)
        await controller.trigger(KEY)
        return controller

    assert not asyncio.run(scenario()).knows(KEY)


def test_late_triggers_of_a_resource_that_is_gone_leave_nothing_behind() -> None:
    cluster = FakeCluster(a_model().raw())

    async def scenario() -> Controller:
        controller = Controller(cluster, SETTINGS)
        await controller.trigger(KEY)
        assert controller.knows(KEY)
        cluster.model = None
        await asyncio.gather(*(controller.trigger(KEY) for _ in range(5)))
        await controller.trigger(KEY)
        return controller

    controller = asyncio.run(scenario())
    left = [name for name, value in vars(controller).items() if isinstance(value, set | dict) and KEY in value]
    assert left == []


PROGRESS_ONLY = OperatorSettings(SETTINGS.images, resync_seconds=1000, progress_seconds=0.005)


def test_progress_of_a_training_is_followed_without_any_event() -> None:
    cluster = drive(a_model(), 0)
    cluster.run_pod("train", progress_line(progress(10)))

    async def scenario() -> None:
        controller = Controller(cluster, PROGRESS_ONLY)
        controller.start()
        await controller.trigger(KEY)
        assert status(cluster)["training"]["progress"]["step"] == 10
        cluster.run_pod("train", progress_line(progress(20)))
        async with asyncio.timeout(10):
            while status(cluster)["training"]["progress"]["step"] != 20:
                await asyncio.sleep(0.005)
        assert controller.is_alive()
        controller.stop()

    asyncio.run(scenario())


def test_resource_that_does_not_train_is_not_looked_at_more_often() -> None:
    cluster = drive(a_model())
    before = cluster.looks

    async def scenario() -> None:
        controller = Controller(cluster, PROGRESS_ONLY)
        controller.start()
        await controller.trigger(KEY)
        await asyncio.sleep(0.1)
        controller.stop()

    asyncio.run(scenario())
    assert cluster.looks == before + 1
