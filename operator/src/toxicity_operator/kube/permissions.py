"""The rights the operator needs, rule by rule. The chart's ClusterRole must say the same; a test compares them.

There is no wildcard, no Secret and no finalizer of our own. `create` belongs to server-side apply of something
new; `get` on Deployments is needed to hand the same right to the load test; logs are read for the progress of a
training.
"""

from __future__ import annotations

from toxicity_api.base import API_GROUP, PLURAL

APPLY = ["list", "watch", "create", "patch"]

RULES: list[dict[str, list[str]]] = [
    {"apiGroups": [API_GROUP], "resources": [PLURAL], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [API_GROUP], "resources": [f"{PLURAL}/status"], "verbs": ["patch"]},
    {"apiGroups": [API_GROUP], "resources": [f"{PLURAL}/finalizers"], "verbs": ["update"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": [*APPLY, "delete"]},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch", "create", "patch"]},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": [*APPLY, "delete"]},
    {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": [*APPLY, "delete"]},
    {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": APPLY},
    {"apiGroups": [""], "resources": ["services", "serviceaccounts"], "verbs": [*APPLY, "delete"]},
    {
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["roles", "rolebindings"],
        "verbs": [*APPLY, "delete"],
    },
    {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
]

LEASES: dict[str, list[str]] = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}

LEASE_RULES: list[dict[str, list[str]]] = [
    {**LEASES, "verbs": ["create"]},
    {**LEASES, "verbs": ["get", "update"]},
]
"""In the release's namespace alone. The chart limits the second rule to the one name, which `create` cannot be."""
