"""Condition types and reasons, and the one function that changes a condition."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from pydantic import Field

from toxicity_api.base import Document


class ConditionType(StrEnum):
    TRAINED = "Trained"
    QUANTIZED = "Quantized"
    EVALUATED = "Evaluated"
    QUALITY_ACCEPTED = "QualityAccepted"
    AVAILABLE = "Available"
    SCALABLE = "Scalable"
    EXPOSED = "Exposed"
    LOAD_TESTED = "LoadTested"
    PERFORMANCE_REGRESSED = "PerformanceRegressed"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


ABNORMAL_TYPES = frozenset({ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.PERFORMANCE_REGRESSED})
"""Condition types whose normal status is False. kstatus defines the first two."""


class Reason(StrEnum):
    """Reasons that the operator sets. A failed stage sets its own reason."""

    WAITING = "Waiting"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    SKIPPED = "Skipped"
    PAUSED = "Paused"
    JOB_FAILED = "JobFailed"
    RESULT_MISSING = "ResultMissing"
    SOURCE_UNUSABLE = "SourceUnusable"
    APPLY_FAILED = "ApplyFailed"
    NOT_OURS = "NotOurs"
    INVALID_SPEC = "InvalidSpec"
    ACCEPTED = "Accepted"
    BELOW_MINIMUM = "BelowMinimumF1"
    DROP_TOO_LARGE = "F1DropTooLarge"
    INCONCLUSIVE = "Inconclusive"
    OVERRIDDEN = "AcceptedByOverride"
    REPLICAS_READY = "ReplicasReady"
    ROLLING_OUT = "RollingOut"
    REPLICAS_NOT_READY = "ReplicasNotReady"
    NO_READY_REPLICAS = "NoReadyReplicas"
    STOPPED = "Stopped"
    DEPLOYMENT_PAUSED = "DeploymentPaused"
    WAITING_FOR_GPU = "WaitingForGPU"
    WAITING_FOR_CAPACITY = "WaitingForCapacity"
    GPU_HANDED_OVER = "GPUHandedOver"
    ROLLED_BACK = "RolledBack"
    ROLL_OUT_FAILED = "RollOutFailed"
    METRIC_AVAILABLE = "MetricAvailable"
    METRIC_MISSING = "MetricMissing"
    KEDA_MISSING = "KedaMissing"
    ROUTE_ACCEPTED = "RouteAccepted"
    ROUTE_REFUSED = "RouteRefused"
    GATEWAY_API_MISSING = "GatewayApiMissing"
    NO_BASELINE = "NoBaseline"
    AS_BEFORE = "AsBefore"
    SLOWER = "SlowerThanBefore"
    ALL_STAGES_DONE = "AllStagesDone"


class Condition(Document):
    """A condition as in the Kubernetes API conventions."""

    type: ConditionType = Field(description="Type of the condition, unique in the list.")
    status: Literal["True", "False", "Unknown"] = Field(description="Status of the condition.")
    reason: str = Field(min_length=1, description="Reason of the status in CamelCase, for programs.")
    message: str = Field("", description="Details of the status, for people.")
    observed_generation: int = Field(description="Generation of the spec that the condition describes.")
    last_transition_time: str = Field(description="Time when the status last changed, RFC 3339.")


def set_condition(conditions: Sequence[Condition], new: Condition) -> list[Condition]:
    """Replace the condition of the same type by `new`. The transition time changes only with the status."""
    old = next((c for c in conditions if c.type == new.type), None)
    if old is not None and old.status == new.status:
        new = new.model_copy(update={"last_transition_time": old.last_transition_time})
    return [*(c for c in conditions if c.type != new.type), new]
