"""`serving`: vLLM behind FastAPI, its replicas, and the rollout of new versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from toxicity_api.base import Document
from toxicity_api.spec.expose import Expose
from toxicity_api.spec.fields import INT32_MAX, MAX_BATCH_SIZE, Score, cel
from toxicity_api.spec.pods import PodFields

LongTexts = Literal["window", "truncate"]

MAX_CONTEXT_TOKENS = 1_048_576
"""Maximum of maxModelLen in tokens. No model has a longer context."""

MAX_QUEUE_LIMIT = 1_000_000
"""Maximum of queueLimit. This many texts of 20 000 characters would exceed the memory of any pod."""


METRIC_TARGETS: Mapping[str, int] = {"cpu": 80, "inFlight": 16}
"""Default of `target` per metric."""

PROMETHEUS_NEEDED = (
    "metric inFlight needs prometheusAddress: set it to the URL of the Prometheus that scrapes the serving pods, or"
    " set metric to cpu"
)


class Autoscaling(Document):
    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel("self.minReplicas <= self.maxReplicas", "minReplicas must not be above maxReplicas"),
                cel(
                    "!has(self.metric) || self.metric != 'inFlight' || has(self.prometheusAddress)",
                    PROMETHEUS_NEEDED,
                ),
            ]
        }
    }

    min_replicas: int = Field(1, ge=1, le=INT32_MAX, description="Minimum number of replicas.")
    max_replicas: int = Field(2, ge=1, le=INT32_MAX, description="Maximum number of replicas.")
    metric: Literal["cpu", "inFlight"] = Field(
        "cpu",
        description="Metric that the autoscaler holds at the target. `cpu` is the pods' CPU use, held by a"
        " HorizontalPodAutoscaler. `inFlight` is their requests in flight, read from Prometheus by KEDA,"
        " which must be installed.",
    )
    target: int | None = Field(
        None,
        ge=1,
        le=INT32_MAX,
        description="Target per replica: average CPU use in percent of the pod's request, or requests in flight."
        " Unset means 80 for cpu and 16 for inFlight.",
    )
    prometheus_address: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+\S*$",
        description="URL of the Prometheus that scrapes the serving pods, as KEDA reaches it. Required with metric"
        " inFlight.",
    )
    scale_down_stabilization_seconds: int | None = Field(
        None,
        ge=0,
        le=3600,
        description="Time, in seconds, for which fewer replicas must suffice before the autoscaler removes some."
        " Unset means the cluster's default, which is 300 unless changed.",
    )

    @model_validator(mode="after")
    def _has_its_metric(self) -> Self:
        if self.metric == "inFlight" and self.prometheus_address is None:
            raise ValueError(PROMETHEUS_NEEDED)
        return self

    @property
    def wanted_value(self) -> int:
        """The target, or its default if the spec does not set it."""
        return METRIC_TARGETS[self.metric] if self.target is None else self.target


Origin = Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^/\s,]+)$", max_length=253)]
Network = Annotated[str, StringConstraints(pattern=r"^(\*|[0-9A-Fa-f.:]+(/[0-9]{1,3})?)$", max_length=49)]


class HttpSpec(Document):
    """How the service treats HTTP requests."""

    cors_origins: list[Origin] = Field(
        default_factory=list,
        max_length=32,
        description="Origins, such as https://forum.example, whose pages may call the service from a browser. `*`"
        " means any. Unset means none.",
    )
    trusted_proxies: list[Network] = Field(
        default_factory=list,
        max_length=32,
        description="IP addresses or networks, such as 10.0.0.0/8, of the proxies whose X-Forwarded-Proto and"
        " X-Forwarded-For the service believes. `*` means any. Unset means none.",
    )
    access_log: bool = Field(
        True,
        description="Logs each request as one line of JSON, without texts. Successful probes and scrapes are not"
        " logged.",
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+\S*$",
        max_length=2048,
        description="URL of an OpenTelemetry collector that receives a trace of each request over OTLP/HTTP, such as"
        " http://collector:4318. Unset means no traces.",
    )


class ServingSpec(PodFields):
    """vLLM behind FastAPI, reachable by one Service in the cluster, and from outside with `expose`."""

    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel(
                    "!(has(self.replicas) && has(self.autoscaling))",
                    "serving.replicas and serving.autoscaling exclude each other: set autoscaling.minReplicas and"
                    " maxReplicas, or remove autoscaling to set replicas",
                )
            ]
        }
    }

    threshold: Score | None = Field(
        None,
        description="Lowest score, from 0 to 1, that counts as toxic. Unset means the threshold selected on the"
        " validation split.",
    )
    max_num_seqs: int = Field(
        64,
        ge=1,
        le=MAX_BATCH_SIZE,
        description="Maximum number of sequences that the engine processes in one batch.",
    )
    max_model_len: int = Field(
        512,
        ge=32,
        le=MAX_CONTEXT_TOKENS,
        description="Maximum length of a prompt, in tokens. longTexts decides how longer texts are scored.",
    )
    long_texts: LongTexts = Field(
        "window",
        description="Handling of texts whose prompt exceeds maxModelLen. `window` returns the highest score of"
        " overlapping windows, `truncate` scores the beginning only. The answer flags both.",
    )
    queue_limit: int = Field(
        256,
        ge=0,
        le=MAX_QUEUE_LIMIT,
        description="Maximum number of texts that wait, in addition to maxNumSeqs. Further requests get status 429.",
    )
    api_token_secret_name: str | None = Field(
        None,
        min_length=1,
        description="Name of a Secret whose key `token` every request must send as bearer token. Unset means no"
        " token.",
    )
    http: HttpSpec = Field(
        default_factory=HttpSpec, description="How the service treats HTTP requests: CORS, proxies, access log."
    )
    expose: Expose | None = Field(
        None,
        description="Exposes the Service outside the cluster, by an Ingress or through a Gateway. Set"
        " apiTokenSecretName too, or authenticate clients at the proxy. Unset means inside the cluster only.",
    )
    kv_cache_dtype: Literal["auto", "fp8"] = Field("auto", description="Data type of the engine's KV cache.")
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="Share of the GPU's memory that the engine uses. Ignored without a GPU."
    )
    enforce_eager: bool = Field(
        False,
        description="Runs the engine without compilation and without CUDA graphs. The evaluation is about a minute"
        " shorter, and every answer takes longer.",
    )
    autoscaling: Autoscaling | None = Field(
        None,
        description="Autoscaling by a HorizontalPodAutoscaler or by KEDA, which then sets the number of replicas."
        " Unset means a fixed number.",
    )
    replicas: int | None = Field(
        None, ge=0, le=INT32_MAX, description="Number of replicas without autoscaling. Unset means 1."
    )
    start_seconds: int = Field(
        900,
        ge=60,
        le=INT32_MAX,
        description="Time, in seconds, in which the engine of a pod must load and pass its self-test. After it, the"
        " container ends with the reason in its termination message, and is restarted.",
    )
    progress_deadline_seconds: int = Field(
        900,
        ge=60,
        le=INT32_MAX,
        description="Time, in seconds, in which a new version must become ready. After it, the operator restores the"
        " last good version.",
    )
    strategy: Literal["RollingUpdate", "Recreate"] = Field(
        "RollingUpdate",
        description="Rollout strategy. Use Recreate where the new pod needs the GPU of the old one.",
    )
