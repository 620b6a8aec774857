"""What is wrong with a pod, in words that a person can act on; pure, on raw pods."""

from __future__ import annotations

from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_api.types import Raw
from toxicity_operator import names

MESSAGE_LIMIT = 800
CREATING = ("ContainerCreating", "PodInitializing")
"""Why a container waits that nothing is wrong with."""


def refused_source(pod: Raw) -> str:
    """What an init container said that found its source unusable for good; empty when none did."""
    for container in pod.get("status", {}).get("initContainerStatuses", []):
        terminated = container.get("state", {}).get("terminated") or {}
        if terminated.get("exitCode") == EXIT_INVALID_INPUT:
            return str(terminated.get("message", "")).strip()[:MESSAGE_LIMIT]
    return ""


def pod_trouble(pod: Raw) -> str:
    """Why a pod stopped or cannot start, in words; empty when nothing is wrong."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    # before the containers: the exit code 137 of a stopped pod would look like a crash of its own
    stopped = _stopped(status)
    if stopped:
        return f"pod {name} {stopped}"[:MESSAGE_LIMIT]
    for kind, statuses, specs in (
        ("init container", "initContainerStatuses", "initContainers"),
        ("container", "containerStatuses", "containers"),
    ):
        limits = {item["name"]: _memory_limit(item) for item in pod.get("spec", {}).get(specs, [])}
        for container in status.get(statuses, []):
            words = _state_words(container, limits.get(container["name"], ""))
            if words:
                return f"{kind} {container['name']} of pod {name} {words}"
    words = _unschedulable(pod)
    return f"pod {name} cannot be scheduled: {words}"[:MESSAGE_LIMIT] if words else ""


def pod_delay(pod: Raw) -> str:
    """What a placed pod without trouble waits for before any container of it can start; empty when for nothing.

    The kubelet tells a volume that cannot be mounted, a missing ConfigMap or Secret, or a network that does not come
    only as events. So the words hold for the first second of every pod as well, and are no trouble by themselves.
    """
    status = pod.get("status", {})
    states = [
        container.get("state", {})
        for statuses in ("initContainerStatuses", "containerStatuses")
        for container in status.get(statuses, [])
    ]
    creating = bool(states) and all((state.get("waiting") or {}).get("reason") in CREATING for state in states)
    if not creating or _condition(status, "PodScheduled", "True") is None:
        return ""
    # once this is true only images are pulled; a kubelet before 1.29 does not say
    if _condition(status, "PodReadyToStartContainers", "False") is None:
        return ""
    name = pod["metadata"]["name"]
    return f"the volumes or the network of pod {name} are not ready yet: kubectl describe pod {name} says more"


def lacks_gpu(pod: Raw) -> bool:
    """Whether the pod cannot be scheduled because no node has as many GPUs free as it asks for."""
    return f"Insufficient {names.GPU_RESOURCE}" in _unschedulable(pod)


def _stopped(status: Raw) -> str:
    """That the cluster stops or has stopped a pod which did nothing wrong, and why; empty when it does not."""
    phase, word = status.get("phase"), "was" if status.get("phase") == "Failed" else "is being"
    reason, message = status.get("reason"), status.get("message", "")
    # a pod that failed by its containers has no reason of its own
    if reason and (phase == "Failed" or reason in ("Evicted", "Preempting", "NodeLost")):
        return f"{word} stopped by the cluster ({reason}): {message}"
    disruption = _condition(status, "DisruptionTarget", "True")
    if disruption is None or phase == "Succeeded":
        return ""
    return f"{word} stopped by the cluster ({disruption.get('reason', '')}): {disruption.get('message', '')}"


def _condition(status: Raw, kind: str, wanted: str) -> Raw | None:
    found = (c for c in status.get("conditions", []) if c["type"] == kind and c["status"] == wanted)
    return next(found, None)


def _unschedulable(pod: Raw) -> str:
    """What the scheduler says of a pod that fits nowhere; empty when it says nothing."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition.get("reason") == "Unschedulable" and condition["status"] == "False":
            return str(condition.get("message", ""))
    return ""


def _memory_limit(container: Raw) -> str:
    return str(container.get("resources", {}).get("limits", {}).get("memory", ""))


def _state_words(container: Raw, memory_limit: str) -> str:
    state, last = container.get("state", {}), container.get("lastState", {})
    terminated = state.get("terminated") or (None if container.get("ready") else last.get("terminated"))
    if terminated and terminated.get("exitCode", 0) != 0:
        return _end_words(terminated, memory_limit)
    waiting = state.get("waiting") or {}
    if waiting.get("reason") not in (None, *CREATING):
        return f"waits: {waiting['reason']} {waiting.get('message', '')}".strip()[:MESSAGE_LIMIT]
    return ""


def _end_words(terminated: Raw, memory_limit: str) -> str:
    reason, code = terminated.get("reason", "Error"), terminated["exitCode"]
    if reason == "OOMKilled":
        limit = f", its limit is {memory_limit}: raise resources.limits.memory" if memory_limit else ""
        return f"was killed for lack of memory (OOMKilled) with exit code {code}{limit}"
    detail = str(terminated.get("message", "")).strip()[-MESSAGE_LIMIT // 2 :]
    return f"ended ({reason}) with exit code {code}" + (f": {detail}" if detail else "")
