"""Whose an object is: the resource's own, left over from an earlier resource of its name, or somebody else's. Pure.

A label proves nothing, since anybody can set it. What counts is the controller in `ownerReferences`. An object without
a controller is an orphan of ours only when the API server itself recorded, in `managedFields`, that this operator
wrote its model label: a claim that `storage.reclaim: Retain` kept, or what `kubectl delete --cascade=orphan` left.
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
"""Kinds that the Job and Deployment controllers make, not the operator."""


class Ownership(Enum):
    """Whose an object is, seen from one resource."""

    OURS = auto()
    """The resource is its controller."""

    ORPHAN = auto()
    """This operator made it for a resource of this name, and it has no controller now."""

    PREDECESSOR = auto()
    """An earlier resource of this name is its controller: the garbage collector is about to remove it."""

    FOREIGN = auto()
    """Somebody else's: never changed, used or deleted."""


def ownership(item: Raw, identity: Identity) -> Ownership:
    """Whose the object is, seen from the resource."""
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
    """The owner reference of the object's controller; None without one."""
    owners = item["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def is_made_for(item: Raw, model: str) -> bool:
    """Whether this operator wrote the label that says that the object belongs to the resource of this name."""
    metadata = item["metadata"]
    if metadata.get("labels", {}).get(names.MODEL_LABEL) != model:
        return False
    return any(_wrote_label(entry) for entry in metadata.get("managedFields") or [])


def _wrote_label(entry: Raw) -> bool:
    labels = entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:labels", {})
    return entry.get("manager") == names.FIELD_MANAGER and f"f:{names.MODEL_LABEL}" in labels


def own_objects(objects: Iterable[Raw], identity: Identity) -> list[Raw]:
    """The resource's own objects and orphans of ours, and what the controllers made of those: pods, ReplicaSets, and
    the autoscaler that KEDA makes. Pods of a Job that is gone are kept too: their Job was ours, and they still run.
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
    """Whether this is a pod of one of the resource's Jobs which is gone."""
    controller = controller_of(item)
    if item["kind"] != "Pod" or controller is None or controller["kind"] != "Job" or controller["uid"] in there:
        return False
    return str(controller["name"]).startswith(f"{identity.name}-")


def _uid(item: Raw) -> str:
    return str(item["metadata"].get("uid"))


def _controller_uid(item: Raw) -> Any:
    return (controller_of(item) or {}).get("uid")
