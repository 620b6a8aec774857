"""Derives the conditions Reconciling and Stalled, from which kstatus, Flux and Argo CD read the resource's state. Pure.

Both are derived from Ready, and both are False while Ready is True, even during a load test. At most one is True:
Reconciling while the operator or the cluster makes progress, Stalled if a person must act. A paused or stopped resource
has neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from toxicity_api.conditions import ConditionType, Reason
from toxicity_operator.decide.conditions import Finding
from toxicity_operator.errors import ClusterError, is_transient


class KStatus(Enum):
    """State of a resource as kstatus sees it, with PAUSED for a resource that the spec pauses or stops."""

    CURRENT = auto()
    IN_PROGRESS = auto()
    STALLED = auto()
    PAUSED = auto()


KSTATUS_OF_REASON: Mapping[str, KStatus] = {
    Reason.SUCCEEDED: KStatus.CURRENT,
    Reason.SKIPPED: KStatus.CURRENT,
    Reason.ACCEPTED: KStatus.CURRENT,
    Reason.OVERRIDDEN: KStatus.CURRENT,
    Reason.REPLICAS_READY: KStatus.CURRENT,
    Reason.METRIC_AVAILABLE: KStatus.CURRENT,
    Reason.ROUTE_ACCEPTED: KStatus.CURRENT,
    Reason.ALL_STAGES_DONE: KStatus.CURRENT,
    # reasons of PerformanceRegressed, which does not concern Ready: a slower version still serves
    Reason.NO_BASELINE: KStatus.CURRENT,
    Reason.AS_BEFORE: KStatus.CURRENT,
    Reason.SLOWER: KStatus.CURRENT,
    Reason.WAITING: KStatus.IN_PROGRESS,
    Reason.RUNNING: KStatus.IN_PROGRESS,
    Reason.ROLLING_OUT: KStatus.IN_PROGRESS,
    # the kubelet restarts the pods; a version that never becomes ready ends as RolledBack or RollOutFailed
    Reason.NO_READY_REPLICAS: KStatus.IN_PROGRESS,
    Reason.REPLICAS_NOT_READY: KStatus.IN_PROGRESS,
    Reason.WAITING_FOR_GPU: KStatus.IN_PROGRESS,
    # the scheduler, the attach-detach controller and the quota retry by themselves
    Reason.WAITING_FOR_CAPACITY: KStatus.IN_PROGRESS,
    Reason.GPU_HANDED_OVER: KStatus.IN_PROGRESS,
    Reason.METRIC_MISSING: KStatus.IN_PROGRESS,
    Reason.JOB_FAILED: KStatus.STALLED,
    Reason.RESULT_MISSING: KStatus.STALLED,
    Reason.SOURCE_UNUSABLE: KStatus.STALLED,
    Reason.APPLY_FAILED: KStatus.STALLED,
    Reason.NOT_OURS: KStatus.STALLED,
    Reason.INVALID_SPEC: KStatus.STALLED,
    Reason.BELOW_MINIMUM: KStatus.STALLED,
    Reason.DROP_TOO_LARGE: KStatus.STALLED,
    Reason.INCONCLUSIVE: KStatus.STALLED,
    Reason.ROLLED_BACK: KStatus.STALLED,
    Reason.ROLL_OUT_FAILED: KStatus.STALLED,
    Reason.KEDA_MISSING: KStatus.STALLED,
    Reason.ROUTE_REFUSED: KStatus.STALLED,
    Reason.GATEWAY_API_MISSING: KStatus.STALLED,
    Reason.DEPLOYMENT_PAUSED: KStatus.STALLED,
    Reason.SUSPENDED: KStatus.IN_PROGRESS,
    Reason.PAUSED: KStatus.PAUSED,
    Reason.STOPPED: KStatus.PAUSED,
}
"""By the reason of Ready. Any other reason comes from the result of a failed stage and means STALLED."""

MESSAGES: Mapping[KStatus, str] = {
    KStatus.CURRENT: "the resource matches its spec",
    KStatus.IN_PROGRESS: "the operator or the cluster is applying the spec",
    KStatus.STALLED: "no progress until a user acts; see the condition Ready",
    KStatus.PAUSED: "the spec pauses or stops the resource",
}
"""Message of Reconciling or Stalled when it is False."""


def derive_kstatus(ready: Finding, failure: ClusterError | None = None) -> dict[ConditionType, Finding]:
    """Reconciling and Stalled, from Ready and from the error of this pass, if any."""
    kstatus = _kstatus(ready, failure)
    return {
        ConditionType.RECONCILING: _finding(ready, kstatus, is_true=kstatus is KStatus.IN_PROGRESS),
        ConditionType.STALLED: _finding(ready, kstatus, is_true=kstatus is KStatus.STALLED),
    }


def _kstatus(ready: Finding, failure: ClusterError | None) -> KStatus:
    if ready.status == "True":
        return KStatus.CURRENT
    if failure is not None and is_transient(failure):
        return KStatus.IN_PROGRESS  # the pass is retried within 30 seconds
    return KSTATUS_OF_REASON.get(ready.reason, KStatus.STALLED)


def _finding(ready: Finding, kstatus: KStatus, *, is_true: bool) -> Finding:
    if is_true:
        return Finding("True", ready.reason, ready.message)
    return Finding("False", ready.reason, MESSAGES[kstatus])
