"""Reads from the autoscaler objects whether the autoscaler gets its metric. Pure.

KEDA reports its trigger in the ScaledObject. It also creates a HorizontalPodAutoscaler, which reads the metric through
KEDA's metrics API. Either one can fail alone, so both are checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from toxicity_api.types import Raw
from toxicity_operator.manifests.autoscaler import HPA, SCALED_OBJECT


@dataclass(frozen=True)
class AutoscalerState:
    """`active`: whether the autoscaler gets its metric, None if not reported yet. `message`: the reported error."""

    active: bool | None
    message: str = ""


def read_autoscalers(objects: Iterable[Raw]) -> dict[str, AutoscalerState]:
    """The state of each autoscaler by the kind of object that the operator created.

    KEDA's HorizontalPodAutoscaler counts as part of its ScaledObject.
    """
    found = [item for item in objects if item["kind"] in (HPA, SCALED_OBJECT)]
    scaled = next((item for item in found if item["kind"] == SCALED_OBJECT), None)
    uid = scaled["metadata"]["uid"] if scaled else None
    made_by_keda = next(
        (item for item in found if item["kind"] == HPA and uid and is_made_by_keda(item, uid)), None
    )
    own = next((item for item in found if item["kind"] == HPA and not is_made_by_keda(item)), None)
    states = {} if own is None else {HPA: _state(own, "ScalingActive")}
    if scaled is not None:
        states[SCALED_OBJECT] = _of_both(scaled, made_by_keda)
    return states


def is_made_by_keda(item: Raw, uid: str | None = None) -> bool:
    """Whether a ScaledObject owns the object: the one with this `uid`, or any. KEDA copies the labels of the owner."""
    owners = [o for o in item["metadata"].get("ownerReferences", []) if o.get("kind") == SCALED_OBJECT]
    return any(uid in (None, owner["uid"]) for owner in owners)


def _of_both(scaled: Raw, made_by_keda: Raw | None) -> AutoscalerState:
    trigger = _state(scaled, "Ready")
    metric = AutoscalerState(None) if made_by_keda is None else _state(made_by_keda, "ScalingActive")
    for state in (metric, trigger):
        if state.active is False:
            return state
    return AutoscalerState(True) if metric.active and trigger.active else AutoscalerState(None)


def _state(item: Raw, kind: str) -> AutoscalerState:
    values = {"True": True, "False": False}
    for condition in item.get("status", {}).get("conditions") or []:
        if condition["type"] == kind:
            return AutoscalerState(values.get(condition["status"]), str(condition.get("message", "")))
    return AutoscalerState(None)
