"""A resource whose artifacts are in an object store: no claim, and conditions that name the field and the remedy."""

from __future__ import annotations

import pytest

from support.builders import a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, message, settle
from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, StageResult

STORED = a_model().with_spec("storage.objectStore", {"url": "s3://models/team", "secretName": "store-key"})
DENIED = (
    "spec.storage.objectStore: s3://models/team does not allow to list the bucket; correct the Secret store-key"
)


def failed_training(reason: str, text: str, code: int) -> FakeCluster:
    cluster = FakeCluster(STORED.raw())
    settle(cluster)
    failed = StageResult(stage="train", fingerprint="f", outcome="failed", reason=reason, message=text)
    cluster.fail_job("train", {"exitCode": code, "reason": "Error", "message": failed.to_termination_message()})
    settle(cluster)
    return cluster


def test_whole_pipeline_needs_no_claim() -> None:
    cluster = drive(STORED)
    assert conditions(cluster)["Ready"][0] == "True"
    assert [kind for kind, _ in cluster.objects if kind == "PersistentVolumeClaim"] == []


@pytest.mark.parametrize("code", [EXIT_FAILED, EXIT_INVALID_INPUT])
def test_condition_shows_what_the_store_refused(code: int) -> None:
    cluster = failed_training("StoreAccessDenied", DENIED, code)
    assert conditions(cluster)["Trained"] == ("False", "StoreAccessDenied")
    assert DENIED in message(cluster, "Trained")


def test_claim_that_an_earlier_resource_retained_is_left_alone() -> None:
    retained = drive(a_model().with_spec("storage.reclaim", "Retain"), 1)
    claim = retained.objects["PersistentVolumeClaim", "ru-toxicity-artifacts"]
    cluster = FakeCluster(STORED.raw())
    cluster.objects["PersistentVolumeClaim", "ru-toxicity-artifacts"] = claim
    settle(cluster)
    assert cluster.objects["PersistentVolumeClaim", "ru-toxicity-artifacts"] == claim
    assert ("Job", next(name for kind, name in cluster.objects if kind == "Job")) in cluster.objects
