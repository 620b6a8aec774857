"""Two nodes and an object store: a model is trained on a node that is lost, served on both, drained, rolled
out, and served on when a node is lost. First, that names, Services and volumes work from both nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from support.e2e import nodes
from support.e2e.scenario import (
    children,
    condition,
    config_map_of,
    get_model,
    jobs,
    patch_spec,
    pods_of,
    serving_pods,
    small_model,
    wait_for_condition,
)
from support.e2e.traffic import Traffic, constant_traffic
from support.store.server import KEY, SECRET, S3Server, running
from toxicity_api.conditions import ConditionType
from toxicity_cluster.build import build_program
from toxicity_cluster.demo_install import SAMPLE_DATASET, Installation
from toxicity_cluster.demo_kubectl import Kubectl, Manifest, wait_until
from toxicity_cluster.demo_watch import Watcher, status_of
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import FIRST_NODE, HOST_ADDRESS, SECOND_NODE, Settings
from toxicity_operator.names import SERVE, selector_labels
from toxicity_operator.observe.pods import OUT_OF_SERVICE

pytestmark = pytest.mark.e2e

PORT = 8000
SERVE_FILES = (
    "import http.server, os; os.chdir('/data'); http.server.test(http.server.SimpleHTTPRequestHandler, port=8000)"
)
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": PORT}]},
}

NAME = "stored"
CHECKPOINT_STEPS = 5
VERDICT_SECONDS = 300
CHECKPOINT_SECONDS = 6 * 60
READY_SECONDS = 25 * 60
REPORT_SECONDS = 150
"""The sidecar looks for load tests every minute."""
REPLACED_SECONDS = 5 * 60
UNREACHABLE = {
    "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5,
}  # fmt: skip
"""Kubernetes would wait for 300 s before it replaces the pods of a lost node."""


@pytest.fixture(scope="module")
def server(
    embedded: Settings, cluster: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Server]:
    """versitygw on the host's end of the cluster's network."""
    program = build_program(embedded, Progress(), "versitygw")
    with running(S3Server(program, tmp_path_factory.mktemp("s3"), host=HOST_ADDRESS)) as started:
        yield started


@pytest.fixture(scope="module")
def traffic(cluster: Installation, module_namespace: str) -> Iterator[Traffic]:
    """Requests to the model from now to the end of the module, from the node that stays. Its load test is off."""
    patch_spec(cluster.kubectl, NAME, module_namespace, {"loadTest": {"enabled": False}})
    serving = status_of(get_model(cluster, NAME, module_namespace)).serving
    assert serving is not None
    image = cluster.images["loadtest"]
    with constant_traffic(
        cluster.kubectl, module_namespace, image, serving.url, FIRST_NODE.name
    ) as running_traffic:
        yield running_traffic


def credentials(secret: str) -> dict[str, Any]:
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store-key"}, "stringData": keys}


def stored_model(cluster: Installation, server: S3Server) -> Manifest:
    """A model in the store, whose training prefers the second node and whose pods leave a lost node at once."""
    model = small_model(NAME, "comments", cluster.images)
    spec = model["spec"]
    store = {"url": "s3://models/team", "endpoint": server.endpoint, "secretName": "store-key"}
    spec["storage"] = {"objectStore": store, "scratch": {"size": "5Gi"}}
    on_second = {"key": "kubernetes.io/hostname", "operator": "In", "values": [SECOND_NODE.name]}
    preference = {"weight": 100, "preference": {"matchExpressions": [on_second]}}
    spec["training"] |= {
        "checkpointSteps": CHECKPOINT_STEPS,
        "tolerations": [UNREACHABLE],
        "pod": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}},
    }
    spec["quantization"] = {"method": "none", "gpus": 0}
    del spec["serving"]["autoscaling"]
    # test_loop.py covers compiled code
    spec["serving"] |= {"replicas": 1, "tolerations": [UNREACHABLE], "enforceEager": True}
    return model


def published(server: S3Server) -> set[str]:
    """The stages with a manifest in the bucket."""
    return {
        path.split("-")[0] for path in server.files() if path.endswith("/manifest.json") and path.count("/") == 1
    }


def training_pods(kubectl: Kubectl, namespace: str) -> Sequence[Manifest]:
    (job,) = jobs(kubectl, namespace, "train")
    return pods_of(kubectl, job)


def served(kubectl: Kubectl, model: Manifest) -> dict[str, str]:
    """The node of each ready serving pod, by the pod's name."""
    return nodes.placed(serving_pods(kubectl, model))


def test_pods_of_both_nodes_reach_each_other_by_name_and_keep_their_volumes(
    second_node: Settings, cluster: Installation, namespace: str
) -> None:
    kubectl = cluster.kubectl
    for manifest in (nodes.CLAIM, SERVICE):
        kubectl.apply(manifest, namespace)
    write = "open('/data/page', 'w').write('from node 2')"
    nodes.output(cluster, namespace, nodes.python_pod(cluster, "write", SECOND_NODE, write, volume=nodes.VOLUME))
    kubectl.apply(nodes.python_pod(cluster, "web", SECOND_NODE, SERVE_FILES, volume=nodes.VOLUME), namespace)
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


