"""The pod fields that every stage has: its resources and where it runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.spec.fields import INT32_MAX, MAX_GPUS, Quantity
from toxicity_api.spec.pod_settings import PodSettings


class Resources(Document):
    requests: dict[str, Quantity] = Field(
        default_factory=dict, description="Resource requests, as in a container. Unset requests equal the limits."
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict, description="Resource limits, as in a container. Unset means no limit."
    )


class Toleration(Document):
    key: str | None = Field(
        None, description="Taint key to tolerate. Unset with operator Exists matches every taint."
    )
    operator: Literal["Exists", "Equal"] = Field(
        "Equal", description="Relation of key and value: Exists ignores the value, Equal compares it."
    )
    value: str | None = Field(None, description="Taint value to tolerate. Unset with operator Exists.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Taint effect to tolerate. Unset matches every effect."
    )
    toleration_seconds: int | None = Field(
        None,
        ge=0,
        le=INT32_MAX,
        description="Time, in seconds, for which a running pod tolerates a taint with the effect NoExecute, such as"
        " that of a lost node. Requires effect NoExecute. Unset means for ever.",
    )


class PodFields(Document):
    """The pod fields that a user can set per stage."""

    resources: Resources = Field(
        default_factory=Resources,
        description="Resources of the stage's container and of its init containers. A request that is unset equals"
        " the limit. If both are unset, a stage requests 1 core and 2Gi, and the load test 100m and"
        " 384Mi.",
    )
    gpus: int = Field(
        1,
        ge=0,
        le=MAX_GPUS,
        description="Number of GPUs that the pod requests: nvidia.com/gpu, or pod.gpuResourceName. 0 runs on the CPU.",
    )
    node_selector: dict[str, str] = Field(
        default_factory=dict, description="Node labels that the pod requires. Unset means any node."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, description="Taints that the pod tolerates. Unset means none."
    )
    pod: PodSettings | None = Field(
        None,
        description="Labels, environment, scheduling and volumes of the pods. Unset means the defaults of the"
        " operator's chart.",
    )

    @property
    def settings(self) -> PodSettings:
        """`pod`, or empty settings if it is unset."""
        return self.pod or PodSettings()


class JobFields(PodFields):
    backoff_limit: int = Field(
        2, ge=0, le=INT32_MAX, description="Number of retries of a failed pod. Invalid input is never retried."
    )
    active_deadline_seconds: int = Field(
        21600, ge=60, le=INT32_MAX, description="Duration of the Job, in seconds, after which it fails."
    )
