"""Draw conclusions for capacity planning from the figures. docs/explanation/load-test.md derives the formulas.

Mixed lengths: by the utilization law (Denning and Buzen, The Operational Analysis of Queueing Network Models, 1978), a
class of requests with share s and capacity c uses the bottleneck for s / c seconds per request of the mix. The
capacity of the mix is 1 / sum(s / c), the weighted harmonic mean.

Requests in flight: Little's law, L = rate x mean latency.
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
"""Share of a replica's capacity at which to scale, so that it answers in time while another replica starts."""

Basis = Literal["search", "lowerBound", "throughput"]


@dataclass(frozen=True)
class Serving:
    """The replicas that served the run. `cpu_limit_over_request` is None without a CPU limit or request."""

    replicas: int
    cpu_limit_over_request: float | None = None


def mixed_capacity(shares: Sequence[float], capacities: Sequence[float]) -> float | None:
    """Return the weighted harmonic mean of the capacities of buckets with a share; None if one of them is 0."""
    parts = [(share, capacity) for share, capacity in zip(shares, capacities, strict=True) if share > 0]
    if not parts or any(capacity <= 0 for _, capacity in parts):
        return None
    return 1 / sum(share / capacity for share, capacity in parts)


def max_length_at_requested_rps(results: Sequence[tuple[Bucket, BucketResult]], spec: LoadTestSpec) -> int | None:
    """Return the upper end, in characters, of the longest bucket that carried 95 % of the SLO's RPS within the SLO."""
    wanted = spec.slo.rps or spec.requested_rps
    return max((bucket.high for bucket, result in results if _carries(result, spec, wanted)), default=None)


def _carries(result: BucketResult, spec: LoadTestSpec, wanted: float) -> bool:
    if result.max_rps_within_slo is not None:
        return result.max_rps_within_slo >= REACHED_SHARE * wanted
    return meets_slo(result, spec.slo, wanted)


def capacity(result: BucketResult, spec: LoadTestSpec) -> tuple[float, Basis]:
    """Return the carried requests per second and the meaning of that figure.

    `search`: the highest rate within the SLO. `lowerBound`: the fixed rate, which was within the SLO. `throughput`: the
    rate reached at a fixed rate that missed the SLO.
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
    """Return the conclusions of a complete run; None if a bucket with texts of the dataset carried nothing.

    `mixed` has the figures of the mixed window and the mean latency of its successful requests in seconds.
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
    """Return the replicas needed for the SLO's RPS, at most the replicas that have just carried it within the SLO."""
    wanted = spec.slo.rps or spec.requested_rps
    needed = math.ceil(wanted / per_replica - 1e-9)
    carried = mixed.max_rps_within_slo is None and meets_slo(mixed, spec.slo, wanted)
    return min(needed, max(1, replicas)) if carried else needed


def _weakest(bases: Sequence[Basis]) -> Basis:
    order: tuple[Basis, ...] = ("search", "lowerBound", "throughput")
    return max(bases, key=order.index)


def _cpu_percent(serving: Serving) -> int | None:
    """Return a CPU target in percent of the request. A CPU-bound engine at capacity uses its limit."""
    ratio = serving.cpu_limit_over_request
    return None if ratio is None else round(100 * HEADROOM * ratio)


def _prediction(
    mixed: BucketResult, spec: LoadTestSpec, replicas: int, previous: LoadTestStatus | None
) -> tuple[float | None, float | None]:
    """Return the rate that the previous run predicts for these replicas, and the rate they carried.

    A lower bound is no prediction. A fixed rate within the SLO measures a capacity only above the predicted one.
    """
    if previous is None or previous.conclusions is None or previous.conclusions.basis == "lowerBound":
        return None, None
    predicted = round(previous.conclusions.mixed_rps_per_replica * max(1, replicas), 4)
    measured, basis = capacity(mixed, spec)
    return predicted, measured if basis != "lowerBound" or measured >= predicted else None
