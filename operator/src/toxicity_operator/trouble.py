"""What is wrong with a pod, in words that a person can act on; pure, on raw pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_operator import names

Raw = Mapping[str, Any]
MESSAGE_LIMIT = 800


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
    if status.get("reason") in ("Evicted", "Preempting", "NodeLost"):
        return f"pod {name} was stopped by the cluster ({status['reason']}): {status.get('message', '')}"[
            :MESSAGE_LIMIT
        ]
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


def lacks_gpu(pod: Raw) -> bool:
    """Whether the pod cannot be scheduled because no node has as many GPUs free as it asks for."""
    return f"Insufficient {names.GPU_RESOURCE}" in _unschedulable(pod)


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
    if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        return f"waits: {waiting['reason']} {waiting.get('message', '')}".strip()[:MESSAGE_LIMIT]
    return ""


def _end_words(terminated: Raw, memory_limit: str) -> str:
    reason, code = terminated.get("reason", "Error"), terminated["exitCode"]
    if reason == "OOMKilled":
        limit = f", its limit is {memory_limit}: raise resources.limits.memory" if memory_limit else ""
        return f"was killed for lack of memory (OOMKilled) with exit code {code}{limit}"
    detail = str(terminated.get("message", "")).strip()[-MESSAGE_LIMIT // 2 :]
    return f"ended ({reason}) with exit code {code}" + (f": {detail}" if detail else "")
