"""A second node: its pods, Services, names, logs and volumes work from both sides, and it can be lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from toxicity_cluster import containerd, second_node
from toxicity_cluster.build import find_programs
from toxicity_cluster.demo_install import Installation
from toxicity_cluster.demo_kubectl import Kubectl, wait_until
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import FIRST_NODE, SECOND_NODE, Node, Settings

pytestmark = pytest.mark.e2e

PORT = 8000
SERVE = (
    "import http.server, os; os.chdir('/data'); http.server.test(http.server.SimpleHTTPRequestHandler, port=8000)"
)
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": PORT}]},
}


@pytest.fixture(scope="module")
def two_nodes(embedded: Settings, cluster: Installation) -> Iterator[Settings]:
    """The settings of the second node, which has the operator's image, for the time of this module."""
    second_node.start(embedded, find_programs(embedded), Progress())
    containerd.load(embedded.second_node, cluster.images["operator"])
    yield embedded.second_node
    second_node.remove(embedded)
    assert not embedded.second_node.state.exists()
    assert not embedded.second_node.netns.exists()
    assert [settings.node for settings in embedded.nodes] == [FIRST_NODE]


def pod(
    cluster: Installation, name: str, node: Node, *argv: str, volume: dict[str, Any] | None = None
) -> dict[str, Any]:
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


def test_pods_of_both_nodes_reach_each_other_by_name_and_keep_their_volumes(
    two_nodes: Settings, cluster: Installation, namespace: str
) -> None:
    kubectl = cluster.kubectl
    for manifest in (CLAIM, SERVICE):
        kubectl.apply(manifest, namespace)
    volume = {"persistentVolumeClaim": {"claimName": "data"}}
    write = "open('/data/page', 'w').write('from node 2')"
    output(cluster, namespace, pod(cluster, "write", SECOND_NODE, write, volume=volume))
    kubectl.apply(pod(cluster, "web", SECOND_NODE, SERVE, volume=volume), namespace)
    wait_until("the web server to run", lambda: phase(kubectl, namespace, "web") == "Running", 90)

    url = f"http://web.{namespace}.svc.cluster.local/page"
    for node in (FIRST_NODE, SECOND_NODE):
        asked = output(cluster, namespace, pod(cluster, f"ask{node.suffix}", node, ASK, url))
        assert asked == "from node 2\n"
    assert list(two_nodes.state.glob("volumes/*/page"))
    address = kubectl.run("get", "service", "web", "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")
    assert httpx.get(f"http://{address}/page", trust_env=False).text == "from node 2"
    said = kubectl.run("exec", "web", "-n", namespace, "--", "cat", "/data/page")
    assert said == "from node 2"


def test_a_killed_node_comes_back_with_its_volumes(
    embedded: Settings, two_nodes: Settings, cluster: Installation, namespace: str
) -> None:
    kubectl = cluster.kubectl
    kubectl.apply(CLAIM, namespace)
    volume = {"persistentVolumeClaim": {"claimName": "data"}}
    write = "open('/data/page', 'w').write('before')"
    output(cluster, namespace, pod(cluster, "write", SECOND_NODE, write, volume=volume))

    second_node.kill(embedded)

    node_ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    wait_until(
        "the node to be lost",
        lambda: kubectl.run("get", "node", SECOND_NODE.name, "-o", node_ready) == "Unknown",
        120,
    )
    assert kubectl.run("get", "node", FIRST_NODE.name, "-o", node_ready) == "True"
    second_node.start(embedded, find_programs(embedded), Progress())
    read = "print(open('/data/page').read())"
    assert output(cluster, namespace, pod(cluster, "read", SECOND_NODE, read, volume=volume)) == "before\n"