def test_wrong_key_is_named_and_tried_again_when_it_changes(
    second_node: Settings, cluster: Installation, module_namespace: str, server: S3Server
) -> None:
    kubectl = cluster.kubectl
    kubectl.apply(config_map_of("comments", SAMPLE_DATASET), module_namespace)
    kubectl.apply(credentials("wrong"), module_namespace)
    kubectl.apply(stored_model(cluster, server), module_namespace)

    denied = (ConditionType.TRAINED, "False", "StoreAccessDenied")
    refused = wait_for_condition(cluster, NAME, module_namespace, denied, VERDICT_SECONDS)
    message = condition(refused, ConditionType.TRAINED)["message"]
    assert "spec.storage.objectStore" in message and "Secret store-key" in message
    assert server.files() == []

    kubectl.apply(credentials(SECRET), module_namespace)
    running_again = (ConditionType.TRAINED, "Unknown", "Running")
    wait_for_condition(cluster, NAME, module_namespace, running_again, VERDICT_SECONDS)


def test_training_goes_on_on_another_node_from_its_checkpoint(
    embedded: Settings, second_node: Settings, cluster: Installation, module_namespace: str, server: S3Server
) -> None:
    kubectl = cluster.kubectl
    kubectl.apply(nodes.CLAIM, module_namespace)
    write = "open('/data/page', 'w').write('before')"
    writer = nodes.python_pod(cluster, "write", SECOND_NODE, write, volume=nodes.VOLUME)
    nodes.output(cluster, module_namespace, writer)
    wait_until(
        "a checkpoint in the store",
        lambda: [path for path in server.files() if re.search(r"\.checkpoints/.*/manifest\.json$", path)],
        CHECKPOINT_SECONDS,
        poll_seconds=0.5,
    )
    (lost,) = training_pods(kubectl, module_namespace)
    name = lost["metadata"]["name"]
    assert lost["spec"]["nodeName"] == SECOND_NODE.name

    nodes.lose(kubectl, embedded)

    remedy = f"kubectl taint node {SECOND_NODE.name} {OUT_OF_SERVICE}"

    def told() -> bool:
        message = condition(get_model(cluster, NAME, module_namespace), ConditionType.TRAINED).get("message", "")
        return f"pod {name}" in message and remedy in message

    wait_until("the condition to name the node and the remedy", told, VERDICT_SECONDS)
    kubectl.run(*remedy.split()[1:])

    def running_again() -> list[Manifest]:
        pods = training_pods(kubectl, module_namespace)
        return [
            found for found in pods if found["metadata"]["name"] != name and found["status"]["phase"] == "Running"
        ]

    (successor,) = wait_until("another pod to train", running_again, VERDICT_SECONDS)
    assert successor["spec"]["nodeName"] == FIRST_NODE.name
    nodes.bring_back(embedded)
    kubectl.run("taint", "node", SECOND_NODE.name, f"{OUT_OF_SERVICE}-")
    read = "print(open('/data/page').read())"
    reader = nodes.python_pod(cluster, "read", SECOND_NODE, read, volume=nodes.VOLUME)
    assert nodes.output(cluster, module_namespace, reader) == "before\n"
    trained = (ConditionType.TRAINED, "True", "Succeeded")
    wait_for_condition(cluster, NAME, module_namespace, trained, READY_SECONDS)
    log = kubectl.run("logs", successor["metadata"]["name"], "-n", module_namespace, "-c", "train")
    assert re.search(r"resuming from checkpoint-\d+", log)


def test_model_is_served_and_measured_without_a_volume(
    second_node: Settings, cluster: Installation, module_namespace: str, server: S3Server
) -> None:
    kubectl, namespace = cluster.kubectl, module_namespace
    ready = Watcher(kubectl, namespace, say=print).follow(NAME, READY_SECONDS)
    assert condition(ready, ConditionType.LOAD_TESTED)["status"] == "True"
    assert published(server) == {"train", "evaluate", "loadtest"}
    assert [title for title in children(kubectl, ready) if title.startswith("PersistentVolumeClaim")] == []
    assert [path for path in server.files() if ".checkpoints" in path] == []

    for found in serving_pods(kubectl, ready):
        (main,) = (item for item in found["spec"]["containers"] if item["name"] == "serve")
        assert not any(mount["name"].startswith("store-") for mount in main["volumeMounts"])
    logs = "".join(log_of(kubectl, namespace, found) for found in kubectl.list("pods", namespace))
    for text in (logs, json.dumps(get_model(cluster, NAME, namespace))):
        assert SECRET not in text and KEY not in text


