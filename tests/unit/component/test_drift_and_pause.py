"""Manual edits of children, a paused resource, and a retained claim."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from support.builders import ModelBuilder, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, message, run, settle, status

SERVE = "ru-toxicity-serve"
SCALED = {"minReplicas": 1, "maxReplicas": 2}

Edit = Callable[[dict[str, Any]], None]


def set_image(item: dict[str, Any]) -> None:
    item["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"


def add_rule(item: dict[str, Any]) -> None:
    item["rules"].append({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})


def drop_label(item: dict[str, Any]) -> None:
    item["metadata"]["labels"].pop("app.kubernetes.io/component")


def set_maximum(item: dict[str, Any]) -> None:
    item["spec"]["maxReplicas"] = 50


def set_port(item: dict[str, Any]) -> None:
    item["spec"]["ports"][0]["port"] = 8080


def without_generation(item: dict[str, Any]) -> dict[str, Any]:
    versions = ("generation", "resourceVersion")
    return item | {"metadata": {key: value for key, value in item["metadata"].items() if key not in versions}}


@pytest.mark.parametrize(
    ("kind", "name", "edit"),
    [
        ("Deployment", SERVE, set_image),
        ("Deployment", SERVE, drop_label),
        ("Service", SERVE, set_port),
        ("HorizontalPodAutoscaler", SERVE, set_maximum),
        ("Role", "ru-toxicity-loadtest", add_rule),
    ],
)
def test_child_edited_by_hand_is_restored(kind: str, name: str, edit: Edit) -> None:
    cluster = drive(a_model().with_spec("serving.autoscaling", SCALED))
    before = copy.deepcopy(cluster.objects[kind, name])
    edit(cluster.objects[kind, name])
    assert cluster.objects[kind, name] != before
    settle(cluster)
    after = cluster.objects[kind, name]
    assert without_generation(after) == without_generation(before)


def test_what_the_autoscaler_and_other_managers_write_is_left_alone() -> None:
    cluster = drive(a_model().with_spec("serving.autoscaling", SCALED))
    deployment = cluster.objects["Deployment", SERVE]
    deployment["spec"]["replicas"] = 2
    deployment["spec"]["template"]["spec"]["containers"].append({"name": "mesh", "image": "proxy:1"})
    deployment["metadata"]["annotations"]["somebody.else/note"] = "1"
    writes = cluster.writes
    for minute in range(20):
        run(cluster, f"2030-01-01T03:{minute:02}:00Z")
    assert cluster.writes == writes


def test_paused_resource_starts_changes_and_deletes_nothing() -> None:
    model = a_model()
    cluster = FakeCluster(model.with_spec("paused", True).raw())
    settle(cluster)
    assert cluster.objects == {}
    assert conditions(cluster)["Ready"] == ("False", "Paused")
    assert "spec.paused" in message(cluster, "Ready")
    cluster.change_spec(model.spec)
    settle(cluster)
    assert status(cluster)["stage"] == "Training"
    cluster.change_spec(model.with_spec("paused", True).with_spec("training.epochs", 2.0).spec)
    (job,) = cluster.names_of("Job")
    settle(cluster)
    assert cluster.names_of("Job") == [job], "an obsolete Job is not deleted while paused"


def test_paused_resource_that_serves_stays_ready_and_follows_its_pods() -> None:
    model = a_model()
    cluster = drive(model)
    cluster.change_spec(model.with_spec("paused", True).spec)
    settle(cluster)
    assert conditions(cluster)["Ready"][0] == "True"
    cluster.roll_out(ready=0)
    settle(cluster)
    assert conditions(cluster)["Ready"][0] == "False"


def test_retained_claim_has_no_owner_and_is_taken_up_by_the_next_resource_of_the_name() -> None:
    kept = a_model().with_spec("storage", {"reclaim": "Retain"})
    cluster = FakeCluster(kept.raw())
    settle(cluster)
    claim = cluster.objects["PersistentVolumeClaim", "ru-toxicity-artifacts"]
    assert "ownerReferences" not in claim["metadata"]
    second = FakeCluster(ModelBuilder(uid="uid-2", spec=kept.spec).raw())
    second.objects = {("PersistentVolumeClaim", "ru-toxicity-artifacts"): claim}
    settle(second)
    assert second.objects["PersistentVolumeClaim", "ru-toxicity-artifacts"] == claim
    assert second.names_of("Job") == [status(second)["training"]["jobName"]]
