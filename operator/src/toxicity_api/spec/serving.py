"""`serving`: vLLM behind FastAPI, its replicas and how a new version is rolled out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from toxicity_api.base import Document
from toxicity_api.spec.fields import INT32_MAX, LARGEST_BATCH, Score, cel
from toxicity_api.spec.pods import PodFields

LongTexts = Literal["window", "truncate"]

LONGEST_CONTEXT = 1_048_576
"""No model has a longer one."""

MOST_WAITING = 1_000_000
"""Texts of 20 000 characters that many would fill the memory of any pod."""


METRIC_TARGETS: Mapping[str, int] = {"cpu": 80, "inFlight": 16}
"""What `target` means when it is not set."""

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

    min_replicas: int = Field(1, ge=1, le=INT32_MAX, description="minReplicas the autoscaler keeps.")
    max_replicas: int = Field(2, ge=1, le=INT32_MAX, description="maxReplicas the autoscaler may start.")
    metric: Literal["cpu", "inFlight"] = Field(
        "cpu",
        description="metric that is held at the target: the pods' use of CPU, by a HorizontalPodAutoscaler; or their"
        " requests in flight, by KEDA, which must be installed, from the figures of a Prometheus.",
    )
    target: int | None = Field(
        None,
        ge=1,
        le=INT32_MAX,
        description="target per replica: average CPU use in per cent of the pod's request, or requests in flight."
        " Unset means 80 for cpu and 16 for inFlight.",
    )
    prometheus_address: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+\S*$",
        description="prometheusAddress: URL of the Prometheus that scrapes the serving pods, as KEDA reaches it."
        " Needed with inFlight.",
    )
    scale_down_stabilization_seconds: int | None = Field(
        None,
        ge=0,
        le=3600,
        description="scaleDownStabilizationSeconds for which fewer replicas must suffice before some are stopped."
        " Unset means the cluster's default, 300 unless it was changed.",
    )

    @model_validator(mode="after")
    def _has_its_metric(self) -> Self:
        if self.metric == "inFlight" and self.prometheus_address is None:
            raise ValueError(PROMETHEUS_NEEDED)
        return self

    @property
    def wanted_value(self) -> int:
        """The target, also where the spec leaves it open."""
        return METRIC_TARGETS[self.metric] if self.target is None else self.target


class ServingSpec(PodFields):
    """vLLM behind FastAPI, one Service in the cluster."""

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
        None, description="threshold of the toxic score. Unset means the one chosen on the validation split."
    )
    max_num_seqs: int = Field(64, ge=1, le=LARGEST_BATCH, description="maxNumSeqs the engine batches.")
    max_model_len: int = Field(
        512,
        ge=32,
        le=LONGEST_CONTEXT,
        description="maxModelLen in tokens; longTexts says what becomes of longer texts.",
    )
    long_texts: LongTexts = Field(
        "window",
        description="longTexts, those beyond maxModelLen: the highest score of overlapping windows, or of what is left"
        " when the end is cut (truncate). Flagged either way.",
    )
    queue_limit: int = Field(
        256,
        ge=0,
        le=MOST_WAITING,
        description="queueLimit: texts that may wait beyond maxNumSeqs; more are refused with 429.",
    )
    api_token_secret_name: str | None = Field(
        None,
        min_length=1,
        description="apiTokenSecretName: Secret whose key token every request must bear. Unset means no token.",
    )
    kv_cache_dtype: Literal["auto", "fp8"] = Field("auto", description="kvCacheDtype of the engine.")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="gpuMemoryUtilization of the engine.")
    enforce_eager: bool = Field(
        False,
        description="enforceEager of the engine: nothing is compiled or captured as a CUDA graph. The evaluation saves"
        " a minute, and every answer takes longer.",
    )
    autoscaling: Autoscaling | None = Field(
        None, description="autoscaling by a HorizontalPodAutoscaler, or by KEDA, which then owns the replicas."
    )
    replicas: int | None = Field(
        None, ge=0, le=INT32_MAX, description="replicas without autoscaling. Unset means 1."
    )
    progress_deadline_seconds: int = Field(
        900,
        ge=60,
        le=INT32_MAX,
        description="progressDeadlineSeconds in which a new version must become ready; else the last good one is"
        " restored.",
    )
    strategy: Literal["RollingUpdate", "Recreate"] = Field(
        "RollingUpdate", description="strategy of a roll-out; Recreate where one GPU must be handed over."
    )