def log_of(kubectl: Kubectl, namespace: str, pod: dict[str, Any]) -> str:
    return str(kubectl.run("logs", pod["metadata"]["name"], "-n", namespace, "--all-containers"))


def on_both(kubectl: Kubectl, model: Manifest) -> dict[str, str] | None:
    """The two ready pods, once there is one on each node."""
    found = served(kubectl, model)
    return found if sorted(found.values()) == sorted((FIRST_NODE.name, SECOND_NODE.name)) else None


def test_second_replica_runs_on_the_other_node(
    cluster: Installation, module_namespace: str, traffic: Traffic
) -> None:
    kubectl, before = cluster.kubectl, traffic.answered()
    kubectl.run("scale", f"toxicitymodel/{NAME}", "--replicas=2", "-n", module_namespace)
    model = get_model(cluster, NAME, module_namespace)
    wait_until("a pod on each node", lambda: on_both(kubectl, model), REPLACED_SECONDS)
    answered = traffic.since(before)
    assert answered.failed == 0, answered


def page_report(kubectl: Kubectl, namespace: str, pod: str) -> dict[str, Any]:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}:8000/proxy/v1/report"
    found: dict[str, Any] = json.loads(kubectl.run("get", "--raw", path))
    return found


def test_pages_of_both_pods_show_the_load_test(cluster: Installation, module_namespace: str) -> None:
    """The one that was there before it, whose sidecar fetches it, and the one that started after it."""
    kubectl = cluster.kubectl
    pods = served(kubectl, get_model(cluster, NAME, module_namespace))
    assert len(pods) == 2
    for pod in pods:
        wait_until(
            "the page to show the load test",
            lambda pod=pod: page_report(kubectl, module_namespace, pod)["load_test"],
            REPORT_SECONDS,
        )


def test_drained_node_takes_no_second_replica_before_the_first_is_replaced(
    cluster: Installation, module_namespace: str, traffic: Traffic
) -> None:
    kubectl, before = cluster.kubectl, traffic.answered()
    model = get_model(cluster, NAME, module_namespace)
    by_node = {node: name for name, node in served(kubectl, model).items()}
    stays, leaves = by_node[FIRST_NODE.name], by_node[SECOND_NODE.name]

    own = ",".join(f"{key}={value}" for key, value in selector_labels(NAME, SERVE).items())
    only = (f"--pod-selector={own}", "--delete-emptydir-data")  # the node takes nothing else of the cluster along
    kubectl.run("drain", SECOND_NODE.name, *only, timeout_seconds=180)
    refused = nodes.evict(kubectl, module_namespace, stays)
    assert "disruption budget" in refused
    (replacement,) = wait_until(
        "the replacement to be ready",
        lambda: served(kubectl, model).keys() - {stays, leaves},
        REPLACED_SECONDS,
    )
    kubectl.run("uncordon", SECOND_NODE.name)
    wait_until("the eviction", lambda: nodes.evict(kubectl, module_namespace, stays) == "", REPLACED_SECONDS)
    spread = wait_until("a pod on each node again", lambda: on_both(kubectl, model), REPLACED_SECONDS)
    assert spread[replacement] == FIRST_NODE.name
    answered = traffic.since(before)
    assert answered.sent > 20 and answered.failed == 0, answered


def test_new_version_is_rolled_out_on_both_nodes(
    cluster: Installation, module_namespace: str, traffic: Traffic
) -> None:
    kubectl, before = cluster.kubectl, traffic.answered()
    old = served(kubectl, get_model(cluster, NAME, module_namespace))
    patch_spec(kubectl, NAME, module_namespace, {"serving": {"queueLimit": 77}})
    done = (ConditionType.READY, "True", "AllStagesDone")
    model = wait_for_condition(cluster, NAME, module_namespace, done, READY_SECONDS)
    new = wait_until("a new pod on each node", lambda: on_both(kubectl, model), REPLACED_SECONDS)
    assert not new.keys() & old.keys()
    answered = traffic.since(before)
    assert answered.sent > 20 and answered.failed == 0, answered


def test_lost_node_leaves_the_service_to_the_other_one(
    embedded: Settings, cluster: Installation, module_namespace: str, traffic: Traffic
) -> None:
    kubectl = cluster.kubectl
    model = get_model(cluster, NAME, module_namespace)
    (stays,) = (name for name, node in served(kubectl, model).items() if node == FIRST_NODE.name)
    nodes.lose(kubectl, embedded)
    wait_until("only the pod of the other node is ready", lambda: served(kubectl, model).keys() == {stays}, 60)
    without = traffic.answered()
    wait_until(
        "both replicas on the node that is left",
        lambda: list(served(kubectl, model).values()) == [FIRST_NODE.name] * 2,
        REPLACED_SECONDS,
    )
    available = condition(get_model(cluster, NAME, module_namespace), ConditionType.AVAILABLE)
    assert available["status"] == "True", available
    answered = traffic.since(without)
    assert answered.sent > 20 and answered.failed == 0, answered
