"""Readiness checks of the cluster; each says in words what is missing."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from toxicity_cluster import containerd
from toxicity_cluster.addons import NAMESPACE, STORAGE_CLASS
from toxicity_cluster.errors import ClusterError, CommandFailed
from toxicity_cluster.kubectl import kubectl
from toxicity_cluster.pki import user_name
from toxicity_cluster.processes import is_running, log_tail
from toxicity_cluster.settings import CLUSTER_DOMAIN, DNS_ADDRESS, Settings

POLL_SECONDS = 0.3
PROBE_SECONDS = 10.0
DNS_QUESTION = f"kubernetes.default.svc.{CLUSTER_DOMAIN}"


@dataclass(frozen=True)
class Check:
    """`probe` returns None or what is wrong; the log of `process` explains a failure."""

    name: str
    process: str
    deadline_seconds: float
    probe: Callable[[Settings], str | None]


def check_containerd(settings: Settings) -> str | None:
    return None if containerd.is_answering(settings) else "containerd does not answer on its socket"


def check_api(settings: Settings) -> str | None:
    return asked(settings, "the API server is not ready", lambda: get(settings, "--raw", "/readyz") == "ok")


def check_node(settings: Settings) -> str | None:
    def is_ready() -> bool:
        node = json.loads(get(settings, "node", settings.node.name, "-o", "json"))
        conditions = {item["type"]: item["status"] for item in node["status"].get("conditions", [])}
        return conditions.get("Ready") == "True"

    return asked(settings, f"the node {settings.node.name} is not Ready", is_ready)


def check_service_account(settings: Settings) -> str | None:
    """The API server refuses pods until the controller manager has created the default ServiceAccount."""
    return asked(
        settings,
        "the default ServiceAccount does not exist yet",
        lambda: bool(get(settings, "serviceaccount", "default", "-n", "default", "-o", "name")),
    )


def check_system_namespace(settings: Settings) -> str | None:
    """The API server creates the namespace of the add-ons shortly after it is ready."""
    return asked(
        settings,
        f"the namespace {NAMESPACE} does not exist yet",
        lambda: bool(get(settings, "namespace", NAMESPACE, "-o", "name")),
    )


def check_permissions(settings: Settings) -> str | None:
    """metrics-server exits if it may not read this at its start, and new role bindings take effect with a delay."""
    question = ("auth", "can-i", "get", "configmaps/extension-apiserver-authentication", "-n", NAMESPACE)
    user = f"--as={user_name('metrics-server')}"
    return asked(
        settings,
        "the permissions of metrics-server are not effective yet",
        lambda: kubectl(*question, user, settings=settings, timeout_seconds=PROBE_SECONDS).strip() == "yes",
    )


def check_dns(settings: Settings) -> str | None:
    """Query the Service's address, which also checks the rules of kube-proxy."""
    try:
        answered = ask_dns(DNS_QUESTION, DNS_ADDRESS, timeout_seconds=1.0)
    except OSError as error:
        return f"DNS at {DNS_ADDRESS} does not answer ({error})"
    return None if answered else f"DNS at {DNS_ADDRESS} does not know {DNS_QUESTION}"


def check_storage(settings: Settings) -> str | None:
    if not is_running(settings, "local-path"):
        return "the volume provisioner is not running"
    return asked(
        settings,
        f"the StorageClass {STORAGE_CLASS} is missing",
        lambda: bool(get(settings, "storageclass", STORAGE_CLASS, "-o", "name")),
    )


def check_metrics(settings: Settings) -> str | None:
    """The metrics API must have metrics of the node; an HPA that starts before sees none."""

    def knows_the_node() -> bool:
        return bool(json.loads(get(settings, "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"))["items"])

    return asked(settings, "the metrics API has no metrics of the node yet", knows_the_node)


CONTAINERD = Check("containerd", "containerd", 60.0, check_containerd)
API = Check("API server", "kube-apiserver", 120.0, check_api)
SYSTEM_NAMESPACE = Check("system namespace", "kube-apiserver", 60.0, check_system_namespace)
PERMISSIONS = Check("permissions", "kube-apiserver", 60.0, check_permissions)
NODE = Check("node", "kubelet", 180.0, check_node)
USABLE = (
    NODE,
    Check("service account", "kube-controller-manager", 60.0, check_service_account),
    Check("DNS", "coredns", 60.0, check_dns),
    Check("storage", "local-path", 60.0, check_storage),
    Check("metrics", "metrics-server", 180.0, check_metrics),
)
ALL = (CONTAINERD, API, *USABLE)


def wait_until(settings: Settings, check: Check) -> None:
    """Poll one check until it passes.

    Raises ClusterError if its process exits or the deadline passes, with what is missing and the end of the log.
    """
    deadline = time.monotonic() + check.deadline_seconds
    while missing := check.probe(settings):
        died = not is_running(settings, check.process)
        if died or time.monotonic() > deadline:
            why = f"{check.process} exited" if died else f"{check.deadline_seconds:.0f} s have passed"
            tail = log_tail(settings, check.process)
            raise ClusterError(f"{missing}, and {why}. The end of the log of {check.process}:\n{tail}")
        time.sleep(POLL_SECONDS)


def find_problems(settings: Settings) -> Iterator[str]:
    """The failing checks, in words; none if the cluster is usable."""
    checks = [(settings, check) for check in ALL]
    checks += [(node, check) for node in settings.nodes[1:] for check in (CONTAINERD, NODE)]
    for node, check in checks:
        missing = check.probe(node)
        if missing:
            yield missing


def ask_dns(name: str, server: str, timeout_seconds: float) -> bool:
    """Whether `server` answers an A query for `name` with at least one record. Raises OSError without an answer."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = b"\x12\x34\x01\x00\x00\x01" + b"\x00" * 6 + labels + b"\x00\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout_seconds)
        client.sendto(question, (server, 53))
        reply = client.recv(4096)
    return reply[:2] == question[:2] and reply[3] & 0x0F == 0 and int.from_bytes(reply[6:8], "big") > 0


def get(settings: Settings, *arguments: str) -> str:
    """The output of `kubectl get`. Raises CommandFailed, also after PROBE_SECONDS."""
    return kubectl("get", *arguments, settings=settings, timeout_seconds=PROBE_SECONDS)


def asked(settings: Settings, missing: str, question: Callable[[], bool]) -> str | None:
    """Turn a yes/no question to the API into the result of a probe; a failed request means no, with the error."""
    try:
        return None if question() else missing
    except CommandFailed as error:
        return f"{missing} ({str(error).rpartition('exited with')[2].strip()[-200:]})"
