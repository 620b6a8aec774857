"""What the operator writes to a real API server: once, under its own name, and nothing of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client

from support.builders import NOW, ModelBuilder
from toxicity_api.base import API_GROUP, API_VERSION, KIND, PLURAL
from toxicity_api.conditions import ConditionType
from toxicity_api.loadtest_status import BucketResult, LoadTestStatus
from toxicity_api.status import EvaluationStatus
from toxicity_operator import names
from toxicity_operator.chain import build_chain
from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.client import CHILD_KINDS, OPTIONAL_KINDS, KubernetesCluster
from toxicity_operator.kube.permissions import RULES
from toxicity_operator.manifests.autoscaler import Bounds, build_autoscaler
from toxicity_operator.manifests.common import seal
from toxicity_operator.manifests.evaluation_job import build_evaluation_job
from toxicity_operator.manifests.expose import build_route
from toxicity_operator.manifests.loadtest_job import build_loadtest_job
from toxicity_operator.manifests.quantization_job import build_quantization_job
from toxicity_operator.manifests.rbac import build_loadtest_access
from toxicity_operator.manifests.serving import build_deployment, build_disruption_budget, build_service
from toxicity_operator.manifests.storage import build_claim
from toxicity_operator.manifests.training_job import build_training_job
from toxicity_operator.model import Model, read_model
from toxicity_operator.observe.drift import WRITE_ONCE, first_drift
from toxicity_operator.observe.ownership import GRANDCHILDREN
from toxicity_operator.runtime.reconcile import reconcile
from toxicity_operator.settings import OperatorSettings

pytestmark = pytest.mark.api

Create = Callable[[ModelBuilder], dict[str, Any]]
Read = Callable[[], dict[str, Any]]


def all_manifests(model: Model, settings: OperatorSettings) -> list[dict[str, Any]]:
    """Every kind of child, as the operator would apply it."""
    chain, images = build_chain(model, settings), settings.images
    assert chain.quantize and chain.loadtest
    evaluation = EvaluationStatus(fingerprint="e", outcome="Succeeded", f1=0.9, threshold=0.5)
    manifests = [
        build_claim(model),
        build_training_job(model, chain.train, images.training),
        build_quantization_job(model, chain.quantize, chain.train.fingerprint, images.quantization),
        build_evaluation_job(model, chain, images.serving, images.training),
        build_deployment(model, chain, evaluation, images.serving),
        build_service(model),
        build_disruption_budget(model),
        build_autoscaler(model, Bounds(1, 2)),
        build_route(model),
        *build_loadtest_access(model),
        build_loadtest_job(model, chain.loadtest, chain.train.fingerprint, images.loadtest),
    ]
    return [seal(body) for body in manifests if body is not None]


def put_all(cluster: KubernetesCluster, manifests: list[dict[str, Any]]) -> None:
    """Creates what is not there, and applies the rest; Jobs and claims are written once."""
    for body in manifests:
        live = cluster.read(body)
        if live is None:
            cluster.create(body)
        elif body["kind"] not in WRITE_ONCE:
            cluster.apply(body, live)


def versions(cluster: KubernetesCluster, namespace: str) -> dict[str, str]:
    """When and what our field manager last wrote to every child."""
    children = cluster.list_children(namespace, "ru-toxicity")
    return {
        f"{item['kind']}/{item['metadata']['name']}": applied_at(item)
        for item in children
        if item["kind"] not in GRANDCHILDREN
    }


def job_uid(cluster: KubernetesCluster, namespace: str, name: str) -> str:
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace}}
    found = cluster.read(body)
    assert found is not None
    return str(found["metadata"]["uid"])


def applied_at(item: Any) -> str:
    """When our field manager last changed the object; other writers do not count."""
    entries = [entry for entry in item["metadata"]["managedFields"] if entry["manager"] == names.FIELD_MANAGER]
    return repr([(entry["time"], entry["fieldsV1"]) for entry in entries])


def test_applying_twice_is_a_no_op(
    cluster: KubernetesCluster, settings: OperatorSettings, create: Create, parked: ModelBuilder, namespace: str
) -> None:
    expose = {"host": "toxicity.example.org", "ingress": {"className": "nginx", "tlsSecretName": "toxicity-tls"}}
    builder = parked.with_spec("serving.autoscaling", {"maxReplicas": 2}).with_spec("serving.expose", expose)
    model = read_model(create(builder))
    manifests = all_manifests(model, settings)
    kinds = {kind for _, kind, _ in CHILD_KINDS} - set(GRANDCHILDREN) - OPTIONAL_KINDS
    assert {body["kind"] for body in manifests} == kinds
    put_all(cluster, manifests)
    put_all(cluster, manifests)  # what was created is counted as applied by the first apply
    before = versions(cluster, namespace)
    put_all(cluster, manifests)
    assert len(before) == len(manifests)
    assert versions(cluster, namespace) == before
    (deployment,) = [
        item for item in cluster.list_children(namespace, "ru-toxicity") if item["kind"] == "Deployment"
    ]
    assert "f:replicas" not in applied_at(deployment), "the autoscaler owns the replicas"


@pytest.mark.parametrize("cpu", ["0.5", "1500m", 2, "2.50"])
@pytest.mark.parametrize("memory", ["1.5Gi", "2000Mi", 3_000_000_000, "4e9"])
def test_what_the_server_makes_of_a_manifest_is_no_drift_and_an_edit_of_ours_is(
    cluster: KubernetesCluster, settings: OperatorSettings, create: Create, parked: ModelBuilder, namespace: str,
    api_client: client.ApiClient, cpu: str | int, memory: str | int,
) -> None:  # fmt: skip
    amounts = {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}
    builder = parked.with_spec("serving.autoscaling", {"maxReplicas": 2}).with_spec("serving.resources", amounts)
    model = read_model(create(builder))
    manifests = all_manifests(model, settings)
    put_all(cluster, manifests)
    live = {
        (item["kind"], item["metadata"]["name"]): item for item in cluster.list_children(namespace, model.name)
    }
    for body in manifests:
        key = body["kind"], body["metadata"]["name"]
        assert first_drift(body, live[key]) is None, key
    wanted = next(body for body in manifests if body["kind"] == "Deployment")
    container = {"name": names.SERVE, "image": "edited:1"}
    client.AppsV1Api(api_client).patch_namespaced_deployment(
        wanted["metadata"]["name"], namespace, {"spec": {"template": {"spec": {"containers": [container]}}}}
    )
    (edited,) = (item for item in cluster.list_children(namespace, model.name) if item["kind"] == "Deployment")
    assert first_drift(wanted, edited) == "spec.template.spec.containers"


def test_steady_state_writes_nothing(
    cluster: KubernetesCluster, settings: OperatorSettings, create: Create, read: Read, parked: ModelBuilder,
    namespace: str, wait_for: Callable[..., object],
) -> None:  # fmt: skip
    create(parked)

    def at_rest() -> bool:
        wrote = reconcile(cluster, settings, namespace, "ru-toxicity", NOW).wrote_status
        return not wrote and "cannot be scheduled" in str(read()["status"]["conditions"])

    wait_for("the pod to be unschedulable", at_rest, 60)
    version, children = read()["metadata"]["resourceVersion"], versions(cluster, namespace)
    for second in range(20):
        outcome = reconcile(cluster, settings, namespace, "ru-toxicity", f"2030-01-01T00:01:{second:02}Z")
        assert (outcome.wrote_status, outcome.failure) == (False, None)
    assert read()["metadata"]["resourceVersion"] == version
    assert versions(cluster, namespace) == children
    assert {key.split("/")[0] for key in children} == {"Job", "PersistentVolumeClaim"}
    assert read()["status"]["stage"] == "Training"


def figures() -> LoadTestStatus:
    bucket = BucketResult(name="1-100", requests=10, failures=0, actual_rps=9.9, p95_seconds=0.2)
    return LoadTestStatus(
        fingerprint="fp", run_id="1", state="Running", users=16, requested_rps=10, buckets=[bucket]
    )  # fmt: skip


def publish(api_client: client.ApiClient, namespace: str, status: LoadTestStatus) -> None:
    """Writes status.loadTest as the load test does: server-side apply under its own field manager."""
    body: dict[str, Any] = {"apiVersion": f"{API_GROUP}/{API_VERSION}", "kind": KIND}
    body["metadata"] = {"name": "ru-toxicity"}
    body["status"] = {"loadTest": status.to_wire()}
    client.CustomObjectsApi(api_client).patch_namespaced_custom_object_status(
        API_GROUP, API_VERSION, namespace, PLURAL, "ru-toxicity", body,
        field_manager="toxicity-loadtest", force=True, _content_type="application/apply-patch+yaml",
    )  # fmt: skip


def test_two_writers_of_the_status_do_not_wipe_each_other(
    cluster: KubernetesCluster, settings: OperatorSettings, create: Create, read: Read, parked: ModelBuilder,
    namespace: str, api_client: client.ApiClient,
) -> None:  # fmt: skip
    create(parked)
    reconcile(cluster, settings, namespace, "ru-toxicity", NOW)
    publish(api_client, namespace, figures())
    conditions = read()["status"]["conditions"]
    assert {item["type"] for item in conditions} == {str(kind) for kind in ConditionType}
    job = read()["status"]["training"]["jobName"]
    uid = job_uid(cluster, namespace, job)
    cluster.delete("batch/v1", "Job", namespace, job, uid)
    identity = read_model(read()).identity
    cluster.apply_status(identity, {"stage": "Elsewhere", "conditions": conditions})
    after = read()["status"]
    assert after["loadTest"] == figures().to_wire()
    assert "training" not in after, "what the operator no longer applies is gone"
    more = figures().model_copy(update={"state": "Complete"})
    publish(api_client, namespace, more)
    assert read()["status"]["stage"] in ("Elsewhere", "Training")
    assert read()["status"]["loadTest"]["state"] == "Complete"
    owners = {entry["manager"]: entry["fieldsV1"] for entry in read()["metadata"]["managedFields"]}
    assert list(owners["toxicity-loadtest"]["f:status"]) == ["f:loadTest"]
    assert "f:loadTest" not in owners[names.FIELD_MANAGER]["f:status"]


def test_named_rights_suffice_and_reach_no_further(
    connect: Callable[..., client.ApiClient], api_client: client.ApiClient, settings: OperatorSettings,
    create: Create, parked: ModelBuilder, namespace: str, wait_for: Callable[..., object],
) -> None:  # fmt: skip
    user = f"system:serviceaccount:{namespace}:operator"
    rbac = client.RbacAuthorizationV1Api(api_client)
    rbac.create_namespaced_role(namespace, {"metadata": {"name": "operator"}, "rules": RULES})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
    binding = {"metadata": {"name": "operator"}, "roleRef": reference, "subjects": [subject]}
    rbac.create_namespaced_role_binding(namespace, binding)
    known = ("get", PLURAL, API_GROUP)
    wait_for("the API server to know the role", lambda: is_allowed(api_client, user, namespace, *known), 30)
    cluster = KubernetesCluster(connect(user))
    model = read_model(create(parked.with_spec("serving.autoscaling", {"maxReplicas": 2})))
    outcome = reconcile(cluster, settings, namespace, "ru-toxicity", NOW)
    assert outcome.failure is None
    with pytest.raises(ClusterError) as absent:
        cluster.read_log_end(namespace, "no-such-pod", names.TRAIN, 40)
    assert absent.value.status == 404, "the log may be read, it is only not there"
    assert cluster.read_events(namespace, "no-such-uid", 5) == [], "Events may be read, there are none"
    put_all(cluster, all_manifests(model, settings))
    cluster.delete("autoscaling/v2", "HorizontalPodAutoscaler", namespace, "ru-toxicity-serve", "another-uid")
    for verb, resource in (("list", "secrets"), ("delete", "persistentvolumeclaims"), ("create", "pods")):
        assert not is_allowed(api_client, user, namespace, verb, resource)


def is_allowed(
    api_client: client.ApiClient,
    user: str,
    namespace: str,
    verb: str,
    resource: str,
    group: str = "",
    name: str = "",
) -> bool:
    resource, _, subresource = resource.partition("/")
    attributes = {
        "namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": subresource,
        "name": name,
    }  # fmt: skip
    review = {"spec": {"user": user, "resourceAttributes": attributes}}
    answer = client.AuthorizationV1Api(api_client).create_subject_access_review(review)
    return bool(answer.status.allowed)


def test_load_test_may_write_its_own_resources_status_and_nothing_else(
    cluster: KubernetesCluster, api_client: client.ApiClient, create: Create, parked: ModelBuilder, namespace: str,
    wait_for: Callable[..., object],
) -> None:  # fmt: skip
    model = read_model(create(parked))
    put_all(cluster, build_loadtest_access(model))
    user = f"system:serviceaccount:{namespace}:ru-toxicity-loadtest"

    def allowed(verb: str, resource: str, group: str, name: str) -> bool:
        return is_allowed(api_client, user, namespace, verb, resource, group, name)

    def may_write() -> bool:
        return allowed("patch", f"{PLURAL}/status", API_GROUP, "ru-toxicity")

    wait_for("the API server to know the role", may_write, 30)
    assert allowed("get", PLURAL, API_GROUP, "ru-toxicity")
    assert allowed("get", "deployments", "apps", "ru-toxicity-serve")
    assert not allowed("patch", f"{PLURAL}/status", API_GROUP, "another")
    assert not allowed("patch", PLURAL, API_GROUP, "ru-toxicity")
    assert not allowed("patch", "deployments", "apps", "ru-toxicity-serve")
    assert not allowed("get", "pods", "", "any")
