"""The admission policies of the chart on a real API server: what they refuse, how they say it, what they let pass."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from support.builders import ModelBuilder, a_model
from support.chart import CHART, Render, all_of_kind
from support.operator.actors import Api, RequestFailed
from support.operator.api_server import ApiServer
from toxicity_api.base import API_GROUP, API_VERSION, KIND, PLURAL
from toxicity_cluster.commands import run
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_operator import names
from toxicity_operator.manifests.common import seal
from toxicity_operator.manifests.rbac import build_loadtest_access
from toxicity_operator.model import read_model

pytestmark = pytest.mark.api

RELEASE, SYSTEM = "guard", "guard-system"
GUARDED, ELSEWHERE = "guarded", "elsewhere"
IMAGES = ["registry.example", "other.example:5000/team", "localhost/toxicity-serving"]
SECRETS = ["hub", "ru-toxicity-*"]
EFFECT_SECONDS = 60
REFUSED = 422

FIGURES = {"fingerprint": "f", "runId": "1", "state": "Running", "users": 16, "requestedRps": 10.0}
STATUS = {
    "observedGeneration": 1,
    "stage": "LoadTesting",
    "serving": {"url": "http://x", "replicas": 1, "readyReplicas": 1},
}


def allowed_model(name: str = "ru-toxicity") -> ModelBuilder:
    """One that references allowed images only."""
    model = ModelBuilder(name=name, spec=a_model().spec)
    model = model.with_spec("dataset.image.reference", "registry.example/data/comments:1")
    return model.with_spec("baseModel.image.reference", "other.example:5000/team/base@sha256:" + "0" * 64)


def body_of(model: ModelBuilder) -> dict[str, Any]:
    return model.raw() | {"metadata": {"name": model.name}}


def trial(api: Api, model: ModelBuilder) -> dict[str, Any]:
    """What creating it would make; nothing is stored."""
    return api.request("POST", api.path(KIND), body_of(model), "application/json", dryRun="All")


@pytest.fixture(scope="module")
def guarded(helm: str, server: ApiServer) -> Api:
    """A namespace that the policies are about. `old` was there before them, with an image of nowhere."""
    core = client.CoreV1Api(server.connect())
    for namespace in (SYSTEM, GUARDED, ELSEWHERE):
        core.create_namespace({"metadata": {"name": namespace}})
    api = Api(server.connect(), GUARDED)
    api.create(KIND, body_of(ModelBuilder(name="old", spec=a_model().spec)))
    policies = {"enabled": True, "images": IMAGES, "secrets": SECRETS}
    options = ["-n", SYSTEM, "--kubeconfig", str(server.kubeconfig), "--set", "crds.enabled=false"]
    values = [f"watchNamespaces={json.dumps([GUARDED])}", f"admissionPolicies={json.dumps(policies)}"]
    run([helm, "install", RELEASE, str(CHART), *options, *(word for v in values for word in ("--set-json", v))])
    wait_until("the policy to be in effect", lambda: _is_refused(api), EFFECT_SECONDS, 0.2)
    return api


def _is_refused(api: Api) -> bool:
    try:
        trial(api, ModelBuilder(name="nowhere", spec=a_model().spec))
    except RequestFailed:
        return True
    return False


@pytest.mark.parametrize(
    "path",
    [
        "dataset.image.reference", "baseModel.image.reference", "images.training", "images.quantization",
        "images.quantizationAutoawq", "images.serving", "images.loadtest",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        ("registry.example/a:1", True),
        ("registry.example/a/b@sha256:" + "0" * 64, True),
        ("other.example:5000/team/a:1", True),
        ("localhost/toxicity-serving:0.2.0", True),
        ("localhost/toxicity-serving", True),
        ("registry.example:5000/a:1", False),
        ("registry.example.evil/a:1", False),
        ("other.example:5000/teammate/a:1", False),
        ("localhost/toxicity-serving-evil:1", False),
        ("python:3.12", False),
    ],
)
def test_image_must_be_of_a_listed_repository(guarded: Api, path: str, image: str, allowed: bool) -> None:
    model = allowed_model("new").with_spec(path, image)
    if allowed:
        trial(guarded, model)
        return
    with pytest.raises(RequestFailed) as refusal:
        trial(guarded, model)
    assert refusal.value.status == REFUSED
    said = str(refusal.value)
    assert f"{SYSTEM}-{RELEASE}-references" in said
    assert f"spec.{path} must be an image from: {', '.join(IMAGES)}" in said
    assert "admissionPolicies.images" in said


@pytest.mark.parametrize("field", [
    "spec.dataset.huggingFace.secretName", "spec.dataset.kaggle.secretName", "spec.baseModel.huggingFace.secretName",
    "spec.serving.apiTokenSecretName", "spec.images.pullSecrets", "spec.training.pod.env",
    "spec.loadTest.pod.envFrom", "spec.serving.pod.volumes", "spec.serving.expose.ingress.tlsSecretName",
])  # fmt: skip
@pytest.mark.parametrize(
    ("secret", "allowed"), [("hub", True), ("ru-toxicity-token", True), ("hubs", False), ("database", False)]
)
def test_secret_must_be_a_listed_one(guarded: Api, field: str, secret: str, allowed: bool) -> None:
    changes: dict[str, tuple[str, Any]] = {
        "spec.dataset.huggingFace.secretName": ("dataset", {"huggingFace": {"repo": "a/b", "secretName": secret}}),
        "spec.dataset.kaggle.secretName": (
            "dataset", {"kaggle": {"dataset": "a/b", "file": "c.csv", "secretName": secret}},
        ),
        "spec.baseModel.huggingFace.secretName": (
            "baseModel", {"huggingFace": {"repo": "a/b", "secretName": secret}},
        ),
        "spec.serving.apiTokenSecretName": ("serving.apiTokenSecretName", secret),
        "spec.serving.expose.ingress.tlsSecretName": (
            "serving.expose", {"host": "toxicity.example.org", "ingress": {"tlsSecretName": secret}},
        ),
        "spec.images.pullSecrets": ("images.pullSecrets", ["hub", secret]),
        "spec.training.pod.env": (
            "training.pod.env",
            [
                {"name": "PLAIN", "value": "x"},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}},
            ],
        ),
        "spec.loadTest.pod.envFrom": (
            "loadTest.pod.envFrom", [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": secret}}],
        ),
        "spec.serving.pod.volumes": (
            "serving.pod.volumes", [{"name": "a", "emptyDir": {}}, {"name": "b", "secret": {"secretName": secret}}],
        ),
    }  # fmt: skip
    model = allowed_model("new").with_spec(*changes[field])
    if allowed:
        trial(guarded, model)
        return
    with pytest.raises(RequestFailed) as refusal:
        trial(guarded, model)
    assert refusal.value.status == REFUSED
    assert f"{field} must be one of: {', '.join(SECRETS)}" in str(refusal.value)
    assert "admissionPolicies.secrets" in str(refusal.value)


def test_message_lists_all_refused_fields_in_a_fixed_order(guarded: Api) -> None:
    model = allowed_model("new").with_spec("baseModel.image.reference", "c.example/b:1")
    model = model.with_spec("dataset.image.reference", "d.example/a:1").with_spec(
        "images.serving", "s.example/s:1"
    )
    elsewhere = allowed_model("new").with_spec("serving.apiTokenSecretName", "a")
    elsewhere = elsewhere.with_spec("images.pullSecrets", ["b", "hub", "c"])
    elsewhere = elsewhere.with_spec("loadTest.pod.envFrom", [{"secretRef": {"name": "d"}}])
    expected = {
        "spec.dataset.image.reference, spec.baseModel.image.reference, spec.images.serving must be": model,
        "spec.serving.apiTokenSecretName, spec.loadTest.pod.envFrom, spec.images.pullSecrets must be": elsewhere,
    }
    for message, refused in expected.items():
        for _ in range(8):
            with pytest.raises(RequestFailed, match=rf"denied request: {re.escape(message)}"):
                trial(guarded, refused)


def test_other_namespaces_are_not_concerned(guarded: Api, server: ApiServer) -> None:
    trial(Api(server.connect(), ELSEWHERE), a_model().with_spec("serving.apiTokenSecretName", "database"))


def test_resource_of_before_can_be_labelled_and_deleted_but_not_changed(guarded: Api) -> None:
    labelled = guarded.merge(KIND, "old", {"metadata": {"labels": {"team": "a"}, "finalizers": ["test/keep"]}})
    assert labelled["metadata"]["labels"] == {"team": "a"}
    with pytest.raises(
        RequestFailed, match=r"spec\.dataset\.image\.reference, spec\.baseModel\.image\.reference must be"
    ):
        guarded.merge(KIND, "old", {"spec": {"training": {"epochs": 2.0}}})
    guarded.merge(KIND, "old", {"metadata": {"finalizers": None}})
    guarded.delete(KIND, "old")
    assert guarded.get(KIND, "old") is None


def _as_loadtest(api: Api, name: str, status: dict[str, Any], kind: str = "merge") -> dict[str, Any]:
    """A write of the status by the load test's ServiceAccount, with the rights that the operator gives it."""
    user = f"system:serviceaccount:{api.namespace}:{names.loadtest_account_name(name)}"
    settings = client.ApiClient(api.api_client.configuration)
    settings.set_default_header("Impersonate-User", user)
    body: dict[str, Any] = {"status": status}
    options: dict[str, Any] = {
        "_content_type": f"application/{kind}-patch+{'yaml' if kind == 'apply' else 'json'}"
    }
    if kind == "apply":
        body |= {"apiVersion": f"{API_GROUP}/{API_VERSION}", "kind": KIND, "metadata": {"name": name}}
        options |= {"field_manager": "toxicity-loadtest", "force": True}
    found: dict[str, Any] = client.CustomObjectsApi(settings).patch_namespaced_custom_object_status(
        API_GROUP, API_VERSION, api.namespace, PLURAL, name, body, **options
    )
    return found


