"""Foreign objects with the names of children, and the invariants about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from support.builders import SETTINGS, a_model
from support.interruption.faults import Write
from support.operator.actors import GROUPS, Api
from toxicity_operator import names
from toxicity_operator.chain import build_chain
from toxicity_operator.manifests.autoscaler import HPA, SCALED_OBJECT
from toxicity_operator.manifests.expose import HTTP_ROUTE, INGRESS, ROUTES

NAME = a_model().name
SERVE, ACCOUNT = names.serving_name(NAME), names.loadtest_account_name(NAME)
TRAIN = build_chain(a_model().build(), SETTINGS).train.job_name
GROUP = "rbac.authorization.k8s.io"
POD = {"spec": {"restartPolicy": "Never", "containers": [{"name": "forum", "image": "forum:3"}]}}
SCALED = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "forum"}

NAMESAKES: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "PersistentVolumeClaim": (
        "plain", names.claim_name(NAME),
        {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "3Gi"}}}},
    ),
    "Job": ("plain", TRAIN, {"spec": {"backoffLimit": 5, "template": POD}}),
    "Deployment": (
        "plain", SERVE,
        {"spec": {
            "selector": {"matchLabels": {"app": "forum"}},
            "template": {
                "metadata": {"labels": {"app": "forum"}},
                "spec": {"containers": [{"name": "forum", "image": "forum:3"}]},
            },
        }},
    ),
    "Service": ("plain", SERVE, {"spec": {"selector": {"app": "forum"}, "ports": [{"name": "http", "port": 8080}]}}),
    "PodDisruptionBudget": (
        "plain", SERVE, {"spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "forum"}}}},
    ),
    HPA: ("autoscaled", SERVE, {"spec": {"scaleTargetRef": SCALED, "maxReplicas": 9}}),
    SCALED_OBJECT: ("autoscaled by requests", SERVE, {"spec": {"scaleTargetRef": SCALED, "maxReplicaCount": 9}}),
    INGRESS: (
        "exposed by an Ingress", SERVE,
        {"spec": {"defaultBackend": {"service": {"name": "forum", "port": {"number": 8080}}}}},
    ),
    HTTP_ROUTE: ("exposed through a Gateway", SERVE, {"spec": {"parentRefs": [{"name": "forum"}]}}),
    "ServiceAccount": ("plain", ACCOUNT, {"automountServiceAccountToken": True}),
    "Role": (
        "plain", ACCOUNT, {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]},
    ),
    "RoleBinding": (
        "plain", ACCOUNT,
        {
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "apiGroup": GROUP, "name": "editor"}],
        },
    ),
}  # fmt: skip
"""By kind: the spec whose child it is, the child's name, and what somebody else made of it."""

OUR_LABELS = names.labels(NAME, names.SERVE)
VERSIONS = {SCALED_OBJECT: "keda.sh/v1alpha1", HTTP_ROUTE: ROUTES[HTTP_ROUTE]}
"""Of kinds whose objects must say it."""

Used = tuple[str, str]


def used_by(body: Mapping[str, Any]) -> Iterator[Used]:
    """Kind and name of the objects that the pods of a Job or Deployment use."""
    spec = body["spec"]["template"]["spec"]
    for volume in spec.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    if spec.get("serviceAccountName"):
        yield "ServiceAccount", spec["serviceAccountName"]


class Strangers:
    """Foreign objects with names of children, as the API server returned them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._there: dict[tuple[str, str], dict[str, Any]] = {}

    def has(self, kind: str, name: str) -> bool:
        return (kind, name) in self._there

    def put(self, kind: str, name: str, labels: Mapping[str, str]) -> None:
        """Create a foreign object, if no object of that name exists."""
        about = {"apiVersion": VERSIONS[kind], "kind": kind} if kind in VERSIONS else {}
        metadata = {"name": name, "labels": dict(labels)}
        self._there[kind, name] = self._api.create(kind, {**about, "metadata": metadata, **NAMESAKES[kind][2]})

    def take_away(self) -> None:
        """Delete the foreign objects."""
        self.check()
        for kind, name in self._there:
            self._api.merge(kind, name, {"metadata": {"finalizers": None}})
            self._api.delete(kind, name)
        self._there.clear()

    def check(self) -> None:
        """Check that each object is unchanged, including owner references and field managers."""
        for (kind, name), made in self._there.items():
            assert self._api.get(kind, name) == made, f"{kind} {name} of somebody else was changed or deleted"

    def check_write(self, write: Write) -> None:
        """Check that the operator wrote no foreign object and no workload that uses one."""
        touched = [key for key in self._there if write.path.endswith(f"/{GROUPS[key[0]][1]}/{key[1]}")]
        assert not touched, f"{write.method} of what is somebody else's: {touched}"
        if write.created and write.body["kind"] in ("Job", "Deployment"):
            used = [key for key in used_by(write.body) if key in self._there]
            assert not used, f"{write.body['kind']} {write.body['metadata']['name']} would run with {used}"
