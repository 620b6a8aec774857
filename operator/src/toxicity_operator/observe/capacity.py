"""Determines whether a pod waits for capacity: for a node with free resources, or for a volume that attaches. Pure.

Such a wait is no fault of the version or stage. It ends when other pods end or when a node is added.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from toxicity_api.types import Raw
from toxicity_operator.observe.objects import ReadContext, condition
from toxicity_operator.observe.pods import awaits_events

NO_NODE = re.compile(
    r"Insufficient |Too many pods|no nodes available|were unschedulable|untolerated taint \{node\.kubernetes\.io/"
    r"|didn't match pod affinity rules|didn't have free ports|volume node affinity conflict"
    r"|didn't match PersistentVolume's node affinity|exceed max volume count|ReadWriteOncePod"
    r"|unbound immediate PersistentVolumeClaims"
)
"""The scheduler's message names a reason for each node. The check of free resources comes after those of taints and of
the node selector, so one node without free resources is a node on which the pod could run."""

UNATTACHED = re.compile(r"Multi-Attach|FailedAttachVolume|Unable to attach or mount volumes")
"""Events of a pod whose volume is attached to another node, or cannot be attached."""

EXCEEDED_QUOTA = "exceeded quota"


def awaits_capacity(pod: Raw, context: ReadContext) -> bool:
    """Whether an unstarted pod waits for capacity."""
    unplaced = condition(pod.get("status", {}), "PodScheduled", "False")
    if unplaced is not None:
        return unplaced.get("reason") == "SchedulingGated" or bool(
            NO_NODE.search(str(unplaced.get("message", "")))
        )
    reported = context.events.get(str(pod["metadata"].get("uid", "")), "")
    return awaits_events(pod) and bool(UNATTACHED.search(reported))


def had_its_time(pods: Iterable[Raw], seconds: float, context: ReadContext) -> bool:
    """Whether a pod is not ready although it has had a node and its volumes for at least `seconds`."""
    return any(
        not awaits_capacity(pod, context) and not context.is_recent(_could_start_at(pod), seconds) for pod in pods
    )


def _could_start_at(pod: Raw) -> str:
    """When the pod had a node and its volumes, RFC 3339; empty if unknown."""
    met = (condition(pod.get("status", {}), kind) for kind in ("PodScheduled", "PodReadyToStartContainers"))
    return max((str(found.get("lastTransitionTime") or "") for found in met if found), default="")
