"""The pytest plugins with which the worker orders the tests, ends them in time, and learns which one failed."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

STALLED_SECONDS, SLOWER = 20, 10
"""A test that takes so much longer on the clock than so many times its time without a mutation counts as failed."""


class Failures:
    """A pytest plugin that notes which test failed."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.file.write_text(report.nodeid, encoding="utf-8")


class Chosen:
    """A pytest plugin that runs the tests in a given order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.place = {test: index for index, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.place[item.nodeid])


class Alarm:
    """A pytest plugin that ends the process when a test takes much longer than without a mutation."""

    def __init__(self, clock: Mapping[str, float]) -> None:
        self.clock = clock

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        signal.alarm(math.ceil(STALLED_SECONDS + SLOWER * self.clock.get(item.nodeid, 0)))


class Loop:
    """A pytest plugin that hands over the collected tests and runs none."""

    def __init__(self, act: Callable[[Sequence[pytest.Item]], None]) -> None:
        self.act = act

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.act(session.items)
        return True
