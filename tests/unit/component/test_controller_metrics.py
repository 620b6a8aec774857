"""The metrics of the controller about its passes."""

from __future__ import annotations

import asyncio
import threading

from support.builders import SETTINGS, a_model
from support.operator.fake_cluster import FakeCluster
from toxicity_api.types import Raw
from toxicity_operator.errors import ClusterError
from toxicity_operator.runtime.controller import Controller

KEY = ("default", "ru-toxicity")


def value(controller: Controller, name: str, **labels: str) -> float:
    found = controller.metrics.registry.get_sample_value(f"toxicity_operator_{name}", labels)
    assert found is not None
    return found


def passes(controller: Controller, count: int) -> None:
    async def scenario() -> None:
        for _ in range(count):
            await controller.trigger(KEY)

    asyncio.run(scenario())


def test_passes_and_resources_are_counted() -> None:
    cluster = FakeCluster(a_model().raw())
    controller = Controller(cluster, SETTINGS)
    passes(controller, 3)
    assert value(controller, "reconciles_total", outcome="changed") == 1
    assert value(controller, "reconciles_total", outcome="unchanged") == 2
    assert (value(controller, "resources"), value(controller, "queue_length")) == (1, 0)
    cluster.model = None
    passes(controller, 1)
    assert value(controller, "reconciles_total", outcome="gone") == 1
    assert value(controller, "resources") == 0


class Refusing(FakeCluster):
    """Cluster that rejects reads."""

    def list_children(self, namespace: str, name: str) -> list[Raw]:
        raise ClusterError("the role is gone", 403)


def test_look_that_is_refused_is_an_error_of_its_kind() -> None:
    controller = Controller(Refusing(a_model().raw()), SETTINGS)
    passes(controller, 1)
    assert value(controller, "reconciles_total", outcome="failed") == 1
    assert value(controller, "errors_total", kind="forbidden") == 1


class Broken(FakeCluster):
    """Cluster that raises an unexpected exception."""

    def list_children(self, namespace: str, name: str) -> list[Raw]:
        raise RuntimeError("a defect")


def test_crash_leaves_nothing_waiting() -> None:
    controller = Controller(Broken(a_model().raw()), SETTINGS)

    async def scenario() -> None:
        await asyncio.gather(*(controller.trigger(KEY) for _ in range(3)), return_exceptions=True)

    asyncio.run(scenario())
    assert value(controller, "reconciles_total", outcome="crashed") == 1
    assert value(controller, "queue_length") == 0


class Held(FakeCluster):
    """Cluster that blocks every pass until it is released."""

    gate = threading.Event()

    def get_model(self, namespace: str, name: str) -> Raw | None:
        found = super().get_model(namespace, name)
        assert self.gate.wait(10)
        return found


def test_trigger_waits_while_a_pass_over_its_resource_runs() -> None:
    cluster = Held(a_model().raw())
    controller = Controller(cluster, SETTINGS)

    async def scenario() -> tuple[float, float]:
        first = asyncio.create_task(controller.trigger(KEY))
        while cluster.looks == 0:
            await asyncio.sleep(0.001)
        begun = value(controller, "queue_length")
        second = asyncio.create_task(controller.trigger(KEY))
        await asyncio.sleep(0)
        waiting = value(controller, "queue_length")
        cluster.gate.set()
        await asyncio.gather(first, second)
        return begun, waiting

    assert asyncio.run(scenario()) == (0, 1)
    assert value(controller, "queue_length") == 0
