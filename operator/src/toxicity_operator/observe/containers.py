"""Reads container statuses of raw pods: how a container terminated, or why it waits. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.manifests.object_store import DOWNLOAD, WATCH
from toxicity_operator.observe.objects import has_ended, label
from toxicity_operator.observe.remedies import MESSAGE_LIMIT, SECTIONS, Fields, fields_of, with_remedy

CREATING = ("ContainerCreating", "PodInitializing")
"""Waiting reasons of a container that starts normally."""

LISTS = (
    ("init container", "initContainerStatuses", "initContainers"),
    ("container", "containerStatuses", "containers"),
)


@dataclass(frozen=True)
class Container:
    """One container of a pod: its status and its spec. `kind` is `container` or `init container`, for messages."""

    kind: str
    pod: Raw
    status: Raw
    spec: Raw

    @property
    def name(self) -> str:
        return str(self.status["name"])

    @property
    def description(self) -> str:
        """The container and its pod, for messages."""
        return f"{self.kind} {self.name} of pod {self.pod['metadata']['name']}"

    @property
    def fields(self) -> Fields:
        return fields_of(self.pod, self.spec)

    @property
    def is_ours(self) -> bool:
        """Whether the operator's manifest contains it. Admission can add others, such as a service mesh's sidecar."""
        component = label(self.pod, names.COMPONENT_LABEL)
        ours = (component, "tools", "dataset", "base-model", DOWNLOAD, WATCH)
        is_held_out = component == names.EVALUATE and self.name.startswith(names.HELD_OUT_PREFIX)
        return component not in SECTIONS or self.name in ours or is_held_out

    @property
    def terminated(self) -> Raw | None:
        """The terminated state; None if the container has not terminated."""
        found: Raw | None = self.status.get("state", {}).get("terminated")
        return found

    @property
    def runs(self) -> bool:
        return bool(self.status.get("state", {}).get("running"))


def containers_of(pod: Raw) -> Iterator[Container]:
    """The containers with a status, init containers first."""
    for kind, statuses, specs in LISTS:
        by_name = {item["name"]: item for item in pod.get("spec", {}).get(specs, [])}
        for status in pod.get("status", {}).get(statuses) or []:
            yield Container(kind, pod, status, by_name.get(status["name"], {}))


def stage_container(pod: Raw) -> Container | None:
    """The container named after the component; None if it has no status yet."""
    component = label(pod, names.COMPONENT_LABEL)
    found = (item for item in containers_of(pod) if item.kind == "container" and item.name == component)
    return next(found, None)


def running_sidecars(pod: Raw) -> list[str]:
    """Names of the containers, such as a service mesh's, that still run after the stage container has terminated."""
    stage = stage_container(pod)
    ends = pod["metadata"].get("deletionTimestamp") or has_ended(pod)
    if stage is None or stage.terminated is None or ends:
        return []
    return [item.name for item in containers_of(pod) if item.kind == "container" and item.runs]


def refused_source(pod: Raw) -> str:
    """The message of an init container that rejected its source permanently; empty if none did."""
    for item in containers_of(pod):
        ended = item.terminated or {}
        if item.kind == "init container" and ended.get("exitCode") == EXIT_INVALID_INPUT:
            return str(ended.get("message", "")).strip()[:MESSAGE_LIMIT]
    return ""


def container_trouble(item: Container) -> str:
    """Why a container failed or cannot start, and what to do; empty if nothing is wrong."""
    state, last = item.status.get("state", {}), item.status.get("lastState", {})
    ended = item.terminated or (None if item.status.get("ready") else last.get("terminated"))
    if ended and ended.get("exitCode", 0) != 0:
        return f"{item.description} {_end_message(item, ended)}"
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in (None, *CREATING):
        return ""
    message = f"{item.description} waits: {waiting['reason']} {waiting.get('message', '')}".strip()
    return with_remedy(message, item.fields, f"see kubectl describe pod {item.pod['metadata']['name']}")


def _end_message(item: Container, ended: Raw) -> str:
    reason, code = ended.get("reason", "Error"), ended["exitCode"]
    if reason == "OOMKilled":
        return f"was OOMKilled with exit code {code}{_memory_message(item)}"
    if reason == "ContainerStatusUnknown":
        return "was lost with its node (ContainerStatusUnknown); Kubernetes starts another pod"
    detail = str(ended.get("message", "")).strip()[-MESSAGE_LIMIT // 2 :]
    message = f"terminated ({reason}) with exit code {code}"
    if reason in ("StartError", "ContainerCannotRun"):
        return with_remedy(f"{message}: {detail}", item.fields)
    return message + (f": {detail}" if detail else "")


def _memory_message(item: Container) -> str:
    """The memory limit of the container, and the field to raise."""
    if not item.is_ours:
        return "; the operator did not add this container, so raise its memory limit where it is defined"
    field = f"{item.fields.section}.resources"
    amounts = item.spec.get("resources", {})
    limit = amounts.get("limits", {}).get("memory")
    if limit:
        return f"; its limit is {limit}; raise {field}.limits.memory"
    if not item.spec:
        return f"; raise {field}.limits.memory"
    return f"; it has no limit, so the node ran out of memory; raise {field}.requests.memory, or use a larger node"
