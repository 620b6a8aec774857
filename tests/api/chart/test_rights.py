"""The permissions of the chart on a real API server: the operator gets by with them, and without none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from kubernetes import client

from support.builders import SETTINGS, a_model
from support.operator.actors import Api
from support.operator.api_server import ApiServer
from toxicity_api.base import KIND
from toxicity_api.status import EvaluationStatus
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_operator import names
from toxicity_operator.chain import build_chain
from toxicity_operator.decide.events import Event
from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.client import FOLLOWED_KINDS, KubernetesCluster
from toxicity_operator.kube.lease import Lease
from toxicity_operator.kube.permissions import LEASE_RULES, RULES
from toxicity_operator.manifests.autoscaler import SCALERS, Bounds, build_autoscaler
from toxicity_operator.manifests.common import Manifest, seal
from toxicity_operator.manifests.expose import ROUTES, build_route
from toxicity_operator.manifests.loadtest_job import build_loadtest_job
from toxicity_operator.manifests.rbac import build_loadtest_access
from toxicity_operator.manifests.serving import build_deployment, build_disruption_budget, build_service
from toxicity_operator.manifests.storage import build_claim
from toxicity_operator.model import Model, read_model

pytestmark = pytest.mark.api

Grant = tuple[str, str, str]
"""API group, resource and verb."""

NAME = "ru-toxicity"
RBAC = "rbac.authorization.k8s.io/v1"
KNOWN_SECONDS = 30
FORBIDDEN = 403
HANDED_ON = "is attempting to grant RBAC permissions not currently held"
"""Said of a Role for the load test with more in it than the operator may do itself."""

OWNED = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on"
"""Said of a child by the admission plugin OwnerReferencesPermissionEnforcement."""

BY_CPU = a_model().with_spec("serving.autoscaling", {"maxReplicas": 2})
BY_REQUESTS = a_model().with_spec(
    "serving.autoscaling", {"metric": "inFlight", "prometheusAddress": "http://prometheus:9090"}
)
EXPOSED = tuple(
    a_model().with_spec("serving.expose", {"host": "toxicity.example.org", **way})
    for way in ({"ingress": {"tlsSecretName": "toxicity-tls"}}, {"gateway": {"name": "public"}})
)


def grants_of(rules: list[dict[str, list[str]]]) -> list[Grant]:
    return sorted(
        {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
    )


GRANTS, LEASE_GRANTS = grants_of(RULES), grants_of(LEASE_RULES)


class Attempt:
    """The operator as a user with some grants in a namespace of its own, which has one resource."""

    def __init__(self, server: ApiServer, namespace: str, grants: list[Grant]) -> None:
        administrator = server.connect()
        client.CoreV1Api(administrator).create_namespace({"metadata": {"name": namespace}})
        user = f"system:serviceaccount:{namespace}:operator"
        _grant(administrator, namespace, grants)
        known = next(grant for grant in grants if "/" not in grant[1])
        wait_until(
            "the role to be known", lambda: _is_allowed(administrator, user, namespace, known), KNOWN_SECONDS
        )
        administrator.set_default_header("Impersonate-User", user)
        self._cluster = KubernetesCluster(administrator)
        raw = BY_CPU.raw() | {"metadata": {"name": NAME}}
        self._model = read_model(Api(server.connect(), namespace).create(KIND, raw))

    def refusals(self) -> list[str]:
        """Makes every request that the operator ever makes; what was said to those that were forbidden."""
        said = []
        for request in self._requests():
            try:
                request()
            except ClusterError as error:
                if error.status == FORBIDDEN:
                    said.append(str(error))
                # a log of a pod that is not there; everything else is granted or a defect of this test
                elif error.status != 404:
                    raise
        return said

    def _requests(self) -> Iterator[Callable[[], object]]:
        cluster, model, namespace = self._cluster, self._model, self._model.namespace
        yield partial(cluster.get_model, namespace, NAME)
        for api_version, kind, _ in FOLLOWED_KINDS:
            yield partial(cluster.list_kind, api_version, kind, namespace)
            yield partial(self._watch, api_version, kind)
        for body in children(model):
            yield partial(cluster.create, body)
            yield partial(cluster.read, body)
            named = {key: body["metadata"][key] for key in ("name", "namespace", "labels")}
            yield partial(cluster.overwrite, {**body_of(body), "metadata": named})
        for kind in ("ConfigMap", "Secret"):
            yield partial(cluster.read_version, kind, namespace, "no-such-source")
        yield partial(cluster.apply_status, model.identity, {"stage": "Training"})
        yield partial(cluster.record_event, model.identity, Event("Normal", "Ready", "an event"))
        yield partial(cluster.read_log_end, namespace, "no-such-pod", names.TRAIN, 1)
        yield partial(cluster.read_events, namespace, "no-such-uid", 1)
        job, scaler = build_chain(model, SETTINGS).train.job_name, names.serving_name(NAME)
        yield partial(cluster.delete, "batch/v1", "Job", namespace, job, "no-such-uid")
        access = names.loadtest_account_name(NAME)
        for api_version, kind in (
            ("v1", "Service"),
            ("v1", "ServiceAccount"),
            (RBAC, "Role"),
            (RBAC, "RoleBinding"),
        ):
            yield partial(cluster.delete, api_version, kind, namespace, access, "no-such-uid")
        for api_version, kind in (*SCALERS.values(), *((version, kind) for kind, version in ROUTES.items())):
            yield partial(cluster.delete, api_version, kind, namespace, scaler, "no-such-uid")

    def _watch(self, api_version: str, kind: str) -> None:
        with self._cluster.watch_kind(api_version, kind, self._model.namespace, 0):
            pass


def body_of(body: Manifest) -> Manifest:
    return {key: body[key] for key in ("apiVersion", "kind")}


def children(model: Model) -> list[Manifest]:
    """One child of every kind that the operator applies."""
    chain = build_chain(model, SETTINGS)
    assert chain.loadtest
    evaluated = EvaluationStatus(fingerprint="e", outcome="Succeeded", f1=0.9, threshold=0.5)
    found = [
        build_claim(model),
        build_loadtest_job(model, chain.loadtest, chain.train.fingerprint, SETTINGS.images.loadtest),
        build_deployment(model, chain, evaluated, SETTINGS.images.serving),
        build_service(model),
        build_disruption_budget(model),
        build_autoscaler(model, Bounds(1, 2)),
        build_autoscaler(Model(model.identity, BY_REQUESTS.build().spec, model.status), Bounds(1, 2)),
        *(build_route(Model(model.identity, builder.build().spec, model.status)) for builder in EXPOSED),
        *build_loadtest_access(model),
    ]
    return [seal(body) for body in found if body is not None]


def _grant(administrator: client.ApiClient, namespace: str, grants: list[Grant]) -> None:
    """Binds a Role with these grants to the ServiceAccount `operator` of the namespace."""
    api = client.RbacAuthorizationV1Api(administrator)
    rules = [{"apiGroups": [g], "resources": [r], "verbs": [v]} for g, r, v in grants]
    api.create_namespaced_role(namespace, {"metadata": {"name": "operator"}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
    binding = {"metadata": {"name": "operator"}, "roleRef": reference, "subjects": [subject]}
    api.create_namespaced_role_binding(namespace, binding)


def _is_allowed(administrator: client.ApiClient, user: str, namespace: str, grant: Grant) -> bool:
    group, resource, verb = grant
    attributes = {"namespace": namespace, "group": group, "resource": resource, "verb": verb}
    review = {"spec": {"user": user, "resourceAttributes": attributes}}
    return bool(client.AuthorizationV1Api(administrator).create_subject_access_review(review).status.allowed)


def test_grants_suffice_for_every_request(server: ApiServer) -> None:
    assert Attempt(server, "all-grants", GRANTS).refusals() == []


@pytest.mark.parametrize("grant", GRANTS, ids="-".join)
def test_grant_is_needed(server: ApiServer, grant: Grant) -> None:
    others = [other for other in GRANTS if other != grant]
    refused = Attempt(server, f"without-{GRANTS.index(grant)}", others).refusals()
    group, resource, verb = grant
    words = (f'cannot {verb} resource "{resource}" in API group "{group}"', HANDED_ON, OWNED)
    assert any(word in said for said in refused for word in words), refused


def lease_refusal(server: ApiServer, namespace: str, grants: list[Grant]) -> str:
    """Takes a Lease that is not there yet, then renews it; what was said when that was forbidden."""
    administrator = server.connect()
    client.CoreV1Api(administrator).create_namespace({"metadata": {"name": namespace}})
    user = f"system:serviceaccount:{namespace}:operator"
    _grant(administrator, namespace, grants)
    wait_until(
        "the role to be known", lambda: _is_allowed(administrator, user, namespace, grants[0]), KNOWN_SECONDS
    )
    administrator.set_default_header("Impersonate-User", user)
    lease = Lease(administrator, namespace, "operator")
    try:
        lease.write(lease.write(lease.read(), "operator-0", 15), "operator-0", 15)
    except ClusterError as error:
        assert error.status == FORBIDDEN
        return str(error)
    return ""


def test_grants_of_the_lease_suffice(server: ApiServer) -> None:
    assert lease_refusal(server, "lease-with-all", LEASE_GRANTS) == ""


@pytest.mark.parametrize("grant", LEASE_GRANTS, ids="-".join)
def test_grant_of_the_lease_is_needed(server: ApiServer, grant: Grant) -> None:
    others = [other for other in LEASE_GRANTS if other != grant]
    said = lease_refusal(server, f"lease-without-{grant[2]}", others)
    assert f'cannot {grant[2]} resource "leases"' in said
