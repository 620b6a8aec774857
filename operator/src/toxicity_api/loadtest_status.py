"""`status.loadTest`: the figures that the load test writes under its own field manager.

Fields added after the first release are optional, so that a status of an older version can be read.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxicity_api.base import Document


class BucketResult(Document):
    """Load test figures of one length bucket. Latencies are exact, in seconds, of successful requests."""

    name: str = Field(
        description="Name of the length bucket: its shortest and longest length in bucketUnit, such as 1-100. The"
        " mixed lengths have the name `mixed`."
    )
    requests: int = Field(description="Number of requests sent in the measured window.")
    failures: int = Field(description="Number of these requests that failed.")
    actual_rps: float = Field(description="Successful requests per second of the measured window.")
    requested_rps: float | None = Field(None, description="Requests per second that the measured window offered.")
    omitted: int | None = Field(
        None,
        description="Number of scheduled requests that were not sent before the end of the window, at the limit of open"
        " requests.",
    )
    delayed: int | None = Field(
        None,
        description="Number of requests that were sent late or omitted because the limit of open requests was reached.",
    )
    open_requests_peak: int | None = Field(
        None, description="Largest number of requests that waited for an answer at the same time."
    )
    p50_seconds: float | None = Field(
        None, description="Median latency of the successful requests, in seconds. Unset without a success."
    )
    p95_seconds: float | None = Field(
        None, description="95th percentile of the same latency, in seconds. Unset without a success."
    )
    p99_seconds: float | None = Field(
        None, description="99th percentile of the same latency, in seconds. Unset without a success."
    )
    p50_corrected_seconds: float | None = Field(
        None,
        description="Median latency counted from the scheduled start, in seconds. It includes omitted requests"
        " (correction for coordinated omission).",
    )
    p95_corrected_seconds: float | None = Field(
        None, description="95th percentile of the corrected latency, in seconds."
    )
    p99_corrected_seconds: float | None = Field(
        None, description="99th percentile of the corrected latency, in seconds."
    )
    p95_corrected_low_seconds: float | None = Field(
        None, description="Lower end of the 95 % confidence interval of p95CorrectedSeconds."
    )
    p95_corrected_high_seconds: float | None = Field(
        None, description="Upper end of the 95 % confidence interval of p95CorrectedSeconds."
    )
    backlog_grows: bool | None = Field(
        None,
        description="Whether the number of unanswered requests grew during the window, so the service cannot carry this"
        " rate.",
    )
    lag_p95_seconds: float | None = Field(
        None, description="95th percentile of the load generator's own delay, in seconds."
    )
    lag_max_seconds: float | None = Field(None, description="Largest delay of the load generator, in seconds.")
    max_rps_within_slo: float | None = Field(
        None,
        description="Highest rate within slo that mode search found, in requests per second. 0 means that no tested"
        " rate met slo.",
    )
    lowest_rps_beyond_slo: float | None = Field(
        None,
        description="Lowest rate that mode search tested and that did not meet slo. The highest rate that does is"
        " between maxRpsWithinSlo and this one. Unset if every tested rate met slo.",
    )


class Conclusions(Document):
    """Conclusions for capacity planning. docs/explanation/load-test.md lists the formulas."""

    mixed_rps_per_replica: float = Field(
        description="Requests per second that one replica carries with the dataset's mix of text lengths. `basis` and"
        " `source` state what this figure is."
    )
    basis: Literal["search", "lowerBound", "throughput"] = Field(
        description="Meaning of mixedRpsPerReplica: the highest rate within slo (search), a rate within slo that is"
        " not the highest (lowerBound), or a rate whose latency exceeds slo (throughput)."
    )
    source: Literal["mix", "buckets"] | None = Field(
        None,
        description="Where mixedRpsPerReplica comes from: measured on the mix of lengths (mix), or computed from the"
        " length buckets because the mix carried nothing (buckets).",
    )
    buckets_rps_per_replica: float | None = Field(
        None,
        description="The same figure computed from the length buckets and their shares, as a cross-check. Unset if a"
        " bucket with texts of the dataset carried nothing.",
    )
    buckets_basis: Literal["search", "lowerBound", "throughput"] | None = Field(
        None, description="Meaning of bucketsRpsPerReplica: lowerBound if it is one for any bucket."
    )
    share_beyond_max_length: float = Field(
        description="Share of the dataset's texts that are longer than maxLength. They count to the"
        " longest bucket."
    )
    replicas_needed: int = Field(description="Number of replicas needed to carry slo.rps.")
    in_flight_target: float | None = Field(
        None,
        description="Suggested target of an autoscaler, in requests in flight per replica, at least 1: 80 % of the"
        " number at mixedRpsPerReplica. With basis lowerBound it is a lower bound too.",
    )
    cpu_percent_target: int | None = Field(
        None,
        description="Suggested CPU target of an autoscaler for a CPU-bound engine, in percent of the pod's request."
        " It is computed from the limit and the request, not measured.",
    )
    predicted_rps: float | None = Field(
        None,
        description="Requests per second of mixed lengths that the previous run predicts for these replicas. Unset"
        " without a previous run of the same version with the same arrivals and objective, or if it found only a lower"
        " bound.",
    )
    measured_rps: float | None = Field(
        None,
        description="Requests per second of mixed lengths that these replicas carried in this run. Unset if the two"
        " runs have a different basis.",
    )
    prediction_error: float | None = Field(
        None, description="Relative error of the prediction: measuredRps / predictedRps - 1."
    )


class Baseline(Document):
    """The last complete run before this one, with what a comparison needs."""

    fingerprint: str = Field(description="Fingerprint of that run.")
    serving_fingerprint: str | None = Field(None, description="Fingerprint of the version that it measured.")
    finished_at: str | None = Field(None, description="End time of that run, RFC 3339.")
    mode: Literal["fixed", "search"] | None = Field(None, description="Mode of that run.")
    arrivals: Literal["poisson", "uniform", "trace"] | None = Field(
        None, description="Distribution of the arrival times."
    )
    route: Literal["classify", "openai", "perspective"] | None = Field(
        None, description="Route that got the requests."
    )
    texts_per_request: int | None = Field(None, description="Number of texts in each request.")
    bucket_unit: Literal["characters", "tokens"] | None = Field(None, description="Unit of the lengths.")
    slo_p95_seconds: float | None = Field(None, description="Objective of that run, in seconds.")
    replicas: int | None = Field(None, description="Number of ready replicas of that run.")
    mixed: BucketResult = Field(description="Figures for the mix of text lengths.")


class Comparison(Document):
    """What changed since the previous complete run with the same load, mode, objective and replicas."""

    regressed: bool = Field(
        description="Whether the mix became slower, or its capacity lower, by more than 5 % and beyond the intervals of"
        " both runs."
    )
    p95_change: float | None = Field(
        None, description="Relative change of p95CorrectedSeconds of the mix. Set in mode fixed."
    )
    capacity_change: float | None = Field(
        None, description="Relative change of maxRpsWithinSlo of the mix. Set in mode search."
    )
    message: str = Field(description="The two figures with their intervals.")


class LoadTestStatus(Document):
    """Figures that the load test writes under its own field manager, bucket by bucket."""

    fingerprint: str = Field(description="Fingerprint of the run that wrote these figures.")
    run_id: str = Field(description="Value of loadTest.runId in the spec.")
    state: Literal["Running", "Complete", "Partial", "Failed"] = Field(
        description="State of the run. Partial means that a worker was lost, so the figures are incomplete."
    )
    message: str | None = Field(None, description="Cause of a failure, or of missing files.")
    mode: Literal["fixed", "search"] | None = Field(None, description="Mode of the run.")
    partial: bool | None = Field(None, description="Whether a worker was lost, so that figures are missing.")
    serving_fingerprint: str | None = Field(
        None, description="Fingerprint of the served version that was measured."
    )
    started_at: str | None = Field(None, description="Start time of the run, RFC 3339.")
    finished_at: str | None = Field(None, description="End time of the run, RFC 3339.")
    users: int = Field(description="Number of users that offered the load, each with at most one open request.")
    profile: Literal["openLoop", "original"] | None = Field(None, description="Load profile of the run.")
    arrivals: Literal["poisson", "uniform", "trace"] | None = Field(
        None, description="Distribution of the arrival times."
    )
    workers: int | None = Field(None, description="Number of pods that ran the users.")
    requested_rps: float = Field(description="Requests per second that the spec requests.")
    route: Literal["classify", "openai", "perspective"] | None = Field(
        None, description="Route that got the requests."
    )
    texts_per_request: int | None = Field(None, description="Number of texts in each request.")
    bucket_unit: Literal["characters", "tokens"] | None = Field(None, description="Unit of the bucket names.")
    slo_p95_seconds: float | None = Field(None, description="Value of loadTest.slo.p95Seconds in the spec.")
    warmup_requests: int = Field(0, description="Number of requests in the warm-up, which are not measured.")
    requests: int | None = Field(None, description="Number of requests in total, without those of the warm-up.")
    failures: int | None = Field(None, description="Number of these requests that failed.")
    failure_kinds: str | None = Field(None, description="Failures by kind, such as 12 x http error 503.")
    buckets: list[BucketResult] = Field(
        default_factory=list, description="Figures of the length buckets measured so far."
    )
    mixed: BucketResult | None = Field(None, description="Figures for the dataset's own mix of text lengths.")
    actual_rps: float | None = Field(None, description="Successful requests per second over all buckets.")
    p95_seconds: float | None = Field(None, description="95th percentile of latency over all buckets, in seconds.")
    p95_corrected_seconds: float | None = Field(
        None, description="95th percentile of the corrected latency over all buckets, in seconds."
    )
    max_length_at_requested_rps: int | None = Field(
        None,
        description="Upper end, in bucketUnit, of the longest bucket that carried 95 % of slo.rps within slo."
        " Without slo.rps, requestedRps is used.",
    )
    baseline: Baseline | None = Field(None, description="The last complete run before this one.")
    comparison: Comparison | None = Field(
        None, description="Comparison with the baseline. Unset if there is none, or if it is not comparable."
    )
    conclusions: Conclusions | None = Field(None, description="Conclusions from a complete run.")
    replicas_at_start: int | None = Field(None, description="Number of ready replicas at the start.")
    replicas_at_end: int | None = Field(None, description="Number of ready replicas at the end.")
    replicas_changed: bool | None = Field(
        None,
        description="Whether the number of ready replicas changed during the run. There are then no conclusions,"
        " because the figures are of two services.",
    )
    generator_saturated: bool | None = Field(
        None, description="Whether the load generator was the limit: it ran out of CPU or sent requests late."
    )
    users_exhausted: bool | None = Field(
        None,
        description="Whether requests were omitted at the limit of open requests, so that less than the requested rate"
        " was offered.",
    )
    open_limit_reached: bool | None = Field(
        None,
        description="Whether requests were sent late or omitted at the limit of open requests.",
    )
    generator_ceiling_rps: float | None = Field(
        None, description="Requests per second that the load generator can offer at most, measured before the run."
    )
    artifacts: str | None = Field(
        None, description="Folder in the artifact volume with the record of every request."
    )
