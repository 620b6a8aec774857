"""The objects that a bare control plane lacks: DNS, metrics, storage and RBAC.

CoreDNS, metrics-server and the provisioner run as processes on the node. Services without a selector
lead to the first two: their EndpointSlices name the node.
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
    """Apply every add-on object (server-side); correct objects do not change."""
    apply_objects(settings, build_addons((settings.pki / "ca.crt").read_bytes()))


def apply_objects(settings: Settings, manifests: Sequence[Manifest]) -> None:
    """Apply `manifests` (server-side); correct objects do not change."""
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    options = ("--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}")
    kubectl("apply", *options, "-f", "-", input=document, settings=settings)


def build_addons(authority: bytes) -> list[Manifest]:
    """All add-on objects. `authority` is the CA certificate (PEM) that signed metrics-server's certificate."""
    return [*build_dns(), *build_metrics(authority), *build_storage()]


def build_dns() -> list[Manifest]:
    rules = [
        rule([""], ["services", "namespaces", "pods"], READ),
        rule(["discovery.k8s.io"], ["endpointslices"], READ),
    ]
    ports = [("dns", "UDP", 53, 53), ("dns-tcp", "TCP", 53, 53)]
    return [*cluster_role("coredns", rules), *node_service("kube-dns", ports, cluster_ip=DNS_ADDRESS)]


def build_metrics(authority: bytes) -> list[Manifest]:
    rules = [
        rule([""], ["nodes/metrics"], ("get",)),
        rule([""], ["pods", "nodes"], READ),
    ]
    readers = rule(["metrics.k8s.io"], ["pods", "nodes"], READ)
    return [
        *cluster_role("metrics-server", rules),
        *authentication("metrics-server"),
        {
            **rbac("ClusterRole", "toxicity:metrics-reader"),
            "metadata": {
                "name": "toxicity:metrics-reader",
                "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"},
            },
            "rules": [readers],
        },
        *node_service("metrics-server", [("https", "TCP", 443, METRICS_SERVER_PORT)]),
        api_service("metrics.k8s.io", "metrics-server", authority),
    ]


def build_storage() -> list[Manifest]:
    rules = [
        rule([""], ["nodes", "persistentvolumeclaims", "configmaps", "pods/log"], READ),
        rule([""], ["pods", "persistentvolumes"], (*READ, "create", "delete", "patch", "update")),
        rule([""], ["endpoints"], (*READ, "create", "patch", "update")),
        rule(["coordination.k8s.io"], ["leases"], (*READ, "create", "patch", "update")),
        rule(["", "events.k8s.io"], ["events"], ("create", "patch")),
        rule(["storage.k8s.io"], ["storageclasses"], READ),
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
    return [*cluster_role("local-path", rules), storage_class]


def authentication(component: str) -> list[Manifest]:
    """Bindings that let an aggregated API server delegate authentication and authorization to the API server."""
    name, subject = f"toxicity:{component}-authentication", user(component)
    reader = "extension-apiserver-authentication-reader"
    return [
        binding("ClusterRoleBinding", name, "system:auth-delegator", subject),
        binding("RoleBinding", name, reader, subject, kind_of_role="Role"),
    ]


def api_service(group: str, service: str, authority: bytes) -> Manifest:
    """The APIService for v1beta1 of `group`. `authority` (PEM) signed the certificate of the Service behind it."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1beta1.{group}"},
        "spec": {
            "group": group,
            "version": "v1beta1",
            "service": {"name": service, "namespace": NAMESPACE, "port": 443},
            "caBundle": base64.b64encode(authority).decode(),
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }


def node_service(
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


def cluster_role(component: str, rules: Sequence[Manifest]) -> list[Manifest]:
    """A ClusterRole for a component and its binding to the user that the component's certificate names."""
    name = f"toxicity:{component}"
    role = {**rbac("ClusterRole", name), "rules": list(rules)}
    return [role, binding("ClusterRoleBinding", name, name, user(component))]


def binding(
    kind: str, name: str, role: str, subject: Mapping[str, str], kind_of_role: str = "ClusterRole"
) -> Manifest:
    """A RoleBinding in NAMESPACE or a ClusterRoleBinding."""
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind_of_role, "name": role}
    return {**rbac(kind, name), "roleRef": reference, "subjects": [dict(subject)]}


def rbac(kind: str, name: str) -> Manifest:
    """apiVersion, kind and metadata of an RBAC object; a RoleBinding is in NAMESPACE."""
    metadata = {"name": name, **({"namespace": NAMESPACE} if kind == "RoleBinding" else {})}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata}


def user(component: str) -> dict[str, str]:
    """The subject of a binding: the user in the component's certificate."""
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user_name(component)}


def rule(groups: Sequence[str], resources: Sequence[str], verbs: Sequence[str]) -> Manifest:
    """One rule of a role."""
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}
