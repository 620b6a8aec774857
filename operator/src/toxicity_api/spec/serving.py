"""`serving`: vLLM behind FastAPI, its replicas and how a new version is rolled out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.spec.fields import Score, cel
from toxicity_api.spec.pods import PodFields

LongTexts = Literal["window", "truncate"]


class Autoscaling(Document):
    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel("self.minReplicas <= self.maxReplicas", "minReplicas must not be above maxReplicas")
            ]
        }
    }

    min_replicas: int = Field(1, ge=1, description="minReplicas the HorizontalPodAutoscaler keeps.")
    max_replicas: int = Field(2, ge=1, description="maxReplicas the HorizontalPodAutoscaler may start.")
    metric: Literal["cpu"] = Field("cpu", description="metric that is held at the target.")
    target: int = Field(80, ge=1, description="target: average CPU use in per cent of the pod's request.")


class ServingSpec(PodFields):
    """vLLM behind FastAPI, one Service in the cluster."""

    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel(
                    "!(has(self.replicas) && has(self.autoscaling))",
                    "replicas and autoscaling exclude each other: set one of them",
                )
            ]
        }
    }

    threshold: Score | None = Field(
        None, description="threshold of the toxic score. Unset means the one chosen on the validation split."
    )
    max_num_seqs: int = Field(64, ge=1, description="maxNumSeqs the engine batches.")
    max_model_len: int = Field(
        512, ge=32, description="maxModelLen in tokens; longTexts says what becomes of longer texts."
    )
    long_texts: LongTexts = Field(
        "window",
        description="longTexts, those beyond maxModelLen: the highest score of overlapping windows, or of what is left"
        " when the end is cut (truncate). Flagged either way.",
    )
    queue_limit: int = Field(
        256, ge=0, description="queueLimit: texts that may wait beyond maxNumSeqs; more are refused with 429."
    )
    api_token_secret_name: str | None = Field(
        None,
        min_length=1,
        description="apiTokenSecretName: Secret whose key token every request must bear. Unset means no token.",
    )
    kv_cache_dtype: Literal["auto", "fp8"] = Field("auto", description="kvCacheDtype of the engine.")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="gpuMemoryUtilization of the engine.")
    autoscaling: Autoscaling | None = Field(
        None, description="autoscaling by a HorizontalPodAutoscaler, which then owns the replicas."
    )
    replicas: int | None = Field(None, ge=0, description="replicas without autoscaling. Unset means 1.")
    progress_deadline_seconds: int = Field(
        900,
        ge=60,
        description="progressDeadlineSeconds in which a new version must become ready; else the last good one is"
        " restored.",
    )
    strategy: Literal["RollingUpdate", "Recreate"] = Field(
        "RollingUpdate", description="strategy of a roll-out; Recreate where one GPU must be handed over."
    )
