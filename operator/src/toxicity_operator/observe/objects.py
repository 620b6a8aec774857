"""Helpers for raw Kubernetes objects of any kind. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from toxicity_api.types import Raw
from toxicity_operator import names

PATIENCE_SECONDS = 20
"""How long a controller, the scheduler or a kubelet may ignore a new object before the status reports it."""


@dataclass(frozen=True)
class ReadContext:
    """The time at which objects are read (RFC 3339; empty if unknown), and messages of Events about them.

    `events`: messages by the uid of the object. `claims`: messages by the name of an unbound volume claim.
    """

    now: str = ""
    events: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)

    def has_elapsed(self, timestamp: object, seconds: float = PATIENCE_SECONDS) -> bool:
        """Whether at least `seconds` have passed since the timestamp; False if either time is unknown."""
        if not self.now or not timestamp:
            return False
        passed = datetime.fromisoformat(self.now) - datetime.fromisoformat(str(timestamp))
        return passed.total_seconds() >= seconds

    def is_recent(self, timestamp: object, seconds: float = PATIENCE_SECONDS) -> bool:
        """Whether fewer than `seconds` have passed since the timestamp; False if either time is unknown."""
        return bool(self.now and timestamp) and not self.has_elapsed(timestamp, seconds)


NO_CONTEXT = ReadContext()


def label(item: Raw, key: str) -> str:
    return str(item["metadata"].get("labels", {}).get(key, ""))


def gpu_resource(metadata: Raw) -> str:
    """The resource that counts the GPUs of a pod with this metadata."""
    return str((metadata.get("annotations") or {}).get(names.GPU_RESOURCE_NAME, names.GPU_RESOURCE))


def has_ended(pod: Raw) -> bool:
    """Whether all containers of the pod have terminated for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_owned_by(item: Raw, owner: Raw) -> bool:
    return any(found["uid"] == owner["metadata"]["uid"] for found in item["metadata"].get("ownerReferences", []))


def true_conditions(conditions: Iterable[Raw]) -> list[Raw]:
    """The conditions whose status is True."""
    return [condition for condition in conditions if condition["status"] == "True"]


def condition(status: Raw, kind: str, wanted: str = "True") -> Raw | None:
    """The condition of type `kind` with the status `wanted`; None if there is none."""
    found = (c for c in status.get("conditions", []) if c["type"] == kind and c["status"] == wanted)
    return next(found, None)


def first_message(message: Callable[[Raw], str], pods: Iterable[Raw]) -> str:
    """The first non-empty message for one of the pods."""
    return next(filter(None, map(message, pods)), "")


def image_id(pods: list[Raw], component: str) -> str:
    """The pulled image of the component's container, from the newest pod that has started it."""
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            if container["name"] == component and container.get("imageID"):
                return str(container["imageID"])
    return ""
