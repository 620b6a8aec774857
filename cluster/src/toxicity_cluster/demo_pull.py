"""Lets the nodes of another cluster pull the pushed images, and checks that they can, before anything is installed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toxicity_cluster.demo_install import Installation
from toxicity_cluster.demo_kubectl import DeadlineExceeded, Kubectl, Lasting, wait_until
from toxicity_cluster.demo_probe import PROBE_LABEL, build_probe_pod
from toxicity_cluster.errors import Refusal
from toxicity_cluster.registry_login import find_login, pull_secret

PULL_SECRET = "toxicity-demo-registry"
"""The Secret that the demo makes of the login to the registry."""
NO_SECRET = "none"
"""The value of PULL_SECRET for nodes that need none."""

PATIENCE_SECONDS = 30.0
"""A failure to pull counts after this time, in which the kubelet has tried again."""
DEADLINE_SECONDS = 15 * 60.0
"""For the first pull of an image of several hundred megabytes."""

PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "InvalidImageName")

_CAUSES = (
    (r"x509|certificate", "certificate"),
    (r"HTTP response to HTTPS client", "plain"),
    (r"authoriz|basic auth|denied|unauthorized|forbidden|\b40[13]\b", "login"),
    (r"timeout|deadline exceeded|no such host|refused|unreachable|no route", "network"),
)
"""What the kubelet's message says about the cause of a failure; the first match counts."""


@dataclass(frozen=True)
class PullFailure:
    """An image that a node cannot pull, with the message of the kubelet."""

    image: str
    node: str
    message: str


def ensure_access(
    kubectl: Kubectl,
    registry: str,
    given: str | None,
    logins: Sequence[Path],
    namespaces: Sequence[str],
    say: Callable[[str], None],
) -> tuple[str, ...]:
    """The names of the Secrets with which pods in these namespaces pull from `registry`.

    `given` is a Secret of the cluster, or NO_SECRET. Without it, the login in the files `logins` becomes the Secret
    PULL_SECRET; without a login, no Secret is needed or the check of the pull fails. Raises Refusal if a namespace does
    not have the given Secret, or if nodes cannot use the login.
    """
    if given == NO_SECRET:
        return ()
    if given:
        for namespace in namespaces:
            if kubectl.get("secret", given, namespace) is None:
                raise Refusal(_missing_secret(given, namespace, registry))
        return (given,)
    host, login = registry.partition("/")[0], find_login(logins, registry)
    if login is None:
        say(f"there is no login to {host} on this machine: the nodes pull without a Secret")
        return ()
    for namespace in namespaces:
        # server-side, because `kubectl apply` would repeat the login in an annotation, which `describe` prints
        document = pull_secret(PULL_SECRET, registry, login)
        kubectl.apply(document, namespace, "--server-side", "--force-conflicts")
    say(f"the login to {host} in {login.source} becomes the Secret {PULL_SECRET} in {' and '.join(namespaces)}")
    return (PULL_SECRET,)


def _missing_secret(name: str, namespace: str, registry: str) -> str:
    return (
        f"PULL_SECRET is {name}, but the namespace {namespace} has no such Secret: create it with `kubectl create"
        f" secret docker-registry {name} -n {namespace} --from-file=.dockerconfigjson=FILE`, where FILE has a login to"
        f" {registry.partition('/')[0]}."
    )


def check_pull(installation: Installation, namespace: str, program: str) -> None:
    """Run a pod of the operator's image to its end, or raise Refusal with the reason why a node cannot pull it.

    `program` is the one to log in with, for the remedy. Raises DeadlineExceeded if the pod does not end.
    """
    kubectl, names, image = installation.kubectl, installation.pull_secrets, installation.images["operator"]
    name = f"{PROBE_LABEL}-{secrets.token_hex(4)}"
    kubectl.apply(build_probe_pod(name, image, "pass", {}, names), namespace)
    watch = PullWatch()

    def ended() -> bool:
        pod = kubectl.get("pod", name, namespace) or {}
        failure = watch.lasting(pod)
        if failure is not None:
            raise Refusal(pull_message(failure, names, program))
        return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")

    try:
        wait_until(f"a pod of {image} ran", ended, DEADLINE_SECONDS)
    except DeadlineExceeded as error:
        raise DeadlineExceeded(f"{error}\n{kubectl.run('describe', 'pod', name, '-n', namespace)}") from error
    finally:
        kubectl.delete("pod", name, namespace)


def pull_failure(pod: Mapping[str, Any]) -> PullFailure | None:
    """The first image that a container of the pod waits for because it cannot be pulled."""
    images = {container["name"]: container["image"] for container in pod.get("spec", {}).get("containers", [])}
    for status in pod.get("status", {}).get("containerStatuses", []):
        waiting = status.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in PULL_REASONS:
            message = waiting.get("message", waiting["reason"])
            return PullFailure(images[status["name"]], pod["spec"].get("nodeName", ""), message)
    return None


@dataclass
class PullWatch:
    """Tells a failure that lasts from one that the next attempt ends; its state is since when a pull fails, and why."""

    failing: Lasting = field(default_factory=Lasting)
    cause: str = ""

    def lasting(self, pod: Mapping[str, Any]) -> PullFailure | None:
        """The failure of the pod if it has lasted; `pod` is its state now."""
        failure = pull_failure(pod)
        seconds = self.failing.seconds(failure is not None)
        if failure is None:
            self.cause = ""
            return None
        # kubelets before 1.32 say in ImagePullBackOff only that they wait
        if _cause(failure.message) or not self.cause:
            self.cause = failure.message
        return replace(failure, message=self.cause) if seconds > PATIENCE_SECONDS else None


def pull_message(failure: PullFailure, pull_secrets: Sequence[str], program: str) -> str:
    """What failed and what to do, for the user."""
    host = failure.image.partition("/")[0]
    logs_in = (
        f"{host} wants a login: run `{program} login {host}` and leave PULL_SECRET unset, so that the demo makes a pull"
        " Secret of the login, or name a pull Secret of the cluster with PULL_SECRET"
    )
    wrong = f"the Secret {', '.join(pull_secrets)} does not let it in: correct its user and password"
    remedies = {
        "certificate": f"it does not trust the certificate of {host}: add its CA to the nodes, such as"
        f" /etc/containerd/certs.d/{host}",
        "plain": f"{host} has no TLS: add a certificate to it, or configure the nodes to pull over HTTP",
        "login": wrong if pull_secrets else logs_in,
        "network": f"the node does not reach {host}: correct its network, proxy or DNS, or use another registry",
        "": "see the message of the kubelet",
    }
    remedy = remedies[_cause(failure.message)]
    return f"The node {failure.node} cannot pull {failure.image}: {remedy}. ({failure.message})"


def _cause(message: str) -> str:
    return next((cause for pattern, cause in _CAUSES if re.search(pattern, message, re.IGNORECASE)), "")
