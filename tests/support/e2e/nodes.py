"""The second node of the embedded cluster: pods on a chosen node, evictions, and the loss of a node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from toxicity_cluster import second_node
from toxicity_cluster.build import find_programs
from toxicity_cluster.demo_cluster import load_images
from toxicity_cluster.demo_install import Installation
from toxicity_cluster.demo_kubectl import Kubectl, Manifest, wait_until
from toxicity_cluster.errors import CommandFailed
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import FIRST_NODE, SECOND_NODE, Node, Settings

IMAGES = ("operator", "base-model", "training", "serving", "loadtest")

LOST_SECONDS = 120
"""The node controller waits for 50 s before it reports that a node does not answer."""

CLAIM: Manifest = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}
VOLUME = {"persistentVolumeClaim": {"claimName": "data"}}

NODE_READY = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"


@contextmanager
def two_nodes(embedded: Settings, cluster: Installation) -> Iterator[Settings]:
    """The settings of the second node, which has the images of an unquantized model, while the block runs."""
    second_node.start(embedded, find_programs(embedded), Progress())
    load_images(embedded, Progress(), {part: cluster.images[part] for part in IMAGES})
    try:
        yield embedded.second_node
    finally:
        second_node.remove(embedded)
    assert not embedded.second_node.state.exists()
    assert not embedded.second_node.netns.exists()
    assert [settings.node for settings in embedded.nodes] == [FIRST_NODE]


def lose(kubectl: Kubectl, embedded: Settings) -> None:
    """Kills the second node as a power failure does, and waits until the cluster knows."""
    second_node.kill(embedded)
    wait_until("the node to be lost", lambda: _is_ready(kubectl, SECOND_NODE) == "Unknown", LOST_SECONDS)
    assert _is_ready(kubectl, FIRST_NODE) == "True"


def bring_back(embedded: Settings) -> None:
    """Starts the second node again."""
    second_node.start(embedded, find_programs(embedded), Progress())


def _is_ready(kubectl: Kubectl, node: Node) -> str:
    return kubectl.run("get", "node", node.name, "-o", NODE_READY)


def placed(pods: list[Manifest]) -> dict[str, str]:
    """The node of each pod that is ready and stays, by the pod's name."""
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    }


def evict(kubectl: Kubectl, namespace: str, pod: str) -> str:
    """Asks for an eviction, as `kubectl drain` does; the API server's refusal, or an empty string."""
    document: dict[str, Any] = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    try:
        kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(document))
    except CommandFailed as error:
        return str(error)
    return ""


def python_pod(
    cluster: Installation, name: str, node: Node, *argv: str, volume: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A pod on `node` that runs a Python program, with `volume`, or else an emptyDir, at /data."""
    container = {
        "name": "main",
        "image": cluster.images["operator"],
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", *argv],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node.name},
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "data", **(volume or {"emptyDir": {}})}],
        },
    }


def phase(kubectl: Kubectl, namespace: str, name: str) -> str:
    return str(json.loads(kubectl.run("get", "pod", name, "-n", namespace, "-o", "json"))["status"]["phase"])


def output(cluster: Installation, namespace: str, manifest: dict[str, Any]) -> str:
    """The log of a pod that ends."""
    kubectl, name = cluster.kubectl, manifest["metadata"]["name"]
    kubectl.apply(manifest, namespace)
    wait_until(f"pod {name} to end", lambda: phase(kubectl, namespace, name) == "Succeeded", 90)
    return str(kubectl.run("logs", name, "-n", namespace))
