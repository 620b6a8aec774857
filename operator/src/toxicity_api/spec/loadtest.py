"""`loadTest`: the load that the load test offers to the served model, and the objective."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from toxicity_api.base import Document
from toxicity_api.spec.fields import INT32_MAX, NonEmpty, cel
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

TWO_PATTERNS = (
    "trace replays recorded arrivals: remove loadTest.arrivals and loadTest.bursts, or remove loadTest.trace"
)
NOT_ORIGINAL = (
    "profile original offers 10 requests/s evenly with 16 users: remove loadTest.users, requestedRps, arrivals, bursts,"
    " trace and maxOpenRequests, or set loadTest.profile to openLoop"
)
ONE_COMMENT = (
    "a request of the Perspective route has one text: set loadTest.textsPerRequest to 1, or loadTest.route to classify"
    " or openai"
)
TOO_MANY_TOKENS = "maxLength must not be above 4096 tokens: lower loadTest.maxLength"
MAX_TOKENS = 4096
"""Maximum length of a text in tokens. A longer one could have more than MAX_CHARACTERS characters."""

MAX_TEXTS = 64
"""Maximum number of texts in a request. The serving API refuses more."""

TOO_FEW_OPEN = "maxOpenRequests must not be below workers: every worker sends at least one request at a time"

ORIGINAL_USERS, ORIGINAL_RPS = 16, 10.0
"""The load of the original service's test."""

DEFAULT_OPEN_REQUESTS = 256
"""Four times the sequences that the engine runs at the same time by default, so that a queue can build up."""

Arrivals = Literal["poisson", "uniform"]


class Bursts(Document):
    every_seconds: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="Time from one burst to the next, in seconds. A burst is in the middle of it.",
    )
    share: float = Field(0.1, gt=0, lt=1, description="Share of this time that the burst takes.")
    factor: float = Field(
        5.0, gt=1, le=1000, description="Rate during a burst, as a multiple of the rate between bursts."
    )

    @property
    def seconds(self) -> float:
        """Duration of a burst, in seconds."""
        return self.share * self.every_seconds


