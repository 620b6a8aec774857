"""A second node: its pods, Services, names, logs and volumes work from both sides."""

from __future__ import annotations

import httpx
import pytest

from support.e2e import nodes
from toxicity_cluster.demo_install import Installation
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_cluster.settings import FIRST_NODE, SECOND_NODE, Settings

pytestmark = pytest.mark.e2e

PORT = 8000
SERVE = (
    "import http.server, os; os.chdir('/data'); http.server.test(http.server.SimpleHTTPRequestHandler, port=8000)"
)
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": PORT}]},
}


def test_pods_of_both_nodes_reach_each_other_by_name_and_keep_their_volumes(
    second_node: Settings, cluster: Installation, namespace: str
) -> None:
    kubectl = cluster.kubectl
    for manifest in (nodes.CLAIM, SERVICE):
        kubectl.apply(manifest, namespace)
    write = "open('/data/page', 'w').write('from node 2')"
    nodes.output(cluster, namespace, nodes.python_pod(cluster, "write", SECOND_NODE, write, volume=nodes.VOLUME))
    kubectl.apply(nodes.python_pod(cluster, "web", SECOND_NODE, SERVE, volume=nodes.VOLUME), namespace)
    wait_until("the web server to run", lambda: nodes.phase(kubectl, namespace, "web") == "Running", 90)

    url = f"http://web.{namespace}.svc.cluster.local/page"
    for node in (FIRST_NODE, SECOND_NODE):
        asked = nodes.output(cluster, namespace, nodes.python_pod(cluster, f"ask{node.suffix}", node, ASK, url))
        assert asked == "from node 2\n"
    assert list(second_node.state.glob("volumes/*/page"))
    address = kubectl.run("get", "service", "web", "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")
    assert httpx.get(f"http://{address}/page", trust_env=False).text == "from node 2"
    said = kubectl.run("exec", "web", "-n", namespace, "--", "cat", "/data/page")
    assert said == "from node 2"
