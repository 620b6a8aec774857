"""The reported problems of an operator process, from its first list to its stop."""

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
from toxicity_operator.runtime.process import OperatorProcess

KEY = ("default", "ru-toxicity")


class Lists:
    """Watches of one resource whose initial lists can fail."""

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


def live(lists: Lists, until: Callable[[OperatorProcess], bool]) -> tuple[OperatorProcess, FakeCluster]:
    """Run a process without leader election until a condition holds."""
    cluster = FakeCluster(a_model().raw())

    async def scenario() -> OperatorProcess:
        controller = Controller(cluster, SETTINGS)
        process = OperatorProcess(controller, lists, None, lambda: None, pytest.fail)  # type: ignore[arg-type]
        assert process.problem(300) is None
        process.start()
        async with asyncio.timeout(10):
            while not until(process):
                await asyncio.sleep(0.005)
        process.stop()
        return process

    process = asyncio.run(scenario())
    process.finish()
    return process, cluster


def test_resources_are_looked_after_when_every_kind_is_listed() -> None:
    lists = Lists()
    problems = []

    def acts(process: OperatorProcess) -> bool:
        lists.late = []
        problems.append(process.problem(300))
        lists.late = ["Job", "Pod"]
        problems.append(process.problem(300))
        return problems[-1] is not None

    process, cluster = live(lists, acts)
    assert problems[-2:] == [None, "no successful watch for 300 s: Job, Pod"]
    assert (process.failure, lists.stopped) == (None, True)
    assert len(cluster.names_of("Job")) == 1


def test_refused_list_ends_the_process_with_its_reason() -> None:
    refused = ClusterError("pods is forbidden", 403)
    process, cluster = live(Lists(refused), lambda process: process.stopping.is_set())
    assert process.failure is refused
    assert not cluster.names_of("Job")


def test_defect_in_the_first_lists_makes_the_process_ill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    process, _ = live(Lists(KeyError("a defect")), lambda process: process.problem(300) is not None)
    assert process.problem(300) == "the thread of the initial lists has failed"
