"""Explains what is wrong with a raw pod or what it waits for, and what to do about it. Pure."""

from __future__ import annotations

from toxicity_api.types import Raw
from toxicity_operator.observe.containers import CREATING, Container, container_trouble, containers_of
from toxicity_operator.observe.objects import NO_CONTEXT, ReadContext, condition, gpu_resource
from toxicity_operator.observe.remedies import MESSAGE_LIMIT, fields_of, with_remedy

SETTLING_SECONDS = 3
"""Time in which the volumes and the network of most pods become ready. Events are read only after it."""

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
"""Taint with which the pod garbage collector ends the pods of a node that does not answer, and detaches volumes."""

JOB_FINALIZER = "batch.kubernetes.io/job-tracking"
"""Finalizer with which the Job controller counts a pod before it is deleted."""


def pod_trouble(pod: Raw, context: ReadContext = NO_CONTEXT) -> str:
    """Why a pod stopped or cannot start, and what to do; empty if nothing is wrong."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    # before the containers, since the exit code 137 of a stopped pod looks like a crash; a pod whose node is lost has
    # been stopped, too, but no other pod starts before somebody confirms that it is gone
    stopped = _lost(pod, context) or _stopped(status)
    if stopped:
        return with_remedy(f"pod {name} {stopped}", fields_of(pod))
    message = next(filter(None, map(container_trouble, containers_of(pod))), "")
    if message:
        return message
    message = _unschedulable(pod)
    if not message:
        return ""
    return with_remedy(f"pod {name} cannot be scheduled: {message}{_claim_message(pod, context)}", fields_of(pod))


def pod_delay(pod: Raw, context: ReadContext = NO_CONTEXT) -> str:
    """What a pod without a problem waits for; empty if it does not wait."""
    return (
        _creating_message(pod, context)
        or _unseen_message(pod, context)
        or next(filter(None, (_slow_message(item, context) for item in containers_of(pod))), "")
        or _gate_message(pod)
        or _resize_message(pod)
    )


def awaits_events(pod: Raw) -> bool:
    """Whether no container of a scheduled pod can start yet, for a reason that the kubelet reports only in Events."""
    status = pod.get("status", {})
    states = [item.status.get("state", {}) for item in containers_of(pod)]
    creating = bool(states) and all((state.get("waiting") or {}).get("reason") in CREATING for state in states)
    if not creating or condition(status, "PodScheduled") is None:
        return False
    # once this condition is true, only images are pulled; kubelets before 1.29 do not set it
    return condition(status, "PodReadyToStartContainers", "False") is not None


def has_settled(pod: Raw, context: ReadContext) -> bool:
    """Whether SETTLING_SECONDS have passed since the pod was scheduled."""
    placed = condition(pod.get("status", {}), "PodScheduled") or {}
    return context.has_elapsed(placed.get("lastTransitionTime"), SETTLING_SECONDS)


def is_new(pod: Raw, context: ReadContext) -> bool:
    """Whether a pod is pending and too new for the status to report that."""
    pending = pod.get("status", {}).get("phase") == "Pending"
    return pending and context.is_recent(pod["metadata"].get("creationTimestamp"))


def lacks_gpu(pod: Raw) -> bool:
    """Whether the pod is unschedulable because no node has enough free GPUs."""
    return f"Insufficient {gpu_resource(pod['metadata'])}" in _unschedulable(pod)


def pending_claims(pod: Raw) -> list[str]:
    """Names of the volume claims of an unscheduled pod. The scheduler waits until they are bound."""
    if condition(pod.get("status", {}), "PodScheduled") is not None:
        return []
    volumes = pod.get("spec", {}).get("volumes", [])
    return [
        volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume
    ]


def give_up_node(node: str) -> str:
    """How to confirm that the pods of a node do not run any more.

    `kubectl delete pod --force` does not: the Job controller keeps the pod of a Job until its phase is terminal, which
    only the kubelet or the pod garbage collector sets.
    """
    return f"if the node is down, run kubectl taint node {node} {OUT_OF_SERVICE}, and remove the taint when it is back"


def _stopped(status: Raw) -> str:
    """Why the cluster stops or has stopped a healthy pod; empty if it does not."""
    phase, word = status.get("phase"), "was" if status.get("phase") == "Failed" else "is being"
    reason, message = status.get("reason"), status.get("message", "")
    # a pod that failed because of its containers has no reason
    if reason and (phase == "Failed" or reason in ("Evicted", "Preempting", "NodeLost")):
        return f"{word} stopped by the cluster ({reason}): {message}"
    disruption = condition(status, "DisruptionTarget")
    if disruption is None or phase == "Succeeded":
        return ""
    return f"{word} stopped by the cluster ({disruption.get('reason', '')}): {disruption.get('message', '')}"


def _lost(pod: Raw, context: ReadContext) -> str:
    """The message for a deleted pod that does not terminate, or for a pod in an unknown state; else empty."""
    metadata, node = pod["metadata"], pod.get("spec", {}).get("nodeName", "")
    # the deletionTimestamp of a pod is the end of its grace period
    if context.has_elapsed(metadata.get("deletionTimestamp"), SETTLING_SECONDS):
        foreign = [item for item in metadata.get("finalizers", []) if item != JOB_FINALIZER]
        if foreign:
            return (
                f"is deleted, but waits for finalizer {', '.join(foreign)}; check the controller that removes it"
            )
        return (
            f"is deleted, but node {node or 'unknown'} does not confirm its termination; see kubectl get node {node};"
            f" {give_up_node(node)}"
        )
    if pod.get("status", {}).get("phase") == "Unknown":
        return f"has an unknown state, since node {node} does not respond; see kubectl describe node {node}"
    return ""


def _unschedulable(pod: Raw) -> str:
    """The scheduler's message about a pod that it could not schedule; empty if there is none."""
    found = condition(pod.get("status", {}), "PodScheduled", "False")
    if found is None:
        return ""
    message, reason = str(found.get("message", "")), found.get("reason", "")
    return message if reason == "Unschedulable" and message else f"{message} ({reason})".strip()


