"""The RBAC rules that the operator needs. A test compares them with the chart's ClusterRole.

There are no wildcards. A child is read (`get`) before it is changed, and if its name is already in use. `get` on
Deployments and `list` on the metrics of pods are also granted to the load test. Pod logs contain the training's
progress. Events explain why a Job gets no pod or a pod does not start. Only the metadata of Secrets are read.
"""

from __future__ import annotations

from toxicity_api.base import API_GROUP, PLURAL

CHILD = ["get", "list", "watch", "create", "patch"]

RULES: list[dict[str, list[str]]] = [
    {"apiGroups": [API_GROUP], "resources": [PLURAL], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [API_GROUP], "resources": [f"{PLURAL}/status"], "verbs": ["patch"]},
    {"apiGroups": [API_GROUP], "resources": [f"{PLURAL}/finalizers"], "verbs": ["update"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": [*CHILD, "delete"]},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": CHILD},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": [*CHILD, "delete"]},
    {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": [*CHILD, "delete"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": [*CHILD, "delete"]},
    {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": [*CHILD, "delete"]},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": CHILD},
    {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": CHILD},
    {"apiGroups": [""], "resources": ["services", "serviceaccounts"], "verbs": [*CHILD, "delete"]},
    {
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["roles", "rolebindings"],
        "verbs": [*CHILD, "delete"],
    },
    {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "list"]},
]

LEASES: dict[str, list[str]] = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}

LEASE_RULES: list[dict[str, list[str]]] = [
    {**LEASES, "verbs": ["create"]},
    {**LEASES, "verbs": ["get", "update"]},
]
"""Only in the release's namespace. The chart limits the second rule to the Lease's name; `create` cannot be limited."""
