"""The objects that make a bare control plane a usable cluster: DNS, metrics, storage, and who may do what.

CoreDNS, metrics-server and the provisioner run as processes of the node, so the first two are reached through
Services without a selector whose EndpointSlices name the node.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

from toxicity_cluster.components import METRICS_SERVER_PORT
from toxicity_cluster.kubectl import kubectl
from toxicity_cluster.pki import user_name
from toxicity_cluster.settings import DNS_ADDRESS, NODE_ADDRESS, Settings

Manifest = dict[str, object]
NAMESPACE = "kube-system"
FIELD_MANAGER = "toxicity-cluster"
STORAGE_CLASS = "local-path"
READ = ("get", "list", "watch")


def apply_addons(settings: Settings) -> None:
    """Server-side apply every object; what is right already is left alone."""
    manifests = build_addons((settings.pki / "ca.crt").read_bytes())
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    options = ("--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}")
    kubectl("apply", *options, "-f", "-", input=document, settings=settings)


def build_addons(authority: bytes) -> list[Manifest]:
    """Every object; `authority` (PEM) is the one that signed metrics-server's certificate."""
    return [*build_dns(), *build_metrics(authority), *build_storage()]


def build_dns() -> list[Manifest]:
    rules = [
        _rule([""], ["services", "namespaces", "pods"], READ),
        _rule(["discovery.k8s.io"], ["endpointslices"], READ),
    ]
    ports = [("dns", "UDP", 53, 53), ("dns-tcp", "TCP", 53, 53)]
    return [*_cluster_role("coredns", rules), *_service("kube-dns", ports, cluster_ip=DNS_ADDRESS)]


def build_metrics(authority: bytes) -> list[Manifest]:
    rules = [
        _rule([""], ["nodes/metrics"], ("get",)),
        _rule([""], ["pods", "nodes"], READ),
    ]
    subject = _user("metrics-server")
    service = {"name": "metrics-server", "namespace": NAMESPACE, "port": 443}
    readers = _rule(["metrics.k8s.io"], ["pods", "nodes"], READ)
    return [
        *_cluster_role("metrics-server", rules),
        _binding("ClusterRoleBinding", "toxicity:metrics-server-authentication", "system:auth-delegator", subject),
        _binding(
            "RoleBinding",
            "toxicity:metrics-server-authentication",
            "extension-apiserver-authentication-reader",
            subject,
            kind_of_role="Role",
        ),
        {
            **_rbac("ClusterRole", "toxicity:metrics-reader"),
            "metadata": {
                "name": "toxicity:metrics-reader",
                "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"},
            },
            "rules": [readers],
        },
        *_service("metrics-server", [("https", "TCP", 443, METRICS_SERVER_PORT)]),
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "service": service,
                "caBundle": base64.b64encode(authority).decode(),
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]


def build_storage() -> list[Manifest]:
    rules = [
        _rule([""], ["nodes", "persistentvolumeclaims", "configmaps", "pods/log"], READ),
        _rule([""], ["pods", "persistentvolumes"], (*READ, "create", "delete", "patch", "update")),
        _rule([""], ["endpoints"], (*READ, "create", "patch", "update")),
        _rule(["coordination.k8s.io"], ["leases"], (*READ, "create", "patch", "update")),
        _rule(["", "events.k8s.io"], ["events"], ("create", "patch")),
        _rule(["storage.k8s.io"], ["storageclasses"], READ),
    ]
    storage_class: Manifest = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "rancher.io/local-path",
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    }
    return [*_cluster_role("local-path", rules), storage_class]


def _service(
    name: str, ports: Sequence[tuple[str, str, int, int]], cluster_ip: str | None = None
) -> list[Manifest]:
    """A selector-less Service and the EndpointSlice behind it; ports are (name, protocol, port, node port)."""
    addressed = {"clusterIP": cluster_ip} if cluster_ip else {}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                **addressed,
                "ports": [
                    {"name": label, "protocol": protocol, "port": port, "targetPort": target}
                    for label, protocol, port, target in ports
                ],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-node",
                "namespace": NAMESPACE,
                "labels": {
                    "kubernetes.io/service-name": name,
                    "endpointslice.kubernetes.io/managed-by": FIELD_MANAGER,
                },
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
            "ports": [
                {"name": label, "protocol": protocol, "port": target} for label, protocol, _, target in ports
            ],
        },
    ]


def _cluster_role(component: str, rules: Sequence[Manifest]) -> list[Manifest]:
    """A ClusterRole for a component and its binding to the user that the component's certificate names."""
    name = f"toxicity:{component}"
    role = {**_rbac("ClusterRole", name), "rules": list(rules)}
    return [role, _binding("ClusterRoleBinding", name, name, _user(component))]


def _binding(
    kind: str, name: str, role: str, subject: Mapping[str, str], kind_of_role: str = "ClusterRole"
) -> Manifest:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind_of_role, "name": role}
    return {**_rbac(kind, name), "roleRef": reference, "subjects": [dict(subject)]}


def _rbac(kind: str, name: str) -> Manifest:
    metadata = {"name": name, **({"namespace": NAMESPACE} if kind == "RoleBinding" else {})}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata}


def _user(component: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user_name(component)}


def _rule(groups: Sequence[str], resources: Sequence[str], verbs: Sequence[str]) -> Manifest:
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}
