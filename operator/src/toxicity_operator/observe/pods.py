"""What is wrong with a pod, or what it waits for, in words that a person can act on; pure, on raw pods."""

from __future__ import annotations

from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.observe.containers import CREATING, Container, container_trouble, containers_of
from toxicity_operator.observe.objects import NO_CONTEXT, ReadContext, condition
from toxicity_operator.observe.remedies import MESSAGE_LIMIT, fields_of, with_remedy

SETTLING_SECONDS = 3
"""In which the volumes and the network of most pods come to be, so that Events are not asked for them."""

JOB_FINALIZER = "batch.kubernetes.io/job-tracking"
"""By which the Job controller counts a pod before it goes."""


def pod_trouble(pod: Raw, context: ReadContext = NO_CONTEXT) -> str:
    """Why a pod stopped or cannot start, and what to do; empty when nothing is wrong."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    # before the containers: the exit code 137 of a stopped pod would look like a crash of its own
    stopped = _stopped(status) or _lost(pod, context)
    if stopped:
        return with_remedy(f"pod {name} {stopped}", fields_of(pod))
    words = next(filter(None, map(container_trouble, containers_of(pod))), "")
    if words:
        return words
    words = _unschedulable(pod)
    if not words:
        return ""
    return with_remedy(f"pod {name} cannot be scheduled: {words}{_claim_message(pod, context)}", fields_of(pod))


def pod_delay(pod: Raw, context: ReadContext = NO_CONTEXT) -> str:
    """What a pod without trouble waits for; empty when for nothing."""
    return (
        _creating_message(pod, context)
        or _unseen_message(pod, context)
        or next(filter(None, (_slow_message(item, context) for item in containers_of(pod))), "")
        or _gate_message(pod)
        or _resize_message(pod)
    )


def awaits_events(pod: Raw) -> bool:
    """Whether no container of a placed pod can start yet, for reasons that the kubelet tells only in Events."""
    status = pod.get("status", {})
    states = [item.status.get("state", {}) for item in containers_of(pod)]
    creating = bool(states) and all((state.get("waiting") or {}).get("reason") in CREATING for state in states)
    if not creating or condition(status, "PodScheduled") is None:
        return False
    # once this is true only images are pulled; a kubelet before 1.29 does not say
    return condition(status, "PodReadyToStartContainers", "False") is not None


def has_settled(pod: Raw, context: ReadContext) -> bool:
    """Whether a placed pod has had the time that its volumes and its network mostly take."""
    placed = condition(pod.get("status", {}), "PodScheduled") or {}
    return context.has_elapsed(placed.get("lastTransitionTime"), SETTLING_SECONDS)


def is_new(pod: Raw, context: ReadContext) -> bool:
    """Whether a pod has not started, and is too new for that to be told."""
    pending = pod.get("status", {}).get("phase") == "Pending"
    return pending and context.is_recent(pod["metadata"].get("creationTimestamp"))


def lacks_gpu(pod: Raw) -> bool:
    """Whether the pod cannot be scheduled because no node has as many GPUs free as it asks for."""
    return f"Insufficient {names.GPU_RESOURCE}" in _unschedulable(pod)


def pending_claims(pod: Raw) -> list[str]:
    """Names of the volume claims that a pod which is not placed needs; a scheduler waits for them to be bound."""
    if condition(pod.get("status", {}), "PodScheduled") is not None:
        return []
    volumes = pod.get("spec", {}).get("volumes", [])
    return [
        volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume
    ]


def _stopped(status: Raw) -> str:
    """That the cluster stops or has stopped a pod which did nothing wrong, and why; empty when it does not."""
    phase, word = status.get("phase"), "was" if status.get("phase") == "Failed" else "is being"
    reason, message = status.get("reason"), status.get("message", "")
    # a pod that failed by its containers has no reason of its own
    if reason and (phase == "Failed" or reason in ("Evicted", "Preempting", "NodeLost")):
        return f"{word} stopped by the cluster ({reason}): {message}"
    disruption = condition(status, "DisruptionTarget")
    if disruption is None or phase == "Succeeded":
        return ""
    return f"{word} stopped by the cluster ({disruption.get('reason', '')}): {disruption.get('message', '')}"


def _lost(pod: Raw, context: ReadContext) -> str:
    """That the node does not confirm the end of a pod, or says nothing of it at all."""
    metadata, name = pod["metadata"], pod["metadata"]["name"]
    node = pod.get("spec", {}).get("nodeName", "")
    # of a deleted pod this is when it is to be gone at the latest
    if context.has_elapsed(metadata.get("deletionTimestamp"), SETTLING_SECONDS):
        foreign = [item for item in metadata.get("finalizers", []) if item != JOB_FINALIZER]
        if foreign:
            return f"is deleted, but waits for {', '.join(foreign)}: see who removes that finalizer"
        return (
            f"is deleted, but node {node or 'unknown'} does not confirm its end: see kubectl get node {node};"
            f" where the node is gone for good, kubectl delete pod {name} --force"
        )
    if pod.get("status", {}).get("phase") == "Unknown":
        return f"has no known state, since node {node} does not answer: see kubectl describe node {node}"
    return ""


def _unschedulable(pod: Raw) -> str:
    """What the scheduler says of a pod that it has not placed; empty when it says nothing."""
    found = condition(pod.get("status", {}), "PodScheduled", "False")
    if found is None:
        return ""
    message, reason = str(found.get("message", "")), found.get("reason", "")
    return message if reason == "Unschedulable" and message else f"{message} ({reason})".strip()


def _claim_message(pod: Raw, context: ReadContext) -> str:
    told = [f"; claim {name}: {context.claims[name]}" for name in pending_claims(pod) if context.claims.get(name)]
    return "".join(told)


def _creating_message(pod: Raw, context: ReadContext) -> str:
    """The kubelet tells a volume that cannot be mounted, a missing ConfigMap or a network that fails only in Events.

    Without them the words hold for the first second of every pod as well, and are no trouble by themselves.
    """
    if not awaits_events(pod):
        return ""
    name = pod["metadata"]["name"]
    told = context.events.get(str(pod["metadata"].get("uid", "")), "")
    look = f"kubectl describe pod {name} says more"
    if told:
        return with_remedy(f"pod {name} cannot start: {told}", fields_of(pod), look)
    return f"the volumes or the network of pod {name} are not ready yet: {look}"


def _unseen_message(pod: Raw, context: ReadContext) -> str:
    """That the scheduler or the kubelet, which mostly act within a second, have not looked at a pod."""
    metadata, status = pod["metadata"], pod.get("status", {})
    if status.get("phase") != "Pending" or metadata.get("deletionTimestamp") or any(containers_of(pod)):
        return ""
    placed = condition(status, "PodScheduled")
    if placed is None:
        if not context.has_elapsed(metadata.get("creationTimestamp")):
            return ""
        claims = _claim_message(pod, context)
        text = f"no scheduler has placed pod {metadata['name']} yet{claims}"
        return with_remedy(text, fields_of(pod), "see whether kube-scheduler runs")
    if not context.has_elapsed(placed.get("lastTransitionTime")):
        return ""
    node = pod.get("spec", {}).get("nodeName", "")
    return f"node {node} has not begun with pod {metadata['name']}: see kubectl describe node {node}"


def _slow_message(item: Container, context: ReadContext) -> str:
    """What a container that runs is not through with: an init container's work, or the first answer of a server."""
    pod = item.pod["metadata"]["name"]
    if not item.runs or not context.has_elapsed(item.status["state"]["running"].get("startedAt")):
        return ""
    if item.kind == "init container" and item.spec.get("restartPolicy") != "Always":
        return f"{item.words} is still at work: see kubectl logs {pod} -c {item.name}"
    probe = "startup" if item.status.get("started") is False else "readiness"
    if item.kind == "container" and item.status.get("ready") is False and f"{probe}Probe" in item.spec:
        return f"{item.words} has not passed its {probe} probe yet: see kubectl logs {pod} -c {item.name}"
    return ""


def _gate_message(pod: Raw) -> str:
    """Which readiness gates of a pod whose containers are all ready have not been opened."""
    status = pod.get("status", {})
    if condition(status, "ContainersReady") is None or condition(status, "Ready") is not None:
        return ""
    gates = [gate["conditionType"] for gate in pod.get("spec", {}).get("readinessGates", [])]
    closed = [gate for gate in gates if condition(status, gate) is None]
    if not closed:
        return ""
    return f"pod {pod['metadata']['name']} waits for its readiness gate {', '.join(closed)}: see who sets it"


def _resize_message(pod: Raw) -> str:
    found = condition(pod.get("status", {}), "PodResizePending")
    if found is None:
        return ""
    said = f"{found.get('reason', '')}: {found.get('message', '')}"
    words = f"the resize of pod {pod['metadata']['name']} is pending ({said}): undo it, or make room on the node"
    return words[:MESSAGE_LIMIT]
