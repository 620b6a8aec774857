"""Draw conclusions for capacity planning from the figures. docs/explanation/load-test.md derives the formulas.

Mixed lengths: by the utilization law (Denning and Buzen, The Operational Analysis of Queueing Network Models, 1978), a
class of requests with share s and capacity c uses the bottleneck for s / c seconds per request of the mix. The
capacity of the mix is 1 / sum(s / c), the weighted harmonic mean. This figure is a cross-check. The conclusions use
what was measured on the mix itself, and this figure only if the mix carried nothing.

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

MIN_IN_FLIGHT = 1.0
"""Lowest target of an autoscaler, in requests in flight. Below it, one request would already start a replica."""

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
    """Return the upper end, in bucketUnit, of the longest bucket that carried 95 % of the SLO's RPS within the SLO."""
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
    return (asked, "lowerBound") if meets_slo(result, spec.slo, asked) else (result.actual_rps, "throughput")


def conclude(
    results: Sequence[BucketResult],
    shares: Sequence[float],
    mixed: tuple[BucketResult, float | None],
    spec: LoadTestSpec,
    serving: Serving,
    share_beyond: float,
    previous: LoadTestStatus | None,
) -> Conclusions | None:
    """Return the conclusions of a complete run; None if neither the mix nor the buckets carried anything.

    `mixed` has the figures of the mixed window and the mean latency of its successful requests in seconds.
    """
    mixed_result, mean_seconds = mixed
    replicas = max(1, serving.replicas)
    of_buckets, of_mix = _by_buckets(results, shares, spec), capacity(mixed_result, spec)
    total, basis = of_mix if of_mix[0] > 0 else of_buckets or of_mix
    if total <= 0:
        return None
    per_replica, is_of_mix = total / replicas, of_mix[0] > 0
    predicted, measured = _prediction(of_mix, replicas, previous)
    in_flight = HEADROOM * per_replica * mean_seconds if is_of_mix and mean_seconds is not None else None
    return Conclusions(
        mixed_rps_per_replica=round(per_replica, 4),
        basis=basis,
        source="mix" if is_of_mix else "buckets",
        buckets_rps_per_replica=of_buckets and round(of_buckets[0] / replicas, 4),
        buckets_basis=of_buckets and of_buckets[1],
        share_beyond_max_length=round(share_beyond, 4),
        replicas_needed=math.ceil((spec.slo.rps or spec.requested_rps) / per_replica - 1e-9),
        in_flight_target=None if in_flight is None else max(MIN_IN_FLIGHT, round(in_flight, 2)),
        cpu_percent_target=_cpu_percent(serving),
        predicted_rps=predicted,
        measured_rps=measured,
        prediction_error=None if not predicted or measured is None else round(measured / predicted - 1, 4),
    )


def _by_buckets(
    results: Sequence[BucketResult], shares: Sequence[float], spec: LoadTestSpec
) -> tuple[float, Basis] | None:
    """Return the capacity of the mix by the utilization law and its meaning; None if a bucket carried nothing.

    With a lower bound among the capacities, the mean is a lower bound too.
    """
    used = [(share, *capacity(result, spec)) for result, share in zip(results, shares, strict=True) if share > 0]
    total = mixed_capacity([share for share, _, _ in used], [rps for _, rps, _ in used])
    if total is None:
        return None
    found = {basis for _, _, basis in used}
    order: tuple[Basis, ...] = ("lowerBound", "throughput", "search")
    return total, next(basis for basis in order if basis in found)


def _cpu_percent(serving: Serving) -> int | None:
    """Return a CPU target in percent of the request. A CPU-bound engine at capacity uses its limit."""
    ratio = serving.cpu_limit_over_request
    return None if ratio is None else round(100 * HEADROOM * ratio)


def _prediction(
    of_mix: tuple[float, Basis], replicas: int, previous: LoadTestStatus | None
) -> tuple[float | None, float | None]:
    """Return the rate that the previous run predicts for these replicas, and the rate they carried.

    A lower bound is neither a prediction nor a measurement, since requestedRps limits it. The rate within the SLO and
    the throughput beyond it are different quantities, so both runs must have measured the same one.
    """
    before = previous.conclusions if previous else None
    if before is None or before.basis == "lowerBound" or (before.basis == "throughput" and before.source != "mix"):
        return None, None
    measured, basis = of_mix
    predicted = round(before.mixed_rps_per_replica * replicas, 4)
    return predicted, measured if basis == before.basis and measured > 0 else None
