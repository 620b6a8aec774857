"""Rules of the CRD and its scale subresource on a real API server."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import ModelBuilder, a_model
from support.interruption.backends import on_server
from support.interruption.schedule import HOST, NAME, Schedule
from support.operator.actors import Api, RequestFailed
from support.operator.api_server import ApiServer
from support.pod_settings import BESIDE, HIDDEN, REFUSED, mounted
from toxicity_api.base import KIND
from toxicity_operator import names

pytestmark = pytest.mark.interruption

INT32_MAX = 2**31 - 1
MANY = 3_000_000_000
UNPROCESSABLE = 422


@pytest.fixture
def api(server: ApiServer) -> Api:
    """A namespace of this test alone."""
    return on_server(server.connect())


def create(api: Api, builder: ModelBuilder) -> dict[str, Any]:
    return api.create(KIND, builder.raw() | {"metadata": {"name": NAME}})


FORUM = {"name": "forum", "configMap": {"name": "rows", "key": "forum.csv"}}


@pytest.mark.parametrize(
    ("test_sets", "words"),
    [
        ([FORUM, FORUM], "Duplicate value"),
        ([FORUM | {"name": "Forum"}], "should match"),
        ([FORUM | {"name": f"set-{number}"} for number in range(6)], "must have at most 5 items"),
        ([{"name": "forum"}], "exactly one source must be set"),
        ([FORUM | {"minF1": 1.5}], "should be less than or equal to 1"),
    ],
)
def test_test_sets_are_checked_by_the_schema(api: Api, test_sets: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(RequestFailed, match=words) as refusal:
        create(api, a_model().with_spec("evaluation.testSets", test_sets))
    assert refusal.value.status == UNPROCESSABLE


@pytest.mark.parametrize(
    ("path", "value", "highest"),
    [
        ("serving.replicas", MANY, INT32_MAX),
        ("serving.progressDeadlineSeconds", MANY, INT32_MAX),
        ("serving.autoscaling", {"maxReplicas": MANY}, INT32_MAX),
        ("serving.autoscaling", {"target": MANY}, INT32_MAX),
        ("serving.gpus", MANY, 1024),
        ("training.backoffLimit", MANY, INT32_MAX),
        ("training.activeDeadlineSeconds", MANY, INT32_MAX),
        ("quantization.backoffLimit", MANY, INT32_MAX),
        ("evaluation.backoffLimit", MANY, INT32_MAX),
        ("loadTest.activeDeadlineSeconds", MANY, INT32_MAX),
        ("training.seed", 2**32, 2**32 - 1),
        ("dataset.split.seed", 2**32, 2**32 - 1),
        ("training.batchSize", MANY, 65_536),
        ("loadTest.slo", {"p95Seconds": 1e300}, 3600),
    ],
)
def test_number_beyond_its_bound_is_refused_with_the_bound(api: Api, path: str, value: Any, highest: int) -> None:
    with pytest.raises(RequestFailed) as refusal:
        create(api, a_model().with_spec(path, value))
    assert refusal.value.status == UNPROCESSABLE
    assert f"should be less than or equal to {highest}" in str(refusal.value)
    assert f"spec.{path}" in str(refusal.value)


def test_highest_numbers_are_stored_as_they_are(api: Api) -> None:
    highest = {
        "training.seed": 2**32 - 1, "dataset.split.seed": 2**32 - 1, "training.backoffLimit": INT32_MAX,
        "serving.progressDeadlineSeconds": INT32_MAX, "serving.replicas": INT32_MAX,
    }  # fmt: skip
    wanted = a_model()
    for path, value in highest.items():
        wanted = wanted.with_spec(path, value)
    stored = create(api, wanted)["spec"]
    for path, value in highest.items():
        node = stored
        for key in path.split("."):
            node = node[key]
        assert node == value, path


@pytest.mark.parametrize("template", ["no place", "{text} and {text}", "{ text }", "{text}{text}"])
def test_prompt_without_exactly_one_place_for_the_text_is_refused(api: Api, template: str) -> None:
    with pytest.raises(RequestFailed, match=r"promptTemplate must contain \{text\} exactly once") as refusal:
        create(api, a_model().with_spec("training.promptTemplate", template))
    assert refusal.value.status == UNPROCESSABLE
    assert "spec.training.promptTemplate" in str(refusal.value)


@pytest.mark.parametrize(
    "template", ["{text}", 'JSON {"a": {}} {{text}} {0} {x}\n', "{{text}", "{Text} {text}", "{te{text}"]
)
def test_prompt_with_other_braces_is_accepted(api: Api, template: str) -> None:
    made = create(api, a_model().with_spec("training.promptTemplate", template))
    assert made["spec"]["training"]["promptTemplate"] == template


@pytest.mark.parametrize(
    ("before", "after"),
    [("8Gi", "8192Mi"), ("2", 2), (2, "2000m"), ("1e3", "1k"), ("8Gi", "8.0Gi"), ("20Gi", None)],
)
def test_size_of_the_volume_may_be_written_in_another_way(api: Api, before: Any, after: Any) -> None:
    create(api, a_model().with_spec("storage", {"size": before, "reclaim": "Retain"}))
    changed = api.merge(KIND, NAME, {"spec": {"storage": {"size": after}}})
    assert changed["spec"]["storage"]["size"] == ("20Gi" if after is None else after)


@pytest.mark.parametrize("size", ["8193Mi", "9G", 9663676416])
def test_volume_can_grow(api: Api, size: Any) -> None:
    create(api, a_model().with_spec("storage", {"size": "8Gi"}))
    changed = api.merge(KIND, NAME, {"spec": {"storage": {"size": size}}})
    assert changed["spec"]["storage"]["size"] == size


@pytest.mark.parametrize(
    "change",
    [
        {"size": "8191Mi"},
        {"size": 8},
        {"size": "8G"},
        {"storageClassName": "fast"},
        {"claimName": None},
        {"claimName": "other"},
        {"accessModes": ["ReadWriteMany"]},
        {"reclaim": "Delete"},
    ],
)
def test_storage_cannot_be_changed(api: Api, change: dict[str, Any]) -> None:
    create(api, a_model().with_spec("storage", {"size": "8Gi", "claimName": "mine", "reclaim": "Retain"}))
    with pytest.raises(RequestFailed, match="storage cannot be changed") as refusal:
        api.merge(KIND, NAME, {"spec": {"storage": change}})
    assert refusal.value.status == UNPROCESSABLE


STORE = {"url": "s3://models/team", "secretName": "key"}


@pytest.mark.parametrize(
    "storage",
    [
        {"objectStore": STORE},
        {"objectStore": {"url": "gs://my_bucket"}, "scratch": {"size": "5Gi"}},
        {"objectStore": {"url": "az://models/a/b.c", "endpoint": "https://account.blob.core.windows.net"}},
        {"objectStore": STORE | {"endpoint": "http://[fd00::1]:7070"}, "size": "20480Mi"},
        {"objectStore": STORE, "keepVersions": 3},
        {"objectStore": STORE, "nodeCache": {"claimName": "node-models"}},
        {"objectStore": STORE, "nodeCache": {"claimName": "node-models", "size": 5000000000}},
    ],
)
def test_object_store_is_accepted(api: Api, storage: dict[str, Any]) -> None:
    made = create(api, a_model().with_spec("storage", storage))
    assert made["spec"]["storage"]["objectStore"] == storage["objectStore"]


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ({"objectStore": STORE, "claimName": "mine"}, "objectStore replaces the volume"),
        ({"objectStore": STORE, "size": "30Gi"}, "objectStore replaces the volume"),
        ({"objectStore": STORE, "accessModes": ["ReadWriteMany"]}, "objectStore replaces the volume"),
        ({"objectStore": STORE, "reclaim": "Retain"}, "objectStore replaces the volume"),
        ({"objectStore": STORE, "storageClassName": "fast"}, "objectStore replaces the volume"),
        ({"scratch": {"size": "5Gi"}}, "scratch is used only with storage.objectStore"),
        (
            {"nodeCache": {"claimName": "node-models"}},
            "nodeCache is used only with storage.objectStore: set objectStore",
        ),
        ({"objectStore": STORE, "nodeCache": {}}, "storage.nodeCache.claimName"),
        ({"objectStore": STORE, "nodeCache": {"claimName": ""}}, "storage.nodeCache.claimName"),
        (
            {"objectStore": STORE, "nodeCache": {"claimName": "a", "size": "0"}},
            "nodeCache.size must be more than 0",
        ),
        ({"objectStore": STORE, "nodeCache": {"claimName": "a", "size": "big"}}, "storage.nodeCache.size"),
        ({"objectStore": {"url": "https://models/team"}}, "storage.objectStore.url"),
        ({"objectStore": {"url": "s3://key:secret@models/team"}}, "storage.objectStore.url"),
        ({"objectStore": {"url": "s3://models/../other"}}, "storage.objectStore.url"),
        ({"objectStore": STORE | {"endpoint": "s3.example.com"}}, "storage.objectStore.endpoint"),
        (
            {"objectStore": STORE | {"endpoint": "https://key:secret@s3.example.com"}},
            "storage.objectStore.endpoint",
        ),
        ({"objectStore": STORE | {"secretName": ""}}, "storage.objectStore.secretName"),
    ],
)
def test_contradictory_storage_is_refused(api: Api, storage: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestFailed, match=message) as refusal:
        create(api, a_model().with_spec("storage", storage))
    assert refusal.value.status == 422


@pytest.mark.parametrize(
    ("expose", "message"),
    [
        ({"host": HOST}, "either ingress or gateway"),
        ({"host": HOST, "ingress": {}, "gateway": {"name": "public"}}, "either ingress or gateway"),
        ({"ingress": {}}, "spec.serving.expose.host"),
        ({"host": "*.example.org", "ingress": {}}, "spec.serving.expose.host"),
        ({"host": "192.0.2.7", "ingress": {}}, "spec.serving.expose.host"),
        ({"host": HOST, "ingress": {"annotations": {"toxicity.dev/model": "another"}}}, "remove the key"),
        ({"host": HOST, "gateway": {}}, "spec.serving.expose.gateway.name"),
        ({"host": HOST, "gateway": {"name": "public", "scheme": "ftp"}}, "spec.serving.expose.gateway.scheme"),
    ],
)
def test_contradictory_exposure_is_refused(api: Api, expose: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestFailed, match=message) as refusal:
        create(api, a_model().with_spec("serving.expose", expose))
    assert refusal.value.status == UNPROCESSABLE


def test_exposure_by_an_empty_ingress_is_accepted(api: Api) -> None:
    made = create(api, a_model().with_spec("serving.expose", {"host": HOST, "ingress": {}}))
    assert made["spec"]["serving"]["expose"] == {"host": HOST, "ingress": {}}


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ({"objectStore": STORE}, {"objectStore": {"url": "s3://models/other"}}),
        ({"objectStore": STORE}, {"objectStore": None}),
        ({}, {"objectStore": STORE}),
    ],
)
def test_store_cannot_be_changed(api: Api, before: dict[str, Any], change: dict[str, Any]) -> None:
    create(api, a_model().with_spec("storage", before))
    with pytest.raises(RequestFailed, match="storage cannot be changed") as refusal:
        api.merge(KIND, NAME, {"spec": {"storage": change}})
    assert refusal.value.status == 422


def test_access_to_the_store_and_the_scratch_space_can_be_changed(api: Api) -> None:
    create(api, a_model().with_spec("storage", {"objectStore": STORE}))
    change = {
        "objectStore": {"secretName": "other", "endpoint": "https://s3.example.com"},
        "scratch": {"size": "90Gi"},
        "nodeCache": {"claimName": "node-models", "size": "50Gi"},
    }
    changed = api.merge(KIND, NAME, {"spec": {"storage": change}})
    assert changed["spec"]["storage"]["scratch"]["size"] == "90Gi"
    assert changed["spec"]["storage"]["objectStore"]["secretName"] == "other"
    assert changed["spec"]["storage"]["nodeCache"] == {"claimName": "node-models", "size": "50Gi"}


def scale_of(api: Api) -> dict[str, Any]:
    return api.request("GET", api.path(KIND, NAME) + "/scale")


def set_scale(api: Api, replicas: int) -> dict[str, Any]:
    """As `kubectl scale --replicas` does."""
    return api.merge(KIND, NAME, {"spec": {"replicas": replicas}}, "/scale")


def test_scale_sets_the_replicas_and_finds_the_serving_pods(api: Api) -> None:
    schedule = Schedule(api, spec="replicas")
    schedule.converge()
    scale = scale_of(api)
    assert (scale["spec"], scale["status"]["replicas"]) == ({"replicas": 2}, 2)
    selector = dict(item.split("=") for item in scale["status"]["selector"].split(","))
    assert selector == names.selector_labels(NAME, names.SERVE)
    deployment = api.get("Deployment", names.serving_name(NAME))
    assert deployment is not None and deployment["spec"]["selector"]["matchLabels"] == selector
    set_scale(api, 3)
    schedule.tell_model()
    schedule.converge()
    deployment = api.get("Deployment", names.serving_name(NAME))
    assert deployment is not None and deployment["spec"]["replicas"] == 3
    assert scale_of(api)["status"]["replicas"] == 3


def test_scale_of_a_resource_that_names_no_replicas(api: Api) -> None:
    """The API server cannot show a number that is not there, but takes one."""
    create(api, a_model())
    with pytest.raises(RequestFailed, match=r"\.spec\.serving\.replicas"):
        scale_of(api)
    set_scale(api, 3)
    assert scale_of(api)["spec"] == {"replicas": 3}


def test_scale_is_refused_beside_an_autoscaler(api: Api) -> None:
    create(api, a_model().with_spec("serving.autoscaling", {"maxReplicas": 4}))
    with pytest.raises(RequestFailed, match=r"serving\.replicas and serving\.autoscaling exclude each other"):
        set_scale(api, 3)


def test_new_resource_is_not_taken_for_done_before_the_first_pass(api: Api) -> None:
    made = create(api, a_model())
    assert made["status"] == {"observedGeneration": -1}
    schedule = Schedule(api)
    schedule.converge()
    seen = api.get(KIND, NAME)
    assert seen is not None
    assert seen["status"]["observedGeneration"] == seen["metadata"]["generation"]
    said = {item["type"]: item["status"] for item in seen["status"]["conditions"]}
    assert (said["Ready"], said["Reconciling"], said["Stalled"]) == ("True", "False", "False")


@pytest.mark.parametrize(("path", "value", "words"), REFUSED)
def test_pod_field_that_would_break_a_container_is_refused(api: Api, path: str, value: Any, words: str) -> None:
    with pytest.raises(RequestFailed) as refusal:
        create(api, a_model().with_spec(path, value))
    assert refusal.value.status == UNPROCESSABLE
    assert words in str(refusal.value)


def test_volume_cannot_hide_files_of_the_container(api: Api) -> None:
    for path in HIDDEN:
        with pytest.raises(RequestFailed, match="must not hide files of the container"):
            create(api, a_model().with_spec("training.pod", mounted(path)))


def test_settings_of_kubernetes_are_stored_as_they_are(api: Api) -> None:
    affinity = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5}]}}
    several = {
        "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}],
        "volumeMounts": [{"name": "cache", "mountPath": path, "readOnly": True} for path in BESIDE],
        "affinity": affinity,
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}],
    }
    stored = create(api, a_model().with_spec("serving.pod", several))["spec"]["serving"]["pod"]
    assert stored == several


def test_variable_has_one_value(api: Api) -> None:
    two = [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    with pytest.raises(RequestFailed, match="must not have both value and valueFrom"):
        create(api, a_model().with_spec("quantization.pod.env", two))


def test_source_of_a_volume_must_be_of_an_allowed_type(api: Api) -> None:
    host = [{"name": "host", "hostPath": {"path": "/"}}]
    with pytest.raises(RequestFailed, match="exactly one source must be set"):
        create(api, a_model().with_spec("training.pod.volumes", host))
