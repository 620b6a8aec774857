"""`loadTest`: the load that is offered to the served model, and what is expected of it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from toxicity_api.base import Document
from toxicity_api.spec.fields import INT32_MAX, cel
from toxicity_api.spec.pods import PodFields

CRON_PATTERN = r"^[0-9A-Za-z*/,#-]+( [0-9A-Za-z*/,#-]+){4}$"
"""Five fields, one blank between them; the operator's cron library judges what is in them."""

MOST_CHARACTERS = 20_000
"""The serving API refuses longer texts."""

MOST_BUCKETS = 200
"""The status keeps the figures of 256 at most: beyond that the API server would refuse all of it."""

TOO_MANY_BUCKETS = (
    f"maxLength makes more than {MOST_BUCKETS} buckets of bucketStep characters: raise loadTest.bucketStep or lower"
    " loadTest.maxLength"
)
NEVER_OFFERED = (
    "slo.rps is above requestedRps, so mode fixed would never offer it: raise loadTest.requestedRps to slo.rps or use"
    " mode: search"
)


class Slo(Document):
    p95_seconds: float = Field(1.0, gt=0, le=3600, description="p95Seconds a request may take.")
    rps: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="rps the service must carry; in mode fixed at most requestedRps. Unset means requestedRps.",
    )


class LoadTestSpec(PodFields):
    """A paced load test from inside the cluster, one run per length bucket."""

    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel(
                    "!has(self.users) || !has(self.workers) || self.users >= self.workers",
                    "workers must not be above users: every worker needs at least one of them",
                ),
                # a division, since a product or a sum of unbounded integers could overflow
                cel(
                    "!has(self.maxLength) || !has(self.bucketStep) || self.bucketStep < 1"
                    f" || (self.maxLength - 1) / self.bucketStep < {MOST_BUCKETS}",
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

    gpus: Literal[0] = Field(0, description="gpus: the load generator uses none.")
    enabled: bool = Field(True, description="enabled; false skips the load test.")
    mode: Literal["fixed", "search"] = Field(
        "fixed",
        description="mode: fixed offers requestedRps; search finds the highest rate within slo per bucket.",
    )
    users: int = Field(16, ge=1, le=1024, description="users that together offer requestedRps.")
    requested_rps: float = Field(10.0, gt=0, le=10000, description="requestedRps offered by all users together.")
    bucket_step: int = Field(
        100,
        ge=1,
        le=INT32_MAX,
        description="bucketStep: width of a length bucket in characters; there are at most 200 buckets.",
    )
    max_length: int = Field(
        1100, ge=1, le=MOST_CHARACTERS, description="maxLength of the longest bucket in characters."
    )
    seconds_per_bucket: int = Field(30, ge=1, le=3600, description="secondsPerBucket that are measured.")
    warmup_seconds: int = Field(5, ge=0, le=600, description="warmupSeconds before the first bucket, not counted.")
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="workers: pods that offer the load; with more than one, a further pod leads them.",
    )
    slo: Slo = Field(default_factory=Slo, description="slo the conclusions are drawn against.")
    max_outage_seconds: int = Field(
        60, ge=1, le=3600, description="maxOutageSeconds the service may be unavailable before the test fails."
    )
    pin_replicas: bool = Field(
        False, description="pinReplicas: hold the HorizontalPodAutoscaler still while a load test runs."
    )
    schedule: str | None = Field(
        None,
        pattern=CRON_PATTERN,
        max_length=100,
        description="schedule on which it runs again: five cron fields, in UTC. Unset means never by itself.",
    )
    run_id: str = Field(
        "1", min_length=1, max_length=63, description="runId: change it to run the load test again."
    )
    active_deadline_seconds: int = Field(
        3600, ge=60, le=INT32_MAX, description="activeDeadlineSeconds after which the Job has failed."
    )

    @model_validator(mode="after")
    def _can_be_answered(self) -> Self:
        """The rules of the CRD once more: a resource may have been stored before there were these rules."""
        if (self.max_length - 1) // self.bucket_step >= MOST_BUCKETS:
            raise ValueError(TOO_MANY_BUCKETS)
        if self.mode == "fixed" and self.slo.rps is not None and self.slo.rps > self.requested_rps:
            raise ValueError(NEVER_OFFERED)
        return self
