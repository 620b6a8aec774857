"""Builders of records and windows, and a generator that simulates a service."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from toxicity_api.loadtest_status import BucketResult
from toxicity_loadtest.records import Outcome, Record, Window, WindowOrder


def a_record(
    seconds: float = 0.1,
    *,
    start: float = 0.0,
    waited: float = 0.0,
    lag: float = 0.0,
    outcome: Outcome = Outcome.OK,
    status_code: int = 0,
) -> Record:
    """Build a request that waited `waited` seconds for a user and was sent `lag` seconds late by the generator."""
    code = 200 if outcome is Outcome.OK else status_code
    return Record(0, start - lag - waited, start - lag, start, start + seconds, outcome, code)


def a_window(
    *records: Record,
    name: str = "1-100",
    rps: float = 10.0,
    seconds: float = 10.0,
    cpu_share: float = 0.1,
    omitted: Sequence[float] = (),
) -> Window:
    return Window(WindowOrder(number=1, name=name, rps=rps, seconds=seconds), records, omitted, cpu_share)


def a_result(
    actual_rps: float,
    p95_seconds: float | None,
    corrected: float | None = None,
    failures: int = 0,
    asked: float = 10.0,
) -> BucketResult:
    return BucketResult(
        name="x",
        requests=100,
        failures=failures,
        requested_rps=asked,
        actual_rps=actual_rps,
        p95_seconds=p95_seconds,
        p95_corrected_seconds=corrected,
    )


class SimulatedService:
    """A generator that simulates `servers` with one queue. `service_seconds` maps a window's name to seconds.

    The users follow the rules of the real ones: the first free user takes the next slot.
    """

    def __init__(self, service_seconds: Callable[[str], float], users: int = 16, servers: int = 1) -> None:
        self.orders: list[WindowOrder] = []
        self._service_seconds, self._users, self._servers = service_seconds, users, servers

    def offer(self, order: WindowOrder) -> Window:
        self.orders.append(order)
        free_users, free_servers = [0.0] * self._users, [0.0] * self._servers
        records, omitted = [], []
        for slot in range(order.slots):
            free = heapq.heappop(free_users)
            if free >= order.seconds:
                heapq.heappush(free_users, free)
                omitted.append(order.scheduled(slot))
                continue
            start = max(order.scheduled(slot), free)
            end = max(heapq.heappop(free_servers), start) + self._service_seconds(order.name)
            records.append(Record(slot, order.scheduled(slot), start, start, end, Outcome.OK, 200))
            heapq.heappush(free_users, end)
            heapq.heappush(free_servers, end)
        return Window(order, records, omitted, open_peak=min(self._users, len(records)))
