"""Determines whether an object belongs to a resource, to an earlier resource of its name, or to someone else. Pure.

A label proves nothing, since anyone can set it. The controller in `ownerReferences` decides. An object without a
controller is an orphan of this operator only if `managedFields`, which the API server writes, record that the operator
set its model label. Examples are a claim kept by `storage.reclaim: Retain`, and objects left by
`kubectl delete --cascade=orphan`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Any

from toxicity_api.base import API_GROUP, KIND
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.model import Identity

GRANDCHILDREN = ("Pod", "ReplicaSet")
"""Kinds that the Job and Deployment controllers create."""


class Ownership(Enum):
    """How an object relates to one resource."""

    OURS = auto()
    """The resource is its controller."""

    ORPHAN = auto()
    """The operator created it for a resource of this name, and it has no controller now."""

    PREDECESSOR = auto()
    """An earlier resource of this name is its controller. The garbage collector will delete it."""

    FOREIGN = auto()
    """It belongs to someone else. The operator never changes, uses or deletes it."""


def ownership(item: Raw, identity: Identity) -> Ownership:
    """How the object relates to the resource."""
    controller = controller_of(item)
    if controller is None:
        return Ownership.ORPHAN if is_made_for(item, identity.name) else Ownership.FOREIGN
    if controller["uid"] == identity.uid:
        return Ownership.OURS
    of_namesake = controller["kind"] == KIND and controller["name"] == identity.name
    if of_namesake and str(controller.get("apiVersion", "")).startswith(f"{API_GROUP}/"):
        return Ownership.PREDECESSOR
    return Ownership.FOREIGN


def controller_of(item: Raw) -> Raw | None:
    """The owner reference of the object's controller; None if it has none."""
    owners = item["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def is_made_for(item: Raw, model: str) -> bool:
    """Whether the operator wrote the object's model label with the name of this resource."""
    metadata = item["metadata"]
    if metadata.get("labels", {}).get(names.MODEL_LABEL) != model:
        return False
    return any(_wrote_label(entry) for entry in metadata.get("managedFields") or [])


def _wrote_label(entry: Raw) -> bool:
    labels = entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:labels", {})
    return entry.get("manager") == names.FIELD_MANAGER and f"f:{names.MODEL_LABEL}" in labels


def own_objects(objects: Iterable[Raw], identity: Identity) -> list[Raw]:
    """The objects of the resource, its orphans, and what controllers created for them.

    These are pods, ReplicaSets and KEDA's HorizontalPodAutoscaler. Pods of a deleted Job of the resource are included,
    because they may still run.
    """
    everything = list(objects)
    own = {
        _uid(item)
        for item in everything
        if item["kind"] not in GRANDCHILDREN and ownership(item, identity) in (Ownership.OURS, Ownership.ORPHAN)
    }
    while True:
        made = {_uid(item) for item in everything if _uid(item) not in own and _controller_uid(item) in own}
        if not made:
            break
        own |= made
    there = {_uid(item) for item in everything}
    return [item for item in everything if _uid(item) in own or _is_left_of_job(item, identity, there)]


def _is_left_of_job(item: Raw, identity: Identity, there: set[str]) -> bool:
    """Whether this is a pod of a deleted Job of the resource."""
    controller = controller_of(item)
    if item["kind"] != "Pod" or controller is None or controller["kind"] != "Job" or controller["uid"] in there:
        return False
    return str(controller["name"]).startswith(f"{identity.name}-")


def _uid(item: Raw) -> str:
    return str(item["metadata"].get("uid"))


def _controller_uid(item: Raw) -> Any:
    return (controller_of(item) or {}).get("uid")
