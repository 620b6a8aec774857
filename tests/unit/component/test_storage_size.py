"""`storage.size` grows with the spec, and a stage that found the volume full runs again."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import a_model, training_result
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, message, run, settle, status

CLAIM = ("PersistentVolumeClaim", "ru-toxicity-artifacts")
FULL = training_result("f").model_copy(
    update={"outcome": "failed", "reason": "VolumeFull", "message": "no space is left", "training": None}
)


def bind(cluster: FakeCluster) -> None:
    cluster.objects[CLAIM]["status"] = {"phase": "Bound"}


def requested(cluster: FakeCluster) -> Any:
    return cluster.objects[CLAIM]["spec"]["resources"]["requests"]["storage"]


def test_claim_grows_and_nothing_runs_again() -> None:
    cluster = drive(a_model().with_spec("storage.size", "8Gi"))
    jobs = cluster.names_of("Job")
    bind(cluster)
    cluster.change_spec(a_model().with_spec("storage.size", "9Gi").spec)
    settle(cluster)
    assert requested(cluster) == "9Gi"
    assert cluster.names_of("Job") == jobs
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert status(cluster).get("outdated") is None


@pytest.mark.parametrize("live", ["9Gi", "9216Mi", "12Gi"])
def test_claim_that_is_as_large_or_larger_is_left_alone(live: str) -> None:
    """A retained claim, or one that someone has grown by hand."""
    cluster = drive(a_model().with_spec("storage.size", "9Gi"), 0)
    bind(cluster)
    cluster.objects[CLAIM]["spec"]["resources"]["requests"]["storage"] = live
    writes = cluster.writes
    settle(cluster)
    assert (requested(cluster), cluster.writes) == (live, writes)


def test_stage_that_found_the_volume_full_runs_again_on_a_larger_one() -> None:
    cluster = FakeCluster(a_model().with_spec("storage.size", "8Gi").raw())
    settle(cluster)
    bind(cluster)
    first = cluster.job("train")["metadata"]["uid"]
    ended = {"exitCode": 1, "message": FULL.to_termination_message()}
    cluster.fail_job("train", ended)
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("False", "VolumeFull")
    assert message(cluster, "Trained") == "no space is left"
    cluster.change_spec(a_model().with_spec("storage.size", "16Gi").spec)
    settle(cluster)
    assert requested(cluster) == "16Gi"
    assert cluster.job("train")["metadata"]["uid"] != first


@pytest.mark.parametrize(
    ("storage", "part", "steps"),
    [
        ({}, "loadtest", 4),
        ({"claimName": "mine"}, "train", 0),
        ({"objectStore": {"url": "s3://models/team", "secretName": "store-key"}}, "train", 0),
    ],
)
def test_failed_stage_that_does_not_write_to_the_claim_does_not_run_again(
    storage: dict[str, Any], part: str, steps: int
) -> None:
    model = a_model().with_spec("storage", {"size": "8Gi", **storage})
    cluster = drive(model, steps)
    cluster.fail_job(part, {"exitCode": 1, "message": "out of range"})
    settle(cluster)
    begun = list(cluster.ever_created)
    cluster.change_spec(model.with_spec("storage.size", "16Gi").spec)
    settle(cluster)
    assert cluster.ever_created == begun


def test_running_stage_is_not_disturbed_by_a_larger_volume() -> None:
    cluster = FakeCluster(a_model().with_spec("storage.size", "8Gi").raw())
    settle(cluster)
    cluster.run_pod("train")
    settle(cluster)
    first = cluster.job("train")["metadata"]["uid"]
    cluster.change_spec(a_model().with_spec("storage.size", "16Gi").spec)
    settle(cluster)
    assert cluster.job("train")["metadata"]["uid"] == first


def test_unbound_claim_waits_for_its_first_pod() -> None:
    cluster = FakeCluster(a_model().with_spec("storage.size", "8Gi").raw())
    settle(cluster)
    cluster.change_spec(a_model().with_spec("storage.size", "16Gi").spec)
    settle(cluster)
    assert requested(cluster) == "8Gi"
    bind(cluster)
    settle(cluster)
    assert requested(cluster) == "16Gi"


def test_storage_class_that_does_not_allow_it_blocks_nothing_else() -> None:
    cluster = drive(a_model().with_spec("storage.size", "8Gi"))
    bind(cluster)
    cluster.fixed_size = True
    cluster.change_spec(a_model().with_spec("storage.size", "9Gi").with_spec("training.epochs", 2.0).spec)
    for _ in range(2):
        run(cluster)
    assert cluster.job("train")
    assert "set allowVolumeExpansion: true in the storage class" in message(cluster, "Ready")


def test_claim_is_created_before_the_job_that_mounts_it() -> None:
    """Its growth comes last. A crash in between leaves no pod that waits for a missing claim."""
    assert [kind for kind, _ in drive(a_model(), 0).ever_created] == ["PersistentVolumeClaim", "Job"]
