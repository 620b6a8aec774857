"""While a new version is made, the serving one follows the spec's resources, and manual edits are reverted."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from support.builders import ModelBuilder, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, fingerprint_of, settle, status
from toxicity_operator import names

SERVE = ("Deployment", "ru-toxicity-serve")


def retraining(model: ModelBuilder) -> ModelBuilder:
    return model.with_spec("training.learningRate", 1e-4)


def container(cluster: FakeCluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.objects[SERVE]["spec"]["template"]["spec"]["containers"][0]
    return found


def set_image(deployment: dict[str, Any]) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "edited:1"


def set_variable(deployment: dict[str, Any]) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = "edited"


def set_resources(deployment: dict[str, Any]) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "1Mi"}}


def set_grace(deployment: dict[str, Any]) -> None:
    deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1


def set_deadline(deployment: dict[str, Any]) -> None:
    deployment["spec"]["progressDeadlineSeconds"] = 7


@pytest.mark.parametrize("edit", [set_image, set_variable, set_resources, set_grace, set_deadline])
@pytest.mark.parametrize("busy", [False, True])
def test_edit_by_hand_is_undone(busy: bool, edit: Any) -> None:
    cluster = drive(a_model())
    if busy:
        cluster.change_spec(retraining(a_model()).spec)
        settle(cluster)
    before = copy.deepcopy(cluster.objects[SERVE]["spec"])
    edit(cluster.objects[SERVE])
    cluster.note_revision()  # as the Deployment controller does of an edited template
    assert cluster.objects[SERVE]["spec"] != before
    settle(cluster)
    assert cluster.objects[SERVE]["spec"] == before


def test_serving_resources_are_followed_while_a_new_version_is_made() -> None:
    cluster = drive(a_model())
    good = fingerprint_of(cluster)
    cluster.change_spec(retraining(a_model()).with_spec("serving.resources.limits.memory", "12Gi").spec)
    settle(cluster)
    assert cluster.job("train")
    assert container(cluster)["resources"]["limits"]["memory"] == "12Gi"
    assert container(cluster)["image"] == "serve-image:1"
    assert fingerprint_of(cluster) != good
    cluster.roll_out()
    settle(cluster)
    assert status(cluster)["serving"]["goodFingerprint"] == fingerprint_of(cluster)
    assert conditions(cluster)["Available"][0] == "True"


def test_resources_that_no_node_has_give_way_to_those_before() -> None:
    cluster = drive(a_model())
    good, before = fingerprint_of(cluster), copy.deepcopy(container(cluster)["resources"])
    cluster.change_spec(retraining(a_model()).with_spec("serving.resources.limits.memory", "12Ti").spec)
    settle(cluster)
    cluster.stall()
    settle(cluster)
    assert fingerprint_of(cluster) == good
    assert container(cluster)["resources"] == before
    cluster.roll_out()
    settle(cluster)
    writes = cluster.writes
    settle(cluster)
    assert (fingerprint_of(cluster), cluster.writes) == (good, writes)
    assert cluster.objects[SERVE]["metadata"]["annotations"][names.FAILED_FINGERPRINT] != good


@pytest.mark.parametrize(
    ("cpu", "memory"), [("2000m", "8Gi"), ("2", "8192Mi"), (2.0, 8589934592), ("2", "8589934592")]
)
def test_same_amounts_written_otherwise_roll_nothing_out(cpu: Any, memory: Any) -> None:
    cluster = drive(a_model())
    before = copy.deepcopy(cluster.objects[SERVE]["spec"])
    limits = {"cpu": cpu if not isinstance(cpu, float) else int(cpu), "memory": memory}
    cluster.change_spec(retraining(a_model()).with_spec("serving.resources", {"limits": limits}).spec)
    settle(cluster)
    assert cluster.objects[SERVE]["spec"] == before


def test_restart_by_hand_is_not_undone_by_an_earlier_one() -> None:
    """`kubectl rollout restart` writes the time into the template, and old revisions are deleted."""
    key, cluster = "kubectl.kubernetes.io/restartedAt", drive(a_model())
    metadata = cluster.objects[SERVE]["spec"]["template"]["metadata"]
    metadata["annotations"][key] = "2030-01-02T00:00:00Z"
    cluster.remove("ReplicaSet")
    cluster.note_revision()
    cluster.change_spec(retraining(a_model()).spec)
    settle(cluster)
    template = cluster.objects[SERVE]["spec"]["template"]
    assert template["metadata"]["annotations"][key] == "2030-01-02T00:00:00Z"
    template["metadata"]["annotations"][key] = "2030-01-03T00:00:00Z"
    settle(cluster)
    assert cluster.objects[SERVE]["spec"]["template"]["metadata"]["annotations"][key] == "2030-01-03T00:00:00Z"


def test_version_that_is_asked_for_again_has_its_own_resources_again() -> None:
    first = a_model().with_spec("serving.resources", {"limits": {"cpu": 2, "memory": "8Gi"}})
    other = retraining(first).with_spec("serving.resources", {"limits": {"cpu": 3, "memory": "9Gi"}})
    cluster = drive(first)
    before = copy.deepcopy(cluster.objects[SERVE]["spec"]["template"])
    cluster.change_spec(other.spec)
    settle(cluster)
    assert container(cluster)["resources"]["limits"] == {"cpu": 3, "memory": "9Gi"}
    cluster.change_spec(first.spec)
    settle(cluster)
    assert cluster.objects[SERVE]["spec"]["template"] == before
    assert status(cluster).get("outdated") is None
