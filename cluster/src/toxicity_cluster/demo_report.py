"""What the demo prints of a status: pure functions that return lines of at most 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from toxicity_api.loadtest_status import BucketResult, LoadTestStatus
from toxicity_api.status import EvaluationStatus, ToxicityModelStatus

BYTES_PER_MB = 1_000_000


def bucket_table(load_test: LoadTestStatus) -> list[str]:
    """A header, one line per length bucket and one for the whole run."""
    header = f"{'CHARACTERS':<12}{'REQUESTS':>9}{'FAILURES':>9}{'RPS':>8}{'P50 s':>9}{'P95 s':>9}{'P99 s':>9}"
    requests = sum(bucket.requests for bucket in load_test.buckets)
    failures = sum(bucket.failures for bucket in load_test.buckets)
    total = f"{'all':<12}{requests:>9}{failures:>9}{_number(load_test.actual_rps, 8, 2)}"
    total += f"{'':>9}{_number(load_test.p95_seconds, 9, 3)}"
    mixed = [_bucket_line(load_test.mixed)] if load_test.mixed else []
    return [header, *(_bucket_line(bucket) for bucket in load_test.buckets), total, *mixed]


def _bucket_line(bucket: BucketResult) -> str:
    latencies = (bucket.p50_seconds, bucket.p95_seconds, bucket.p99_seconds)
    line = f"{bucket.name:<12}{bucket.requests:>9}{bucket.failures:>9}{bucket.actual_rps:>8.2f}"
    return line + "".join(_number(latency, 9, 3) for latency in latencies)


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


def quality_lines(status: ToxicityModelStatus) -> list[str]:
    """F1 and size before and after quantization, and F1 and speed in the serving engine."""
    training, quantization, evaluation = status.training, status.quantization, status.evaluation
    lines = []
    if training is not None:
        lines.append(
            f"trained     F1 {_figure(training.f1)}  macro F1 {_figure(training.macro_f1)}"
            f"  ROC-AUC {_figure(training.roc_auc)}"
            f"  ({training.train_samples} training rows, {training.test_samples} test rows)"
        )
    if quantization is not None and quantization.size_bytes and quantization.original_size_bytes:
        lines.append(
            f"quantized   F1 {_figure(quantization.f1)}  macro F1 {_figure(quantization.macro_f1)}"
            f"  drop {_figure(quantization.f1_drop)}"
            f"  {quantization.original_size_bytes / BYTES_PER_MB:.0f}"
            f" -> {quantization.size_bytes / BYTES_PER_MB:.0f} MB ({quantization.method})"
        )
    if evaluation is not None and evaluation.f1 is not None:
        lines.append(
            f"to serve    F1 {_figure(evaluation.f1)}  (95 %: {_figure(evaluation.f1_low)} to"
            f" {_figure(evaluation.f1_high)}) in {evaluation.engine}{_speed(evaluation)}"
        )
    return lines


def _speed(evaluation: EvaluationStatus) -> str:
    after, before = evaluation.figures, evaluation.original_figures
    if after is None or before is None:
        return ""
    return f"  {after.texts_per_second:.1f} texts/s, {before.texts_per_second:.1f} before quantization"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def load_lines(load_test: LoadTestStatus) -> list[str]:
    """The bucket table, with the offered load above it and the conclusions below."""
    arrivals = f"{load_test.arrivals} arrivals, " if load_test.arrivals else ""
    offered = f"{load_test.requested_rps:g} requests/s, {arrivals}at most {load_test.users} open"
    replicas = f"{load_test.replicas_at_start} replica(s) at start, {load_test.replicas_at_end} at end"
    longest = load_test.max_length_at_requested_rps
    held = "no bucket" if longest is None else f"texts up to {longest} characters"
    lines = [f"{offered}; {replicas}", *bucket_table(load_test), f"reached in time for: {held}"]
    return [*lines, *_conclusion_lines(load_test)]


def _conclusion_lines(load_test: LoadTestStatus) -> list[str]:
    """The throughput of a replica, and the replicas for the requested rate."""
    found = load_test.conclusions
    if found is None:
        return []
    return [
        f"one replica carries {found.mixed_rps_per_replica:.2f} requests/s of the data set's lengths"
        f" ({found.basis})",
        f"replicas for the wanted rate: {found.replicas_needed}",
    ]


def step_table(steps: Sequence[tuple[str, float]]) -> list[str]:
    """The duration of each step and their sum; `steps` are pairs of name and seconds."""
    rows = [*steps, ("all", sum(seconds for _, seconds in steps))]
    return [f"{name:<60}{duration(seconds):>12}" for name, seconds in rows]


def duration(seconds: float) -> str:
    """Format a duration: `4.2 s`, `3 min 07 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
