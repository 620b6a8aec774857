"""Measure one bucket after the other, at the requested rate or by a search for the highest rate within the SLO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from toxicity_api.loadtest_status import BucketResult
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.figures import bucket_result, delayed, generator_saturated, meets_slo, users_exhausted
from toxicity_loadtest.records import WARMUP, Window, WindowOrder
from toxicity_loadtest.search import (
    COARSE,
    Steps,
    Trial,
    has_reached,
    highest_passed,
    lowest_failed,
    next_rps,
)

MAX_RPS = 10_000.0
CEILING_SHARE = 0.8
"""Highest rate of a search as a share of the generator's maximum rate. Above it the generator could be the limit."""


class LoadGenerator(Protocol):
    """The generator's interface, which a run uses."""

    def offer(self, order: WindowOrder) -> Window:
        """Offer one window and return when all its requests have ended. Raises LoadTestError."""


@dataclass(frozen=True)
class Observation:
    """The serving pods at the end of a window: the number of ready replicas, and the CPU of each pod in cores."""

    window: int
    replicas: int | None
    cpu: Mapping[str, float]


@dataclass(frozen=True)
class Measurement:
    """The reported window of a bucket, its figures and what limited it."""

    window: Window
    result: BucketResult
    users_exhausted: bool
    generator_saturated: bool
    open_limit_reached: bool


class WindowRunner:
    """Runs windows with consecutive numbers. `windows` keeps all in order, except the warm-up."""

    def __init__(
        self,
        generator: LoadGenerator,
        spec: LoadTestSpec,
        ceiling: float | None,
        seed: int = 0,
        trace: tuple[float, ...] = (),
    ) -> None:
        """`trace` has arrival times with a mean gap of 1, which are replayed instead of `spec.arrivals`."""
        self.windows: list[Window] = []
        self._generator, self._spec, self._seed, self._trace = generator, spec, seed, trace
        self._max_rps = MAX_RPS if ceiling is None else min(MAX_RPS, CEILING_SHARE * ceiling)
        self._number = 0

    def warm_up(self) -> Window:
        """Offer load that is not measured."""
        return self._generator.offer(self._order(WARMUP, self._spec.requested_rps, self._spec.warmup_seconds))

    def measure(self, name: str, rps: float, steps: Steps = COARSE) -> Measurement:
        """Measure the texts of window `name` at `rps`. In mode search, `rps` is the first rate."""
        if self._spec.mode == "search":
            return self._search(name, rps, steps)
        window = self._offer(name, rps)
        return Measurement(
            window,
            bucket_result(window),
            users_exhausted=users_exhausted([window]),
            generator_saturated=generator_saturated([window]),
            open_limit_reached=delayed(window) > 0,
        )

    def _search(self, name: str, start: float, steps: Steps) -> Measurement:
        tried: dict[float, Window] = {}
        trials: list[Trial] = []
        while (rps := next_rps(trials, start, self._max_rps, steps)) is not None:
            tried[rps] = self._offer(name, rps)
            trials.append(Trial(rps, meets_slo(bucket_result(tried[rps]), self._spec.slo, rps)))
        best, failed = highest_passed(trials), lowest_failed(trials)
        window = tried[min(tried) if best is None else best]
        result = bucket_result(window).model_copy(
            update={"max_rps_within_slo": best or 0.0, "lowest_rps_beyond_slo": failed}
        )
        limits = [window] if failed is None else [window, tried[failed]]
        return Measurement(
            window,
            result,
            users_exhausted=failed is not None and self._lacked_users(tried[failed]),
            generator_saturated=has_reached(trials, self._max_rps) or generator_saturated(limits),
            open_limit_reached=any(delayed(each) for each in limits),
        )

    def _lacked_users(self, window: Window) -> bool:
        """Whether a rate failed only because there were too few users: the answers met the SLO."""
        p95 = bucket_result(window).p95_seconds
        return users_exhausted([window]) and p95 is not None and p95 <= self._spec.slo.p95_seconds

    def _offer(self, name: str, rps: float) -> Window:
        window = self._generator.offer(self._order(name, rps, self._spec.seconds_per_bucket))
        self.windows.append(window)
        return window

    def _order(self, name: str, rps: float, seconds: float) -> WindowOrder:
        self._number += 1
        return WindowOrder(
            number=self._number,
            name=name,
            rps=rps,
            seconds=seconds,
            arrivals=self._spec.arrival_times,
            bursts=self._spec.bursts,
            trace=self._trace,
            seed=self._seed,
        )
