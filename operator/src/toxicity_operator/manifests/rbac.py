"""ServiceAccount, Role and RoleBinding with which the load test writes its results."""

from __future__ import annotations

from toxicity_api.base import API_GROUP, PLURAL
from toxicity_operator import names
from toxicity_operator.manifests.common import Manifest, manifest
from toxicity_operator.model import Model


def build_loadtest_access(model: Model) -> list[Manifest]:
    """ServiceAccount, Role and RoleBinding. Rules are limited to one object by name, except `list` on pod metrics."""
    name = names.loadtest_account_name(model.name)
    rules = [
        _rule(API_GROUP, PLURAL, model.name, "get"),
        _rule(API_GROUP, f"{PLURAL}/status", model.name, "patch"),
        _rule("apps", "deployments", names.serving_name(model.name), "get"),
        {"apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["list"]},
    ]
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": name, "namespace": model.namespace}
    account = manifest("v1", "ServiceAccount", model, name, names.LOADTEST, automountServiceAccountToken=False)
    role = manifest(f"{group}/v1", "Role", model, name, names.LOADTEST, rules=rules)
    binding = manifest(
        f"{group}/v1",
        "RoleBinding",
        model,
        name,
        names.LOADTEST,
        roleRef={"apiGroup": group, "kind": "Role", "name": name},
        subjects=[subject],
    )
    return [account, role, binding]


def _rule(group: str, resource: str, name: str, verb: str) -> Manifest:
    return {"apiGroups": [group], "resources": [resource], "resourceNames": [name], "verbs": [verb]}