@pytest.fixture(scope="module")
def measured(guarded: Api) -> Api:
    """A resource with a status, whose load test has its account and its rights."""
    made = guarded.create(KIND, body_of(allowed_model()))
    for manifest in build_loadtest_access(read_model(made)):
        guarded.create(manifest["kind"], seal(manifest))
    wait_until("the policy to be in effect", lambda: _is_denied(guarded), EFFECT_SECONDS, 0.2)
    guarded.merge(KIND, "ru-toxicity", {"status": STATUS}, "/status")
    return guarded


def _is_denied(api: Api) -> bool:
    try:
        _as_loadtest(api, "ru-toxicity", {"stage": "Mine"})
    except ApiException as error:
        return error.status == REFUSED
    return False


@pytest.mark.parametrize("kind", ["merge", "apply"])
@pytest.mark.parametrize("state", ["Running", "Complete"])
def test_load_test_writes_its_figures(measured: Api, kind: str, state: str) -> None:
    written = _as_loadtest(measured, "ru-toxicity", {"loadTest": FIGURES | {"state": state}}, kind)["status"]
    assert written == STATUS | {"loadTest": FIGURES | {"state": state}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"stage": "Ready"}, "status.stage"),
        ({"stage": None}, "status.stage"),
        ({"url": "http://evil"}, "status.url"),
        ({"serving": {"url": "http://evil"}}, "status.serving"),
        ({"training": {"fingerprint": "f"}}, "status.training"),
        ({"stage": "Ready", "loadTest": FIGURES}, "status.stage"),
        ({"stage": "Ready", "observedGeneration": 2}, "status.observedGeneration, status.stage"),
    ],
)
def test_load_test_writes_nothing_else(measured: Api, change: dict[str, Any], field: str) -> None:
    before = measured.get(KIND, "ru-toxicity")
    with pytest.raises(ApiException) as refusal:
        _as_loadtest(measured, "ru-toxicity", change)
    assert refusal.value.status == REFUSED
    assert f"{SYSTEM}-{RELEASE}-load-test-status" in refusal.value.body
    assert (
        f"{field} must not be changed by a load test, which may write status.loadTest only" in refusal.value.body
    )
    assert measured.get(KIND, "ru-toxicity") == before


