"""kubectl for the demo and the end-to-end tests, on any cluster.

It runs the kubectl binary, so that the output is what a user sees.
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
    """A condition was not met before its deadline."""


@dataclass(frozen=True)
class Kubectl:
    """A kubectl program bound to one kubeconfig."""

    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 120) -> str:
        """Return the stdout of `kubectl ARGUMENTS`. Raises CommandFailed with the error of kubectl."""
        command = [str(self.program), f"--kubeconfig={self.kubeconfig}", *arguments]
        return run(command, input=stdin, timeout_seconds=timeout_seconds)

    def get(self, resource: str, name: str, namespace: str) -> Manifest | None:
        """The object, or None if it does not exist."""
        text = self.run("get", resource, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def list(self, resources: str, namespace: str, selector: str = "") -> Sequence[Manifest]:
        """All objects of the comma-separated `resources` that match the label selector, by kind and name."""
        found = json.loads(self.run("get", resources, "-n", namespace, "-l", selector, "-o", "json"))
        return sorted(found["items"], key=lambda item: (item["kind"], item["metadata"]["name"]))

    def apply(self, document: Mapping[str, Any], namespace: str, *options: str) -> None:
        """`kubectl apply` of one object."""
        self.run("apply", "-n", namespace, *options, "-f", "-", stdin=json.dumps(document))

    def delete(self, resource: str, name: str, namespace: str, timeout_seconds: float = 180) -> None:
        """Delete the object and wait until it is gone; an absent object is no error."""
        arguments = ("delete", resource, name, "-n", namespace, "--ignore-not-found", "--wait")
        self.run(*arguments, timeout_seconds=timeout_seconds)

    def ensure_namespace(self, name: str, *, pod_security: str = "restricted") -> None:
        """Create the namespace, or label it, with the Pod Security level to enforce."""
        labels = {"pod-security.kubernetes.io/enforce": pod_security}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}, name)

    def log_end(self, target: str, namespace: str, lines: int) -> Sequence[str]:
        """The last lines of the log of `target` (job/x, pod/y); empty if there is no log."""
        try:
            text = self.run("logs", target, "-n", namespace, f"--tail={lines}")
        except CommandFailed:
            return []
        return text.strip().splitlines()


@dataclass
class Lasting:
    """For how long something is the case; its state is since when."""

    clock: Callable[[], float] = time.monotonic
    since: float | None = None

    def seconds(self, is_so: bool) -> float:
        """The time for which every call had a true `is_so`; 0 after a false one."""
        if not is_so:
            self.since = None
        elif self.since is None:
            self.since = self.clock()
        return 0.0 if self.since is None else self.clock() - self.since


def pull_secret_references(names: Sequence[str]) -> list[dict[str, str]]:
    """`imagePullSecrets` of a pod and of the chart."""
    return [{"name": name} for name in names]


def wait_until(
    what: str, condition: Callable[[], T | None], deadline_seconds: float, poll_seconds: float = POLL_SECONDS
) -> T:
    """Poll until `condition` returns a true value, and return that value.

    A failed command is retried: a busy API server does not answer every request in time.
    Raises DeadlineExceeded with `what` and the last value or error.
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
    """Resources, events, descriptions and log ends of a namespace, for the report of a failure."""
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
