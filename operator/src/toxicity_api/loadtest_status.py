"""`status.loadTest`: what the load test measured. It writes this itself, under its own field manager.

Fields that are newer than the first release are optional, so that a status of before can still be read.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxicity_api.base import Document


class BucketResult(Document):
    """Load test figures of one length bucket. Latencies are of successful requests, exact, in seconds."""

    name: str = Field(description="name of the bucket, its characters: low-high.")
    requests: int = Field(description="requests sent in the measured window.")
    failures: int = Field(description="failures among them.")
    actual_rps: float = Field(description="actualRps: successes per second of the measured window.")
    requested_rps: float | None = Field(None, description="requestedRps of the measured window.")
    omitted: int | None = Field(None, description="omitted: requests due but never sent, as all users waited.")
    p50_seconds: float | None = Field(None, description="p50Seconds as served; unset without a success.")
    p95_seconds: float | None = Field(None, description="p95Seconds as served; unset without a success.")
    p99_seconds: float | None = Field(None, description="p99Seconds as served; unset without a success.")
    p50_corrected_seconds: float | None = Field(
        None, description="p50CorrectedSeconds: counted from the scheduled start, omitted requests included."
    )
    p95_corrected_seconds: float | None = Field(None, description="p95CorrectedSeconds, likewise.")
    p99_corrected_seconds: float | None = Field(None, description="p99CorrectedSeconds, likewise.")
    lag_p95_seconds: float | None = Field(
        None, description="lagP95Seconds: the generator's own lateness, 95th percentile."
    )
    lag_max_seconds: float | None = Field(None, description="lagMaxSeconds: its largest.")
    max_rps_within_slo: float | None = Field(
        None, description="maxRpsWithinSlo: mode search's result; 0 when no rate that was tried stayed within."
    )


class Conclusions(Document):
    """What follows from the figures for a capacity planner; docs/explanation/load-test.md has the formulas."""

    mixed_rps_per_replica: float = Field(
        description="mixedRpsPerReplica: requests/s of the data set's length mix that one replica carries."
    )
    basis: Literal["search", "lowerBound", "throughput"] = Field(
        description="basis: searched within the SLO, at least this much, or throughput beyond the SLO's latency."
    )
    share_beyond_max_length: float = Field(
        description="shareBeyondMaxLength of the data set's texts, counted to the longest bucket."
    )
    replicas_needed: int = Field(description="replicasNeeded to carry slo.rps.")
    in_flight_target: float | None = Field(
        None, description="inFlightTarget: requests in flight per replica to hold by a HorizontalPodAutoscaler."
    )
    cpu_percent_target: int | None = Field(
        None, description="cpuPercentTarget: CPU per cent of the pod's request to hold, for a CPU-bound engine."
    )
    predicted_rps: float | None = Field(
        None, description="predictedRps: what the run before said these replicas carry of mixed traffic."
    )
    measured_rps: float | None = Field(None, description="measuredRps: what they carried in this run.")
    prediction_error: float | None = Field(
        None, description="predictionError: measuredRps over predictedRps, minus 1."
    )


class LoadTestStatus(Document):
    """Written by the load test itself under its own field manager, bucket by bucket."""

    fingerprint: str = Field(description="fingerprint of the run that wrote this.")
    run_id: str = Field(description="runId of the spec.")
    state: Literal["Running", "Complete", "Partial", "Failed"] = Field(
        description="state of the run; Partial when a worker was lost, so that the figures are not complete."
    )
    message: str | None = Field(None, description="message of a failure.")
    mode: Literal["fixed", "search"] | None = Field(None, description="mode of the run.")
    partial: bool | None = Field(None, description="partial: a worker was lost, figures are missing.")
    serving_fingerprint: str | None = Field(None, description="servingFingerprint of what was measured.")
    started_at: str | None = Field(None, description="startedAt, RFC 3339.")
    finished_at: str | None = Field(None, description="finishedAt, RFC 3339.")
    users: int = Field(description="users that offered the load.")
    workers: int | None = Field(None, description="workers that the users were spread over.")
    requested_rps: float = Field(description="requestedRps offered.")
    warmup_requests: int = Field(0, description="warmupRequests sent before the first bucket, not measured.")
    requests: int | None = Field(None, description="requests sent in all, those of the warm-up left out.")
    failures: int | None = Field(None, description="failures among them.")
    failure_kinds: str | None = Field(None, description="failureKinds, such as 12 x http error 503.")
    buckets: list[BucketResult] = Field(default_factory=list, description="buckets measured so far.")
    mixed: BucketResult | None = Field(None, description="mixed: figures of the data set's real length mix.")
    actual_rps: float | None = Field(None, description="actualRps over all buckets.")
    p95_seconds: float | None = Field(None, description="p95Seconds over all buckets, as served.")
    p95_corrected_seconds: float | None = Field(None, description="p95CorrectedSeconds over all buckets.")
    max_length_at_requested_rps: int | None = Field(
        None,
        description="maxLengthAtRequestedRps: longest bucket that carried 95 % of slo.rps, else of requestedRps, within"
        " the SLO.",
    )
    conclusions: Conclusions | None = Field(None, description="conclusions drawn from a complete run.")
    replicas_at_start: int | None = Field(None, description="replicasAtStart that were ready.")
    replicas_at_end: int | None = Field(None, description="replicasAtEnd that were ready.")
    generator_saturated: bool | None = Field(
        None, description="generatorSaturated: out of CPU or late by its own fault, so it was the limit."
    )
    users_exhausted: bool | None = Field(
        None,
        description="usersExhausted: all users waited for the service, so less than requestedRps was offered.",
    )
    generator_ceiling_rps: float | None = Field(
        None, description="generatorCeilingRps: what the generator could offer at most, measured before the run."
    )
    artifacts: str | None = Field(None, description="artifacts: folder in the volume with every request.")
