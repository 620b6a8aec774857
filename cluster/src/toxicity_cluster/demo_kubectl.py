"""kubectl as a function: what the demo and the end-to-end tests say to a cluster, embedded or not.

Everything goes through the kubectl binary and a kubeconfig, so that what is printed is what a person would see.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from toxicity_cluster.commands import run
from toxicity_cluster.errors import ClusterError, CommandFailed

Manifest = dict[str, Any]
T = TypeVar("T")

POLL_SECONDS = 2.0


class DeadlineExceeded(ClusterError):
    """What was waited for did not come in time."""


@dataclass(frozen=True)
class Kubectl:
    """A kubectl program bound to one kubeconfig."""

    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 120) -> str:
        """Standard output of `kubectl ARGUMENTS`. Raises CommandFailed with what kubectl said."""
        command = [str(self.program), f"--kubeconfig={self.kubeconfig}", *arguments]
        return run(command, input=stdin, timeout_seconds=timeout_seconds)

    def get(self, resource: str, name: str, namespace: str) -> Manifest | None:
        """The object, or None when there is none of that name."""
        text = self.run("get", resource, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def list(self, resources: str, namespace: str, selector: str = "") -> Sequence[Manifest]:
        """All objects of the comma-separated `resources` that match the label selector, sorted by name."""
        found = json.loads(self.run("get", resources, "-n", namespace, "-l", selector, "-o", "json"))
        return sorted(found["items"], key=lambda item: (item["kind"], item["metadata"]["name"]))

    def apply(self, document: Mapping[str, Any], namespace: str) -> None:
        """`kubectl apply` of one object."""
        self.run("apply", "-n", namespace, "-f", "-", stdin=json.dumps(document))

    def delete(self, resource: str, name: str, namespace: str, timeout_seconds: float = 180) -> None:
        """Deletes and waits until the object is gone; an absent object is no error."""
        arguments = ("delete", resource, name, "-n", namespace, "--ignore-not-found", "--wait")
        self.run(*arguments, timeout_seconds=timeout_seconds)

    def ensure_namespace(self, name: str, *, pod_security: str = "restricted") -> None:
        """Creates the namespace, or labels it, so that pods below the Pod Security level are refused."""
        labels = {"pod-security.kubernetes.io/enforce": pod_security}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}, name)

    def log_end(self, target: str, namespace: str, lines: int) -> Sequence[str]:
        """The last lines that `target` (job/x, pod/y) logged; none while it has no log."""
        try:
            text = self.run("logs", target, "-n", namespace, f"--tail={lines}")
        except CommandFailed:
            return []
        return text.strip().splitlines()


def wait_until(
    what: str, condition: Callable[[], T | None], deadline_seconds: float, poll_seconds: float = POLL_SECONDS
) -> T:
    """Polls until `condition` returns something true and returns that.

    A command that fails is not an end: one of a thousand questions to a busy API server is not answered in time.
    Raises DeadlineExceeded naming `what` and the last value or failure seen.
    """
    end = time.monotonic() + deadline_seconds
    while True:
        seen: object
        try:
            seen = value = condition()
        except CommandFailed as error:
            seen, value = error, None
        if value:
            return value
        if time.monotonic() > end:
            raise DeadlineExceeded(f"{what}: not within {deadline_seconds:.0f} s (last seen: {seen!r})")
        time.sleep(poll_seconds)


def diagnostics(kubectl: Kubectl, namespace: str) -> str:
    """Resources, events, descriptions and log ends of a namespace: what a person would look at after a failure."""
    questions = [
        ("get", "toxicitymodels,jobs,pods,deployments,services,hpa,pvc", "-n", namespace, "-o", "wide"),
        ("get", "events", "-n", namespace, "--sort-by=.lastTimestamp"),
        ("describe", "toxicitymodels,pods", "-n", namespace),
    ]
    answers = [_answer(kubectl, question) for question in questions]
    for pod in kubectl.list("pods", namespace):
        logs = ("logs", pod["metadata"]["name"], "-n", namespace, "--all-containers", "--prefix", "--tail=60")
        answers.append(_answer(kubectl, logs))
    return "\n".join(answers)


def _answer(kubectl: Kubectl, arguments: tuple[str, ...]) -> str:
    try:
        return f"--- kubectl {' '.join(arguments)}\n{kubectl.run(*arguments)}"
    except CommandFailed as error:
        return f"--- {error}"
