"""`status.loadTest`: what the load test measured. It writes this itself, under its own field manager."""

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
    p50_seconds: float | None = Field(None, description="p50Seconds; unset without a success.")
    p95_seconds: float | None = Field(None, description="p95Seconds; unset without a success.")
    p99_seconds: float | None = Field(None, description="p99Seconds; unset without a success.")


class LoadTestStatus(Document):
    """Written by the load test itself under its own field manager, bucket by bucket."""

    fingerprint: str = Field(description="fingerprint of the run that wrote this.")
    run_id: str = Field(description="runId of the spec.")
    state: Literal["Running", "Complete", "Failed"] = Field(description="state of the run.")
    message: str | None = Field(None, description="message of a failure.")
    started_at: str | None = Field(None, description="startedAt, RFC 3339.")
    finished_at: str | None = Field(None, description="finishedAt, RFC 3339.")
    users: int = Field(description="users that offered the load.")
    requested_rps: float = Field(description="requestedRps offered.")
    warmup_requests: int = Field(0, description="warmupRequests sent before the first bucket, not measured.")
    buckets: list[BucketResult] = Field(default_factory=list, description="buckets measured so far.")
    actual_rps: float | None = Field(None, description="actualRps over all buckets.")
    p95_seconds: float | None = Field(None, description="p95Seconds over all buckets.")
    max_length_at_requested_rps: int | None = Field(
        None,
        description="maxLengthAtRequestedRps: longest bucket with 95 % of requestedRps reached in the SLO.",
    )
    replicas_at_start: int | None = Field(None, description="replicasAtStart that were ready.")
    replicas_at_end: int | None = Field(None, description="replicasAtEnd that were ready.")
    generator_saturated: bool | None = Field(
        None, description="generatorSaturated: the generator, not the service, was the limit."
    )
