"""The conditions Reconciling and Stalled, by which kstatus, Flux and Argo CD see success and failure. Pure.

Both follow from Ready, and both are False while Ready is True, also during a load test. At most one is True:
Reconciling while the operator or the cluster works towards the spec, Stalled when a person must act first. A resource
that is paused or stopped is neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from toxicity_api.conditions import ConditionType, Reason
from toxicity_operator.decide.conditions import Finding
from toxicity_operator.errors import ClusterError, is_transient


class Outlook(Enum):
    """What is to be expected of a resource whose Ready has a reason."""

    DONE = auto()
    WORKING = auto()
    STUCK = auto()
    HELD = auto()


OUTLOOKS: Mapping[str, Outlook] = {
    Reason.SUCCEEDED: Outlook.DONE,
    Reason.SKIPPED: Outlook.DONE,
    Reason.ACCEPTED: Outlook.DONE,
    Reason.OVERRIDDEN: Outlook.DONE,
    Reason.REPLICAS_READY: Outlook.DONE,
    Reason.METRIC_AVAILABLE: Outlook.DONE,
    Reason.ALL_STAGES_DONE: Outlook.DONE,
    Reason.WAITING: Outlook.WORKING,
    Reason.RUNNING: Outlook.WORKING,
    Reason.ROLLING_OUT: Outlook.WORKING,
    # the kubelet restarts the pods; a version that never gets ready becomes RolledBack or RollOutFailed
    Reason.NO_READY_REPLICAS: Outlook.WORKING,
    Reason.REPLICAS_NOT_READY: Outlook.WORKING,
    Reason.WAITING_FOR_GPU: Outlook.WORKING,
    Reason.GPU_HANDED_OVER: Outlook.WORKING,
    Reason.METRIC_MISSING: Outlook.WORKING,
    Reason.JOB_FAILED: Outlook.STUCK,
    Reason.RESULT_MISSING: Outlook.STUCK,
    Reason.SOURCE_UNUSABLE: Outlook.STUCK,
    Reason.APPLY_FAILED: Outlook.STUCK,
    Reason.NOT_OURS: Outlook.STUCK,
    Reason.INVALID_SPEC: Outlook.STUCK,
    Reason.BELOW_MINIMUM: Outlook.STUCK,
    Reason.DROP_TOO_LARGE: Outlook.STUCK,
    Reason.INCONCLUSIVE: Outlook.STUCK,
    Reason.ROLLED_BACK: Outlook.STUCK,
    Reason.ROLL_OUT_FAILED: Outlook.STUCK,
    Reason.KEDA_MISSING: Outlook.STUCK,
    Reason.DEPLOYMENT_PAUSED: Outlook.STUCK,
    Reason.SUSPENDED: Outlook.WORKING,
    Reason.PAUSED: Outlook.HELD,
    Reason.STOPPED: Outlook.HELD,
}
"""By reason of Ready. A reason that is not here is that of a failed stage, which passes its own on."""

WORDS: Mapping[Outlook, str] = {
    Outlook.DONE: "the resource is as its spec asks",
    Outlook.WORKING: "the operator or the cluster works towards the spec",
    Outlook.STUCK: "nothing more happens until a person acts",
    Outlook.HELD: "nothing happens while the spec pauses or stops it",
}
"""Message of the condition that is False, and why it is."""


def derive_kstatus(ready: Finding, failure: ClusterError | None = None) -> dict[ConditionType, Finding]:
    """Reconciling and Stalled, from Ready and from what went wrong while applying the plan."""
    outlook = _outlook(ready, failure)
    return {
        ConditionType.RECONCILING: _finding(ready, outlook, is_true=outlook is Outlook.WORKING),
        ConditionType.STALLED: _finding(ready, outlook, is_true=outlook is Outlook.STUCK),
    }


def _outlook(ready: Finding, failure: ClusterError | None) -> Outlook:
    if ready.status == "True":
        return Outlook.DONE
    if failure is not None and is_transient(failure):
        return Outlook.WORKING  # tried again within half a minute
    return OUTLOOKS.get(ready.reason, Outlook.STUCK)


def _finding(ready: Finding, outlook: Outlook, *, is_true: bool) -> Finding:
    if is_true:
        return Finding("True", ready.reason, ready.message)
    return Finding("False", ready.reason, WORDS[outlook])
