"""Objects with a child's name or without its label are judged by their owner. Foreign objects are not used."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from support.builders import a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, message, run, settle, status

CLAIM = ("PersistentVolumeClaim", "ru-toxicity-artifacts")


@pytest.mark.parametrize("claim_name", ["ru-toxicity-artifacts", "shared"])
def test_kept_claim_of_an_earlier_resource_is_not_taken_over_by_one_with_a_claim_of_its_own(
    claim_name: str,
) -> None:
    """Otherwise the retained claim would be deleted together with the new resource."""
    kept = drive(a_model().with_spec("storage.reclaim", "Retain"), 1).objects[CLAIM]
    assert "ownerReferences" not in kept["metadata"]
    kept["metadata"]["creationTimestamp"] = "2031-01-01T00:00:00Z"
    cluster = FakeCluster(replace(a_model().with_spec("storage.claimName", claim_name), uid="uid-2").raw())
    cluster.objects[CLAIM] = kept
    settle(cluster)
    cluster.finish_training()
    settle(cluster)
    assert "ownerReferences" not in cluster.objects[CLAIM]["metadata"]
    assert status(cluster)["training"]["outcome"] == "Succeeded", "it lies on another volume"


@pytest.mark.parametrize("kind", ["Job", "PersistentVolumeClaim"])
def test_child_that_lost_its_labels_gets_them_back(kind: str) -> None:
    """Without its label the operator would never see that a Job finished, and would try to create it in every pass."""
    cluster = drive(a_model(), 0)
    (name,) = cluster.names_of(kind)
    uid = cluster.objects[kind, name]["metadata"]["uid"]
    labels = dict(cluster.objects[kind, name]["metadata"]["labels"])
    cluster.objects[kind, name]["metadata"]["labels"] = {"team": "forum"}
    settle(cluster)
    metadata = cluster.objects[kind, name]["metadata"]
    assert (metadata["uid"], metadata["labels"]) == (uid, {"team": "forum", **labels})
    cluster.finish_training()
    settle(cluster)
    assert status(cluster)["training"]["outcome"] == "Succeeded"


def test_service_of_somebody_else_is_not_told_as_where_the_model_is_served() -> None:
    service = {"name": "ru-toxicity-serve", "namespace": "default", "uid": "uid-of-theirs", "resourceVersion": "1"}
    cluster = drive(a_model(), 2)
    cluster.objects["Service", service["name"]] = {"apiVersion": "v1", "kind": "Service", "metadata": service}
    cluster.finish_evaluation()
    for paused in (False, True):
        cluster.change_spec(a_model().with_spec("paused", paused).spec)
        for _ in range(3):
            run(cluster)
            cluster.roll_out()
        assert conditions(cluster)["Ready"] == ("False", "Paused" if paused else "NotOurs")
        assert not [name for _, name in cluster.ever_created if "loadtest" in name], "it would load their service"
        assert "url" not in status(cluster)
        assert status(cluster)["serving"]["url"] == ""
    assert cluster.objects["Service", service["name"]]["metadata"] == service


def test_orphan_that_somebody_else_took_since_it_was_seen_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = drive(a_model(), 4)
    deployment = cluster.objects["Deployment", "ru-toxicity-serve"]
    deployment["metadata"]["ownerReferences"] = []
    seen = cluster.list_children("default", "ru-toxicity")
    owner = {"apiVersion": "forum/v1", "kind": "Forum", "name": "forum", "uid": "uid-of-forum", "controller": True}
    deployment["metadata"]["ownerReferences"] = [owner]
    theirs = copy.deepcopy(deployment)
    monkeypatch.setattr(cluster, "list_children", lambda namespace, name: copy.deepcopy(seen))
    scaling = {"minReplicas": 1, "maxReplicas": 4}
    cluster.change_spec(a_model().with_spec("serving.autoscaling", scaling).spec)
    run(cluster)
    assert cluster.objects["Deployment", "ru-toxicity-serve"] == theirs
    assert cluster.held == [], "no field of it was claimed"
    assert conditions(cluster)["Ready"] == ("False", "NotOurs")


def test_remedy_for_a_claim_of_somebody_else_can_be_followed() -> None:
    """spec.storage is immutable, so the use of the claim requires a new resource."""
    cluster = FakeCluster(a_model().raw())
    claim = {"name": CLAIM[1], "namespace": "default", "uid": "uid-of-theirs", "resourceVersion": "1"}
    cluster.objects[CLAIM] = {"apiVersion": "v1", "kind": CLAIM[0], "metadata": claim}
    run(cluster)
    assert message(cluster, "Ready") == (
        "PersistentVolumeClaim ru-toxicity-artifacts was not created by the operator, so the operator does not use or"
        " change it; rename or delete it, or create the ToxicityModel again under another name, or with"
        " storage.claimName: ru-toxicity-artifacts to use the claim"
    )
