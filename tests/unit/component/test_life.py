"""What one operator process says of itself, from its first list to its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from support.builders import SETTINGS, a_model
from support.operator.fake_cluster import FakeCluster
from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.watch import Notify
from toxicity_operator.runtime.controller import Controller
from toxicity_operator.runtime.life import Life

KEY = ("default", "ru-toxicity")


class Lists:
    """Watches of one resource, whose first lists may fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.health = self
        self.late: list[str] = []
        self.stopped = False

    def fill(self) -> None:
        if self.error is not None:
            raise self.error

    def start(self, notify: Notify) -> None:
        notify(KEY)

    def stop(self) -> None:
        self.stopped = True

    def is_alive(self) -> bool:
        return True

    def unfollowed(self, seconds: float) -> list[str]:
        return self.late if seconds == 300 else []


def live(lists: Lists, until: Callable[[Life], bool]) -> tuple[Life, FakeCluster]:
    """One process that acts at once, until a condition holds."""
    cluster = FakeCluster(a_model().raw())

    async def scenario() -> Life:
        controller = Controller(cluster, SETTINGS)
        life = Life(controller, lists, None, lambda: None, pytest.fail)  # type: ignore[arg-type]
        assert life.problem(300) is None
        life.start()
        async with asyncio.timeout(10):
            while not until(life):
                await asyncio.sleep(0.005)
        life.stop()
        return life

    life = asyncio.run(scenario())
    life.finish()
    return life, cluster


def test_resources_are_looked_after_when_every_kind_is_listed() -> None:
    lists = Lists()
    problems = []

    def acts(life: Life) -> bool:
        lists.late = []
        problems.append(life.problem(300))
        lists.late = ["Job", "Pod"]
        problems.append(life.problem(300))
        return problems[-1] is not None

    life, cluster = live(lists, acts)
    assert problems[-2:] == [None, "not followed for 300 s: Job, Pod"]
    assert (life.failure, lists.stopped) == (None, True)
    assert len(cluster.names_of("Job")) == 1


def test_refused_list_ends_the_process_with_its_reason() -> None:
    refused = ClusterError("pods is forbidden", 403)
    life, cluster = live(Lists(refused), lambda life: life.stopping.is_set())
    assert life.failure is refused
    assert not cluster.names_of("Job")


def test_defect_in_the_first_lists_makes_the_process_ill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    life, _ = live(Lists(KeyError("a defect")), lambda life: life.problem(300) is not None)
    assert life.problem(300) == "the first lists have failed"