def test_other_accounts_write_the_status(measured: Api) -> None:
    written = measured.merge(KIND, "ru-toxicity", {"status": {"stage": "Ready"}}, "/status")
    assert written["status"]["stage"] == "Ready"
    measured.merge(KIND, "ru-toxicity", {"status": {"stage": STATUS["stage"]}}, "/status")


def test_nothing_is_rendered_unless_switched_on(render: Render) -> None:
    kinds = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    assert not any(document["kind"] in kinds for document in render())
    lists = "admissionPolicies.images={a.example},admissionPolicies.secrets={hub}"
    assert not any(document["kind"] in kinds for document in render("--set", lists))


@pytest.mark.parametrize(
    ("lists", "policies"),
    [
        ("", ["load-test-status"]),
        ("admissionPolicies.images={a.example}", ["load-test-status", "references"]),
        ("admissionPolicies.secrets={hub}", ["load-test-status", "references"]),
    ],
)
def test_empty_list_allows_everything(render: Render, lists: str, policies: list[str]) -> None:
    documents = render("--set", "admissionPolicies.enabled=true", *(("--set", lists) if lists else ()))
    made = sorted(item["metadata"]["name"] for item in all_of_kind(documents, "ValidatingAdmissionPolicy"))
    assert made == [f"toxicity-system-toxicity-operator-{name}" for name in policies]
    bindings = all_of_kind(documents, "ValidatingAdmissionPolicyBinding")
    assert sorted(item["spec"]["policyName"] for item in bindings) == made
    said = json.dumps(documents)
    assert ("must be an image from" in said) is ("images=" in lists)
    assert ("must be one of" in said) is ("secrets=" in lists)
