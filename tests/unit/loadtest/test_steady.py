"""The steady state of a window: services of known capacity below and above it, stalls, and the interval of p95."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from support.loadtest.windows import SimulatedService, a_record, a_window
from toxicity_api.spec.loadtest import Arrivals
from toxicity_loadtest.records import Outcome, Record, Window, WindowOrder
from toxicity_loadtest.steady import BLOCKS, backlog, backlog_grows, p95_interval


def offered(
    load: float, seconds: float, arrivals: Arrivals = "uniform", servers: int = 1, number: int = 1
) -> Window:
    """A window at `load` times the capacity of a service that takes 0.1 s per request."""
    service = SimulatedService(lambda name: 0.1, users=2000, servers=servers)
    rps = load * servers / 0.1
    return service.offer(WindowOrder(number=number, name="x", rps=rps, seconds=seconds, arrivals=arrivals))


@pytest.mark.parametrize("seconds", [5.0, 30.0])
@pytest.mark.parametrize(("load", "grows"), [(0.5, False), (0.85, False), (1.0, False), (1.1, True), (1.5, True)])
def test_backlog_of_even_arrivals_grows_above_the_capacity_only(load: float, grows: bool, seconds: float) -> None:
    assert backlog_grows(offered(load, seconds)) is grows


@pytest.mark.parametrize(("load", "least", "most"), [(0.5, 0.0, 0.0), (0.85, 0.0, 0.1), (1.2, 0.9, 1.0)])
def test_backlog_of_poisson_arrivals_is_told_from_a_queue(load: float, least: float, most: float) -> None:
    windows = [offered(load, 30.0, "poisson", servers=4, number=number) for number in range(20)]
    assert least <= sum(map(backlog_grows, windows)) / len(windows) <= most


def answered(delay: Callable[[float], float], rps: float = 20.0, seconds: float = 10.0) -> Window:
    """A window of a service that answers a request due at t after delay(t) seconds."""
    order = WindowOrder(number=1, name="x", rps=rps, seconds=seconds)
    records = [Record(n, t, t, t, t + delay(t), Outcome.OK, 200) for n, t in enumerate(order.times)]
    return Window(order, records)


def test_long_latency_and_stalls_are_no_growth() -> None:
    assert not backlog_grows(answered(lambda t: 3.0)), "60 open requests, from the third second on"
    assert not backlog_grows(answered(lambda t: 0.9 if int(20 * t) % 10 == 0 else 0.05)), "two latencies"
    assert not backlog_grows(answered(lambda t: 4.0 - t if 2.0 <= t < 4.0 else 0.05)), "a stall of two seconds"
    assert backlog_grows(answered(lambda t: 0.05 + 0.1 * t)), "every request waits longer than the one before"


def test_omitted_requests_stay_in_the_backlog() -> None:
    window = a_window(a_record(0.1, start=0.0), a_record(2.0, start=1.0), omitted=[2.0, 3.0])
    assert list(backlog(window, np.array([0.0, 0.5, 1.0, 2.5, 9.0]))) == [1, 0, 1, 2, 2]


def of_latencies(values: list[float]) -> Window:
    return a_window(*(a_record(value, start=n / 10) for n, value in enumerate(values)), seconds=len(values) / 10)


def test_interval_contains_the_true_p95_and_narrows_with_more_requests() -> None:
    chance = random.Random(5)
    few, many = (p95_interval(of_latencies([chance.random() for _ in range(n)])) for n in (200, 5000))
    assert few and many
    assert few[0] < 0.95 < few[1] and many[0] < 0.95 < many[1]
    assert many[1] - many[0] < (few[1] - few[0]) / 2


def test_interval_is_wider_when_slow_requests_follow_each_other() -> None:
    chance = random.Random(5)
    values = [1.0 if chance.random() < 0.04 else 0.1 + chance.random() / 10 for _ in range(1000)]
    apart, together = p95_interval(of_latencies(values)), p95_interval(of_latencies(sorted(values)))
    assert apart and together
    assert together[1] == 1.0 > apart[1], "one slow phase may come twice in another run"


def test_interval_needs_a_value_per_block() -> None:
    assert p95_interval(of_latencies([0.1] * (BLOCKS - 1))) is None
    assert p95_interval(of_latencies([0.1] * BLOCKS)) == (0.1, 0.1)
