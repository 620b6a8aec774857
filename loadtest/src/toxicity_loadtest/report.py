"""Format the result as a table for the log."""

from __future__ import annotations

from toxicity_api.loadtest_status import BucketResult, Conclusions, LoadTestStatus

HEAD = ("bucket", "requests", "failed", "RPS asked", "actual", "p50 ms", "p95 ms", "p99 ms", "p95 corr")
WIDTHS = (10, 9, 7, 10, 9, 8, 8, 8, 9)


def format_table(status: LoadTestStatus) -> str:
    """Format the figures per bucket in at most 80 columns, with latencies in milliseconds."""
    results = [*status.buckets, *([status.mixed] if status.mixed else [])]
    rows = [HEAD, *(_row(result, status.requested_rps) for result in results)]
    return "\n".join("".join(cell.rjust(width) for cell, width in zip(row, WIDTHS, strict=True)) for row in rows)


def format_facts(status: LoadTestStatus) -> str:
    """Format failures, the generator's state and the conclusions, one per line."""
    ceiling = (
        "unknown" if status.generator_ceiling_rps is None else f"{status.generator_ceiling_rps:.0f} requests/s"
    )
    lines = [
        f"failures: {status.failure_kinds or 'none'}",
        f"generator: {status.arrivals or 'uniform'} arrivals, ceiling {ceiling}, saturated:"
        f" {_word(status.generator_saturated)}, limit of {status.users} open requests reached:"
        f" {_word(status.open_limit_reached)}",
    ]
    if status.comparison is not None:
        word = "worse than" if status.comparison.regressed else "not worse than"
        lines.append(f"{word} the previous run: {status.comparison.message}")
    return "\n".join([*lines, *_conclusion_lines(status.conclusions)])


def _conclusion_lines(found: Conclusions | None) -> list[str]:
    if found is None:
        return []
    lines = [
        f"mixed traffic per replica: {found.mixed_rps_per_replica:.2f} requests/s ({found.basis} of the"
        f" {found.source or 'buckets'}),"
        f" replicas needed: {found.replicas_needed}"
    ]
    if found.in_flight_target is not None:
        lines.append(f"suggested autoscaler target: {found.in_flight_target:g} requests in flight per replica")
    if found.prediction_error is not None:
        lines.append(f"error of the previous run's prediction: {100 * found.prediction_error:+.1f} %")
    return lines


def _row(result: BucketResult, requested_rps: float) -> tuple[str, ...]:
    seconds = (result.p50_seconds, result.p95_seconds, result.p99_seconds, result.p95_corrected_seconds)
    asked = requested_rps if result.requested_rps is None else result.requested_rps
    return (
        result.name,
        str(result.requests),
        str(result.failures),
        f"{asked:.2f}",
        f"{result.actual_rps:.2f}",
        *(_milliseconds(value) for value in seconds),
    )


def _word(fact: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[fact]


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}"