class Trace(Document):
    name: NonEmpty = Field(
        description="Name of a ConfigMap in the resource's namespace. A ConfigMap holds at most 1 MiB."
    )
    key: NonEmpty = Field(description="Key of the ConfigMap whose value is the file.")


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
                    "!has(self.profile) || self.profile != 'original' || !has(self.workers)"
                    " || self.workers <= self.users",
                    "workers must not be above users in profile original: every worker needs at least one user",
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
                cel("!has(self.trace) || !(has(self.arrivals) || has(self.bursts))", TWO_PATTERNS),
                cel(
                    "!has(self.profile) || self.profile != 'original' || (self.users == 16 && self.requestedRps == 10.0"
                    " && (!has(self.arrivals) || self.arrivals == 'uniform')"
                    " && !has(self.bursts) && !has(self.trace) && !has(self.maxOpenRequests))",
                    NOT_ORIGINAL,
                ),
                cel(
                    "!has(self.maxOpenRequests) || !has(self.workers) || self.maxOpenRequests >= self.workers",
                    TOO_FEW_OPEN,
                ),
                cel(
                    "!has(self.route) || self.route != 'perspective' || !has(self.textsPerRequest)"
                    " || self.textsPerRequest == 1",
                    ONE_COMMENT,
                ),
                cel(
                    "!has(self.bucketUnit) || self.bucketUnit != 'tokens' || !has(self.maxLength)"
                    f" || self.maxLength <= {MAX_TOKENS}",
                    TOO_MANY_TOKENS,
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
    profile: Literal["openLoop", "original"] = Field(
        "openLoop",
        description="Load profile. `openLoop` sends every request when it is due, whether or not earlier ones have"
        " been answered. `original` offers the load of the original service's test: 16 users, each of which waits for"
        " its answer, and 10 requests per second at even intervals.",
    )
    users: int = Field(
        ORIGINAL_USERS,
        ge=1,
        le=1024,
        description="Number of users in profile original. In profile openLoop, a number above 256 raises the limit of"
        " open requests to it.",
    )
    requested_rps: float = Field(
        ORIGINAL_RPS, gt=0, le=10000, description="Requests per second to offer, on average over a window."
    )
    arrivals: Arrivals | None = Field(
        None,
        description="Distribution of the arrival times. `poisson` is what independent callers send: random times, with"
        " a fixed seed. `uniform` has equal intervals, with which a queue looks shorter than it is. Unset means"
        " poisson, and uniform in profile original.",
    )
    bursts: Bursts | None = Field(
        None,
        description="Periodic bursts, on top of `arrivals`. requestedRps stays the average. Unset means none.",
    )
    trace: Trace | None = Field(
        None,
        description="Recorded arrivals to replay instead of `arrivals`: a file with one time per line, in seconds and"
        " in ascending order. The times are scaled to the rate of a window, and repeated if they are too few.",
    )
    max_open_requests: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Largest number of requests that wait for an answer at the same time. A request that is due above"
        " this limit is sent late, and openLimitReached reports it. Unset means 256, or `users` if that is higher, and"
        " 16 in profile original.",
    )
    route: Literal["classify", "openai", "perspective"] = Field(
        "classify",
        description="Route that gets the requests: `classify` (/v1/classify), `openai` (/v1/moderations) or"
        " `perspective` (/v1alpha1/comments:analyze).",
    )
    texts_per_request: int = Field(
        1, ge=1, le=MAX_TEXTS, description="Number of texts in a request. requestedRps counts requests, not texts."
    )
    bucket_unit: Literal["characters", "tokens"] = Field(
        "characters",
        description="Unit of bucketStep and maxLength. `tokens` are those of the served model, of the text without the"
        " prompt around it.",
    )
    bucket_step: int = Field(
        100,
        ge=1,
        le=INT32_MAX,
        description="Width of a length bucket, in bucketUnit. There are at most 200 buckets.",
    )
    max_length: int = Field(
        1100, ge=1, le=MAX_CHARACTERS, description="Upper end of the longest length bucket, in bucketUnit."
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
        True, description="Keeps the HorizontalPodAutoscaler from changing the replicas while a load test runs."
    )
    schedule: str | None = Field(
        None,
        pattern=CRON_PATTERN,
        max_length=100,
        description="Schedule of repeated load tests: five cron fields, in UTC. Unset means that the load test is"
        " not repeated.",
    )
    on_regression: Literal["Report", "RollBack"] = Field(
        "Report",
        description="What follows when the load test of a new version finds it slower than the previous run. `Report`"
        " sets the condition PerformanceRegressed. `RollBack` also serves the version before again.",
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
        if self.trace is not None and (self.arrivals or self.bursts):
            raise ValueError(TWO_PATTERNS)
        if self.profile == "original" and not self._is_original:
            raise ValueError(NOT_ORIGINAL)
        if self.max_open_requests is not None and self.max_open_requests < self.workers:
            raise ValueError(TOO_FEW_OPEN)
        if self.route == "perspective" and self.texts_per_request != 1:
            raise ValueError(ONE_COMMENT)
        if self.bucket_unit == "tokens" and self.max_length > MAX_TOKENS:
            raise ValueError(TOO_MANY_TOKENS)
        return self

    @property
    def _is_original(self) -> bool:
        others = (self.bursts, self.trace, self.max_open_requests)
        return (
            (self.users, self.requested_rps) == (ORIGINAL_USERS, ORIGINAL_RPS)
            and self.arrivals in (None, "uniform")
            and others == (None, None, None)
        )

    @property
    def arrival_times(self) -> Arrivals:
        """The distribution of the arrival times without a trace."""
        return self.arrivals or ("uniform" if self.profile == "original" else "poisson")

    @property
    def open_limit(self) -> int:
        """The largest number of requests that wait for an answer at the same time, over all workers."""
        if self.max_open_requests is not None:
            return self.max_open_requests
        return self.users if self.profile == "original" else max(self.users, DEFAULT_OPEN_REQUESTS)