def _claim_message(pod: Raw, context: ReadContext) -> str:
    reported = [
        f"; claim {name}: {context.claims[name]}" for name in pending_claims(pod) if context.claims.get(name)
    ]
    return "".join(reported)


def _creating_message(pod: Raw, context: ReadContext) -> str:
    """Why the containers of a scheduled pod cannot be created.

    The kubelet reports an unmountable volume, a missing ConfigMap or a network failure only in Events. Without an Event
    the message also applies to the first second of every pod, so it is not a problem by itself.
    """
    if not awaits_events(pod):
        return ""
    name = pod["metadata"]["name"]
    reported = context.events.get(str(pod["metadata"].get("uid", "")), "")
    hint = f"see kubectl describe pod {name}"
    if reported:
        return with_remedy(f"pod {name} cannot start: {reported}", fields_of(pod), hint)
    return f"the volumes or the network of pod {name} are not ready yet; {hint}"


def _unseen_message(pod: Raw, context: ReadContext) -> str:
    """The message for a pod that the scheduler or the kubelet ignores. They normally react within a second."""
    metadata, status = pod["metadata"], pod.get("status", {})
    if status.get("phase") != "Pending" or metadata.get("deletionTimestamp") or any(containers_of(pod)):
        return ""
    placed = condition(status, "PodScheduled")
    if placed is None:
        if not context.has_elapsed(metadata.get("creationTimestamp")):
            return ""
        claims = _claim_message(pod, context)
        text = f"no scheduler has scheduled pod {metadata['name']} yet{claims}"
        return with_remedy(text, fields_of(pod), "check that kube-scheduler runs")
    if not context.has_elapsed(placed.get("lastTransitionTime")):
        return ""
    node = pod.get("spec", {}).get("nodeName", "")
    return f"node {node} has not started pod {metadata['name']}; see kubectl describe node {node}"


def _slow_message(item: Container, context: ReadContext) -> str:
    """The message for a running init container, or for a container that has not passed its probe."""
    pod = item.pod["metadata"]["name"]
    if not item.runs or not context.has_elapsed(item.status["state"]["running"].get("startedAt")):
        return ""
    if item.kind == "init container" and item.spec.get("restartPolicy") != "Always":
        return f"{item.description} is still running; see kubectl logs {pod} -c {item.name}"
    probe = "startup" if item.status.get("started") is False else "readiness"
    if item.kind == "container" and item.status.get("ready") is False and f"{probe}Probe" in item.spec:
        return f"{item.description} has not passed its {probe} probe yet; see kubectl logs {pod} -c {item.name}"
    return ""


def _gate_message(pod: Raw) -> str:
    """The readiness gates that are not True although all containers of the pod are ready."""
    status = pod.get("status", {})
    if condition(status, "ContainersReady") is None or condition(status, "Ready") is not None:
        return ""
    gates = [gate["conditionType"] for gate in pod.get("spec", {}).get("readinessGates", [])]
    closed = [gate for gate in gates if condition(status, gate) is None]
    if not closed:
        return ""
    return f"pod {pod['metadata']['name']} waits for its readiness gate {', '.join(closed)}; check who sets it"


def _resize_message(pod: Raw) -> str:
    found = condition(pod.get("status", {}), "PodResizePending")
    if found is None:
        return ""
    said = f"{found.get('reason', '')}: {found.get('message', '')}"
    message = (
        f"the resize of pod {pod['metadata']['name']} is pending ({said}); undo it, or free resources on the node"
    )
    return message[:MESSAGE_LIMIT]
