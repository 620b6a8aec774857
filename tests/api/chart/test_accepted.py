"""A real API server accepts all that the chart renders, in a namespace that demands restricted pods."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes import client

from support.chart import EVERYTHING, NAMESPACE, Document, Render
from support.operator.actors import Api, RequestFailed
from support.operator.api_server import ApiServer

pytestmark = pytest.mark.api

PATHS = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Service": "/api/v1/namespaces/{}/services",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Pod": "/api/v1/namespaces/{}/pods",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}
UNKNOWN_HERE = {"CustomResourceDefinition", "ServiceMonitor"}
"""The first is there already, and other tests are about it; the second is not Kubernetes' own."""


@pytest.fixture(scope="module")
def api(server: ApiServer) -> Iterator[Api]:
    core = client.CoreV1Api(server.connect())
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for namespace in (NAMESPACE, "moderation", "staging"):
        core.create_namespace({"metadata": {"name": namespace, "labels": labels}})
        core.create_namespaced_service_account(namespace, {"metadata": {"name": "default"}})
    yield Api(server.connect(), NAMESPACE)


def create(api: Api, document: Document) -> None:
    """Asks whether the object would be accepted as it is, with no field that the API server does not know."""
    path = PATHS[document["kind"]].format(document["metadata"].get("namespace"))
    api.request("POST", path, document, "application/json", dryRun="All", fieldValidation="Strict")


def test_a_pod_that_is_not_restricted_is_refused(api: Api) -> None:
    spec = {"containers": [{"name": "one", "image": "one:1"}]}
    metadata = {"name": "one", "namespace": NAMESPACE}
    with pytest.raises(RequestFailed, match="violates PodSecurity"):
        create(api, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


@pytest.mark.parametrize("arguments", [(), ("-f", str(EVERYTHING))], ids=["default", "everything"])
def test_every_object_is_accepted(api: Api, render: Render, arguments: tuple[str, ...]) -> None:
    documents = [document for document in render(*arguments) if document["kind"] not in UNKNOWN_HERE]
    assert len(documents) > 5
    for document in documents:
        create(api, document)
        if document["kind"] == "Deployment":
            # what a Deployment's template holds is judged when its pods are made
            template = document["spec"]["template"]
            metadata = {**template["metadata"], "name": "one", "namespace": NAMESPACE}
            spec = {**template["spec"], "serviceAccountName": "default"}
            create(api, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
