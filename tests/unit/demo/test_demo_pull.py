"""What the demo says when a node cannot pull an image, and how long it waits."""

from __future__ import annotations

from typing import Any

import pytest

from toxicity_cluster.demo_kubectl import Lasting
from toxicity_cluster.demo_pull import PullFailure, PullWatch, pull_failure, pull_message

IMAGE = "registry.example:5000/team/toxicity-operator:12ab"
UNAUTHORIZED = (
    f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": pulling from host'
    " registry.example:5000 failed with status code [manifests 12ab]: 401 Unauthorized"
)
NO_CREDENTIALS = "failed to authorize: authorization failed: no basic auth credentials"
UNTRUSTED = (
    'failed to do request: Head "https://registry.example:5000/v2/": x509: certificate signed by unknown authority'
)
BACK_OFF = f'Back-off pulling image "{IMAGE}"'


def a_pod(*waiting: tuple[str, str], phase: str = "Pending") -> dict[str, Any]:
    """A pod on node-7 whose containers wait for these reasons with these messages."""
    statuses = [
        {"name": f"c{number}", "state": {"waiting": {"reason": reason, "message": message}}}
        for number, (reason, message) in enumerate(waiting)
    ]
    containers = [{"name": f"c{number}", "image": IMAGE} for number in range(len(waiting))]
    return {
        "metadata": {"name": "p"},
        "spec": {"nodeName": "node-7", "containers": containers},
        "status": {"phase": phase, "containerStatuses": statuses},
    }


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"])
def test_a_container_that_waits_for_its_image_is_a_failure(reason: str) -> None:
    pod = a_pod(("ContainerCreating", ""), (reason, UNAUTHORIZED))
    assert pull_failure(pod) == PullFailure(IMAGE, "node-7", UNAUTHORIZED)


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing", "CreateContainerConfigError"])
def test_other_reasons_are_no_failure_to_pull(reason: str) -> None:
    assert pull_failure(a_pod((reason, "x"))) is None
    assert pull_failure({"metadata": {"name": "p"}, "spec": {"containers": []}}) is None


def test_a_failure_counts_when_it_has_lasted() -> None:
    now = 100.0
    watch = PullWatch(Lasting(lambda: now))
    failing = a_pod(("ErrImagePull", UNAUTHORIZED))
    assert watch.lasting(failing) is None
    now = 120.0
    assert watch.lasting(a_pod(("ContainerCreating", ""))) is None
    now = 131.0
    assert watch.lasting(failing) is None  # it began again at 131
    now = 162.0
    found = watch.lasting(failing)
    assert found is not None and found.image == IMAGE


def test_the_cause_is_kept_when_the_kubelet_only_says_that_it_waits() -> None:
    now = 0.0
    watch = PullWatch(Lasting(lambda: now))
    watch.lasting(a_pod(("ErrImagePull", UNTRUSTED)))
    now = 31.0
    found = watch.lasting(a_pod(("ImagePullBackOff", BACK_OFF)))
    assert found is not None and found.message == UNTRUSTED


@pytest.mark.parametrize(
    ("cause", "secrets", "remedy"),
    [
        (UNAUTHORIZED, (), "registry.example:5000 wants a login: run `podman login registry.example:5000`"),
        (NO_CREDENTIALS, (), "or name a pull Secret of the cluster with PULL_SECRET"),
        (UNAUTHORIZED, ("mine",), "the Secret mine does not let it in: correct its user and password"),
        ("pull access denied, repository does not exist", (), "wants a login"),
        (UNTRUSTED, ("mine",), "add its CA to the nodes, such as /etc/containerd/certs.d/registry.example:5000"),
        ("http: server gave HTTP response to HTTPS client", (), "has no TLS"),
        ("dial tcp 192.0.2.1:5000: i/o timeout", (), "the node does not reach registry.example:5000"),
        ("lookup registry.example: no such host", (), "the node does not reach registry.example:5000"),
        (f"{IMAGE}: not found", (), "see the message of the kubelet"),
    ],
)
def test_the_message_names_image_registry_node_and_remedy(
    cause: str, secrets: tuple[str, ...], remedy: str
) -> None:
    message = pull_message(PullFailure(IMAGE, "node-7", cause), secrets, "podman")
    assert message.startswith(f"The node node-7 cannot pull {IMAGE}: ")
    assert remedy in message and message.endswith(f"({cause})")
