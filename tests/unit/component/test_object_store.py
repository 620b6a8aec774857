"""A resource whose artifacts are in an object store: no claim, and conditions that name the field and the remedy."""

from __future__ import annotations

import json
from typing import Any

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


def configs(cluster: FakeCluster) -> dict[str, dict[str, Any]]:
    """The configuration of each Job, by component."""
    found = {}
    for job in (item for (kind, _), item in cluster.objects.items() if kind == "Job"):
        (main,) = job["spec"]["template"]["spec"]["containers"]
        found[main["name"]] = json.loads(
            next(item["value"] for item in main["env"] if item["name"] == "STAGE_CONFIG")
        )
    return found


def test_every_job_records_the_resource_that_owns_its_artifacts() -> None:
    uid = STORED.raw()["metadata"]["uid"]
    assert {config["owner"] for config in configs(drive(STORED)).values()} == {uid}
    assert {config["owner"] for config in configs(drive(a_model())).values()} == {""}


def test_nothing_is_removed_from_a_bucket_unless_the_spec_says_so() -> None:
    assert [name for name, config in configs(drive(STORED)).items() if "retention" in config] == []
    limited = configs(drive(STORED.with_spec("storage.keepVersions", 3)))
    versions = {name: config["retention"]["versions"] for name, config in limited.items() if "retention" in config}
    assert versions == {"train": 3, "quantize": 3, "evaluate": 3}


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
