"""Pod settings in the course of reconciliation: roll-out, roll-back, finished stages, ServiceAccounts of others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.builders import NOW, SETTINGS, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, fingerprint_of, message, passes, settle, status
from toxicity_api.base import API_GROUP, API_VERSION, KIND
from toxicity_operator.pod_defaults import PodDefaults
from toxicity_operator.runtime.reconcile import reconcile

SERVE = ("Deployment", "ru-toxicity-serve")
RUN_LATER = replace(SETTINGS, pod_defaults=PodDefaults(scheduler_name="later"))


def template(cluster: FakeCluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.objects[SERVE]["spec"]["template"]
    return found


def test_setting_of_serving_is_rolled_out_and_rolled_back_and_runs_nothing_again() -> None:
    cluster = drive(a_model())
    jobs, good = cluster.names_of("Job"), fingerprint_of(cluster)
    pod = {"annotations": {"note": "one"}, "schedulerName": "missing"}
    cluster.change_spec(a_model().with_spec("serving.pod", pod).spec)
    settle(cluster)
    assert template(cluster)["spec"]["schedulerName"] == "missing"
    assert template(cluster)["metadata"]["annotations"]["note"] == "one"
    assert "note" not in cluster.objects[SERVE]["metadata"]["annotations"]
    cluster.stall()
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    assert fingerprint_of(cluster) == good and "schedulerName" not in template(cluster)["spec"]
    assert cluster.names_of("Job") == jobs


@pytest.mark.parametrize("section", ["training", "quantization", "loadTest"])
def test_finished_stage_is_not_run_again(section: str) -> None:
    cluster = drive(a_model())
    jobs, serves = cluster.names_of("Job"), fingerprint_of(cluster)
    pod = {"env": [{"name": "TZ", "value": "UTC"}], "priorityClassName": "high"}
    cluster.change_spec(a_model().with_spec(f"{section}.pod", pod).spec)
    settle(cluster)
    assert (cluster.names_of("Job"), fingerprint_of(cluster)) == (jobs, serves)
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")


def test_restored_version_keeps_the_annotations_of_its_pods() -> None:
    first = a_model().with_spec("serving.pod.annotations", {"sidecar.istio.io/inject": "false"})
    cluster = drive(first)
    before = template(cluster)
    cluster.change_spec(first.with_spec("training.epochs", 2.0).spec)
    settle(cluster)
    assert template(cluster) == before


def an_account(name: str, *owners: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": "account", "ownerReferences": list(owners)}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def test_account_of_another_model_is_not_used() -> None:
    other = {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": KIND,
        "name": "other",
        "uid": "u",
        "controller": True,
    }
    cluster = FakeCluster(a_model().with_spec("training.pod.serviceAccountName", "theirs").raw())
    cluster.objects["ServiceAccount", "theirs"] = an_account("theirs", other)
    reconcile(cluster, SETTINGS, "default", "ru-toxicity", NOW)
    assert cluster.names_of("Job") == []
    assert conditions(cluster)["Ready"] == ("False", "NotOurs")
    assert "ServiceAccount theirs belongs to ToxicityModel other" in message(cluster, "Ready")
    assert "set pod.serviceAccountName to another account" in message(cluster, "Ready")


def test_account_that_no_model_owns_is_used() -> None:
    cluster = FakeCluster(a_model().with_spec("training.pod.serviceAccountName", "workload").raw())
    cluster.objects["ServiceAccount", "workload"] = an_account("workload")
    settle(cluster)
    (name,) = cluster.names_of("Job")
    assert cluster.objects["Job", name]["spec"]["template"]["spec"]["serviceAccountName"] == "workload"


def test_changed_defaults_of_the_chart_reach_serving_pods_only_where_upgrades_roll_out() -> None:
    cluster = drive(a_model())
    before = template(cluster)
    passes(cluster, RUN_LATER)
    assert template(cluster) == before
    assert [item["subject"] for item in status(cluster)["outdated"]] == ["template"]
    passes(cluster, replace(RUN_LATER, upgrades="RollOut"))
    assert template(cluster)["spec"]["schedulerName"] == "later"


def test_defaults_of_the_chart_apply_to_the_next_job() -> None:
    cluster = FakeCluster(a_model().raw())
    passes(cluster, RUN_LATER)
    (name,) = cluster.names_of("Job")
    assert cluster.objects["Job", name]["spec"]["template"]["spec"]["schedulerName"] == "later"
