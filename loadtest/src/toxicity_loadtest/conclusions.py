"""What a capacity planner reads out of the figures; pure. docs/explanation/load-test.md derives the formulas.

The mix: by the utilisation law (Denning and Buzen, The Operational Analysis of Queueing Network Models, 1978) a class
of requests with share s and capacity c keeps the bottleneck busy for s / c seconds per request of the mix, so the mix's
capacity is 1 / sum(s / c), the weighted harmonic mean. Requests in flight: Little's law, L = rate x mean latency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from toxicity_api.buckets import Bucket
from toxicity_api.loadtest_status import BucketResult, Conclusions, LoadTestStatus
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.figures import REACHED_SHARE, meets_slo

HEADROOM = 0.8
"""Share of a replica's capacity at which to scale, so that it still answers in time while another one starts."""

Basis = Literal["search", "lowerBound", "throughput"]


@dataclass(frozen=True)
class Serving:
    """What served the run. `cpu_limit_over_request` is None where the container has no limit or no request."""

    replicas: int
    cpu_limit_over_request: float | None = None


def mixed_capacity(shares: Sequence[float], capacities: Sequence[float]) -> float | None:
    """Weighted harmonic mean of capacities over the buckets that have a share; None when one of them has none."""
    parts = [(share, capacity) for share, capacity in zip(shares, capacities, strict=True) if share > 0]
    if not parts or any(capacity <= 0 for _, capacity in parts):
        return None
    return 1 / sum(share / capacity for share, capacity in parts)


def max_length_at_requested_rps(results: Sequence[tuple[Bucket, BucketResult]], spec: LoadTestSpec) -> int | None:
    """Upper edge of the longest bucket that carried 95 % of the SLO's RPS within the SLO."""
    wanted = spec.slo.rps or spec.requested_rps
    return max((bucket.high for bucket, result in results if _carries(result, spec, wanted)), default=None)


def _carries(result: BucketResult, spec: LoadTestSpec, wanted: float) -> bool:
    if result.max_rps_within_slo is not None:
        return result.max_rps_within_slo >= REACHED_SHARE * wanted
    return meets_slo(result, spec.slo, wanted)


def capacity(result: BucketResult, spec: LoadTestSpec) -> tuple[float, Basis]:
    """Requests/s that were carried, and what that figure is.

    Searched: the highest rate within the objective. Fixed and within: at least the rate reached. Fixed and beyond:
    the rate reached all the same, whose latency the objective does not allow.
    """
    if result.max_rps_within_slo is not None:
        return result.max_rps_within_slo, "search"
    asked = result.requested_rps or spec.requested_rps
    return result.actual_rps, "lowerBound" if meets_slo(result, spec.slo, asked) else "throughput"


def conclude(
    results: Sequence[BucketResult],
    shares: Sequence[float],
    mixed: tuple[BucketResult, float | None],
    spec: LoadTestSpec,
    serving: Serving,
    share_beyond: float,
    previous: LoadTestStatus | None,
) -> Conclusions | None:
    """The conclusions of a complete run; None when a bucket that occurs in the data set carried nothing.

    `mixed` is the mixed window's figures with the mean latency in seconds of its successes.
    """
    capacities = [capacity(result, spec) for result in results]
    total = mixed_capacity(shares, [rps for rps, _ in capacities])
    if total is None:
        return None
    per_replica = total / max(1, serving.replicas)
    mixed_result, mean_seconds = mixed
    predicted, measured = _prediction(mixed_result, spec, serving.replicas, previous)
    return Conclusions(
        mixed_rps_per_replica=round(per_replica, 4),
        basis=_weakest([basis for (_, basis), share in zip(capacities, shares, strict=True) if share > 0]),
        share_beyond_max_length=round(share_beyond, 4),
        replicas_needed=_replicas_needed(per_replica, mixed_result, spec, serving.replicas),
        in_flight_target=None if mean_seconds is None else round(HEADROOM * per_replica * mean_seconds, 2),
        cpu_percent_target=_cpu_percent(serving),
        predicted_rps=predicted,
        measured_rps=measured,
        prediction_error=None if not predicted or measured is None else round(measured / predicted - 1, 4),
    )


def _replicas_needed(per_replica: float, mixed: BucketResult, spec: LoadTestSpec, replicas: int) -> int:
    """For the SLO's RPS by the capacity of one; never more than have just carried it within the objective."""
    wanted = spec.slo.rps or spec.requested_rps
    needed = math.ceil(wanted / per_replica - 1e-9)
    carried = mixed.max_rps_within_slo is None and meets_slo(mixed, spec.slo, wanted)
    return min(needed, max(1, replicas)) if carried else needed


def _weakest(bases: Sequence[Basis]) -> Basis:
    order: tuple[Basis, ...] = ("search", "lowerBound", "throughput")
    return max(bases, key=order.index)


def _cpu_percent(serving: Serving) -> int | None:
    """A CPU-bound engine uses its whole limit at capacity; the autoscaler counts in per cent of the request."""
    ratio = serving.cpu_limit_over_request
    return None if ratio is None else round(100 * HEADROOM * ratio)


def _prediction(
    mixed: BucketResult, spec: LoadTestSpec, replicas: int, previous: LoadTestStatus | None
) -> tuple[float | None, float | None]:
    """What the run before said these replicas carry, and what they carried.

    A lower bound predicts nothing; and a fixed rate that was carried within the objective measures a capacity only
    when it lies above the predicted one.
    """
    if previous is None or previous.conclusions is None or previous.conclusions.basis == "lowerBound":
        return None, None
    predicted = round(previous.conclusions.mixed_rps_per_replica * max(1, replicas), 4)
    measured, basis = capacity(mixed, spec)
    return predicted, measured if basis != "lowerBound" or measured >= predicted else None
