"""The rights the operator needs, rule by rule. The chart's ClusterRole must say the same; a test compares them.

There is no wildcard and no finalizer of our own. A child is read (`get`) right before it is changed, and when something
of its name is there already; `get` on Deployments is handed on to the load test as well. Logs are read for the progress
of a training, Events for why a Job gets no pod or a pod does not start. Of a Secret only the metadata are asked for.
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
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "list"]},
]

LEASES: dict[str, list[str]] = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}

LEASE_RULES: list[dict[str, list[str]]] = [
    {**LEASES, "verbs": ["create"]},
    {**LEASES, "verbs": ["get", "update"]},
]
"""In the release's namespace alone. The chart limits the second rule to the one name, which `create` cannot be."""
