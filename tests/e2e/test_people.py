"""What people may do with ToxicityModels whose rights in a namespace are Kubernetes' own roles."""

from __future__ import annotations

import json

import pytest

from toxicity_api.base import API_GROUP, PLURAL
from toxicity_cluster.demo_install import Installation
from toxicity_cluster.demo_kubectl import Kubectl, wait_until

pytestmark = pytest.mark.e2e

READS = {"get", "list", "watch"}
WRITES = {"create", "update", "patch", "delete"}
TOGETHER_SECONDS = 30.0


@pytest.mark.parametrize(
    ("role", "allowed"), [("view", READS), ("edit", READS | WRITES), ("admin", READS | WRITES)]
)
def test_roles_of_a_namespace_cover_its_models(
    cluster: Installation, namespace: str, role: str, allowed: set[str]
) -> None:
    kubectl = cluster.kubectl
    kubectl.run("create", "rolebinding", "people", f"--clusterrole={role}", "--user=jane", "-n", namespace)

    def covered() -> bool:
        return {verb for verb in READS | WRITES if may(kubectl, verb, namespace)} == allowed

    # a controller of Kubernetes' own puts the roles together, a moment after the chart is installed
    wait_until(f"{role} to cover ToxicityModels", covered, TOGETHER_SECONDS)
    assert not may(kubectl, "patch", namespace, subresource="status")
    assert not may(kubectl, "get", "default")


def may(kubectl: Kubectl, verb: str, namespace: str, **more: str) -> bool:
    """Whether jane may do this to ToxicityModels of the namespace."""
    attributes = {"group": API_GROUP, "resource": PLURAL, "verb": verb, "namespace": namespace, **more}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": "jane", "resourceAttributes": attributes},
    }
    answer = kubectl.run("create", "-f", "-", "-o", "json", stdin=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])
