"""The pod fields that every stage has: what it may use and where it runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.spec.fields import INT32_MAX, MOST_GPUS, Quantity


class Resources(Document):
    requests: dict[str, Quantity] = Field(default_factory=dict, description="requests as in a container.")
    limits: dict[str, Quantity] = Field(default_factory=dict, description="limits as in a container.")


class Toleration(Document):
    key: str | None = Field(None, description="key of the taint. Unset with operator Exists matches all.")
    operator: Literal["Exists", "Equal"] = Field("Equal", description="operator relates key and value.")
    value: str | None = Field(None, description="value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="effect of the taint. Unset matches every effect."
    )


class PodFields(Document):
    """The few pod fields that a person sets per stage."""

    resources: Resources = Field(
        default_factory=Resources,
        description="resources of the stage's container and of its init containers. A request that is unset is"
        " the limit; without either a stage requests 1 core and 2Gi, the load test 100m and 384Mi.",
    )
    gpus: int = Field(1, ge=0, le=MOST_GPUS, description="gpus (nvidia.com/gpu) the pod asks for; 0 runs on CPU.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="nodeSelector of the pod.")
    tolerations: list[Toleration] = Field(default_factory=list, description="tolerations of the pod.")


class JobFields(PodFields):
    backoff_limit: int = Field(
        2, ge=0, le=INT32_MAX, description="backoffLimit: restarts of a crashed pod; bad input is never retried."
    )
    active_deadline_seconds: int = Field(
        21600, ge=60, le=INT32_MAX, description="activeDeadlineSeconds after which the Job has failed."
    )
