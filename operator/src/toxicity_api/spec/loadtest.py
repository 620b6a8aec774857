"""`loadTest`: the load that the load test offers to the served model, and the objective."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from toxicity_api.base import Document
from toxicity_api.spec.fields import INT32_MAX, cel
from toxicity_api.spec.pods import PodFields

CRON_PATTERN = r"^[0-9A-Za-z*/,#-]+( [0-9A-Za-z*/,#-]+){4}$"
"""Five fields, separated by one space. The operator's cron library validates their content."""

MAX_CHARACTERS = 20_000
"""Maximum length of a text in characters. The serving API refuses longer texts."""

MAX_BUCKETS = 200
"""Maximum number of length buckets. The API server refuses a status with more than 256."""

TOO_MANY_BUCKETS = (
    f"maxLength needs more than {MAX_BUCKETS} buckets of bucketStep characters: raise loadTest.bucketStep or lower"
    " loadTest.maxLength"
)
NEVER_OFFERED = (
    "slo.rps must not be above requestedRps in mode fixed: raise loadTest.requestedRps to slo.rps or set"
    " loadTest.mode to search"
)


class Slo(Document):
    p95_seconds: float = Field(
        1.0, gt=0, le=3600, description="Largest 95th percentile of latency, in seconds, that meets the objective."
    )
    rps: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="Requests per second that the service must carry. In mode fixed it must not exceed requestedRps."
        " Unset means requestedRps.",
    )


class LoadTestSpec(PodFields):
    """A load test from inside the cluster that sends requests on a schedule, one window per length bucket."""

    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel(
                    "!has(self.users) || !has(self.workers) || self.users >= self.workers",
                    "workers must not be above users: every worker needs at least one user",
                ),
                # a division, because a product or a sum of unbounded integers can overflow
                cel(
                    "!has(self.maxLength) || !has(self.bucketStep) || self.bucketStep < 1"
                    f" || (self.maxLength - 1) / self.bucketStep < {MAX_BUCKETS}",
                    TOO_MANY_BUCKETS,
                ),
                cel(
                    "(has(self.mode) && self.mode == 'search') || !has(self.slo) || !has(self.slo.rps)"
                    " || !has(self.requestedRps) || self.slo.rps <= self.requestedRps",
                    NEVER_OFFERED,
                ),
            ]
        }
    }

    gpus: Literal[0] = Field(0, description="Number of GPUs. The load generator uses none.")
    enabled: bool = Field(True, description="Runs the load test. false skips it.")
    mode: Literal["fixed", "search"] = Field(
        "fixed",
        description="Mode of the load test. `fixed` offers requestedRps. `search` finds, per length bucket, the"
        " highest rate that meets slo.",
    )
    users: int = Field(16, ge=1, le=1024, description="Number of users that together offer the load.")
    requested_rps: float = Field(
        10.0, gt=0, le=10000, description="Requests per second that all users together offer."
    )
    bucket_step: int = Field(
        100,
        ge=1,
        le=INT32_MAX,
        description="Width of a length bucket, in characters. There are at most 200 buckets.",
    )
    max_length: int = Field(
        1100, ge=1, le=MAX_CHARACTERS, description="Upper end of the longest length bucket, in characters."
    )
    seconds_per_bucket: int = Field(
        30, ge=1, le=3600, description="Measured time per length bucket and rate, in seconds."
    )
    warmup_seconds: int = Field(
        5,
        ge=0,
        le=600,
        description="Duration of the warm-up before the first bucket, in seconds. It is not measured.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Number of pods that offer the load. More than one need an additional pod as master.",
    )
    slo: Slo = Field(default_factory=Slo, description="Service level objective that the conclusions use.")
    max_outage_seconds: int = Field(
        60,
        ge=1,
        le=3600,
        description="Time, in seconds, for which the service may be unavailable before the load test fails.",
    )
    pin_replicas: bool = Field(
        False, description="Keeps the HorizontalPodAutoscaler from changing the replicas while a load test runs."
    )
    schedule: str | None = Field(
        None,
        pattern=CRON_PATTERN,
        max_length=100,
        description="Schedule of repeated load tests: five cron fields, in UTC. Unset means that the load test is"
        " not repeated.",
    )
    run_id: str = Field(
        "1",
        min_length=1,
        max_length=63,
        description="Identifier of the run. Change it to run the load test again with an unchanged spec.",
    )
    active_deadline_seconds: int = Field(
        3600, ge=60, le=INT32_MAX, description="Duration of the Job, in seconds, after which it fails."
    )

    @model_validator(mode="after")
    def _can_be_answered(self) -> Self:
        """Repeat the rules of the CRD, since the resource may have been stored by an older CRD without them."""
        if (self.max_length - 1) // self.bucket_step >= MAX_BUCKETS:
            raise ValueError(TOO_MANY_BUCKETS)
        if self.mode == "fixed" and self.slo.rps is not None and self.slo.rps > self.requested_rps:
            raise ValueError(NEVER_OFFERED)
        return self
