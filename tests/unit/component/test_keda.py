"""Autoscaling by requests in flight, with and without KEDA."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from support.builders import a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, message, run, settle, status, take_steps
from toxicity_operator.manifests.autoscaler import HPA, SCALED_OBJECT

SERVE, MADE_BY_KEDA = "ru-toxicity-serve", "keda-hpa-ru-toxicity-serve"
PROMETHEUS = "http://prometheus.monitoring.svc:9090"
IN_FLIGHT = {"metric": "inFlight", "prometheusAddress": PROMETHEUS, "minReplicas": 1, "maxReplicas": 4}
CPU = {"metric": "cpu", "minReplicas": 1, "maxReplicas": 4}
BY_REQUESTS = a_model().with_spec("serving.autoscaling", IN_FLIGHT)


def scaled_object(cluster: FakeCluster) -> dict[str, Any]:
    return cluster.objects[SCALED_OBJECT, SERVE]


def bounds(cluster: FakeCluster) -> tuple[int, int]:
    spec = scaled_object(cluster)["spec"]
    return spec["minReplicaCount"], spec["maxReplicaCount"]


def keda_looks(cluster: FakeCluster, ready: str, active: str | None, words: str = "why") -> None:
    """Act as KEDA: report the trigger and, unless `active` is None, create the HorizontalPodAutoscaler."""
    parent = scaled_object(cluster)
    parent["status"] = {"conditions": [{"type": "Ready", "status": ready, "message": words}]}
    if active is not None:
        owner = {"kind": SCALED_OBJECT, "name": SERVE, "uid": parent["metadata"]["uid"], "controller": True}
        metadata = {"name": MADE_BY_KEDA, "labels": parent["metadata"]["labels"], "ownerReferences": [owner]}
        told = {"type": "ScalingActive", "status": active, "message": words}
        cluster.objects[HPA, MADE_BY_KEDA] = {"kind": HPA, "metadata": metadata, "status": {"conditions": [told]}}


def test_keda_is_told_to_scale_and_the_replicas_are_its_own() -> None:
    cluster = drive(BY_REQUESTS)
    assert bounds(cluster) == (1, 4)
    assert cluster.names_of(HPA) == []
    assert "replicas" not in cluster.objects["Deployment", SERVE]["spec"]
    (trigger,) = scaled_object(cluster)["spec"]["triggers"]
    assert trigger["metadata"]["threshold"] == "16"


@pytest.mark.parametrize(("first", "second"), [(CPU, IN_FLIGHT), (IN_FLIGHT, CPU)])
def test_other_metric_takes_the_other_autoscaler_away(first: dict[str, Any], second: dict[str, Any]) -> None:
    model = a_model()
    cluster = drive(model.with_spec("serving.autoscaling", first))
    cluster.change_spec(model.with_spec("serving.autoscaling", second).spec)
    settle(cluster)
    assert (cluster.names_of(HPA), cluster.names_of(SCALED_OBJECT)) == (
        ([SERVE], []) if second is CPU else ([], [SERVE])
    )


def test_scaled_object_goes_with_the_autoscaling_and_comes_back_when_it_is_deleted() -> None:
    cluster = drive(BY_REQUESTS)
    cluster.remove(SCALED_OBJECT)
    settle(cluster)
    assert cluster.names_of(SCALED_OBJECT) == [SERVE]
    cluster.change_spec(BY_REQUESTS.with_spec("serving.autoscaling", None).spec)
    settle(cluster)
    assert cluster.names_of(SCALED_OBJECT) == []


def set_maximum(spec: dict[str, Any]) -> None:
    spec["maxReplicaCount"] = 9


def add_trigger(spec: dict[str, Any]) -> None:
    spec["triggers"].append({"type": "cron", "metadata": {}})


def drop_trigger(spec: dict[str, Any]) -> None:
    spec["triggers"].clear()


@pytest.mark.parametrize("change", [set_maximum, add_trigger, drop_trigger])
def test_each_change_by_hand_in_the_scaled_object_is_undone(change: Callable[[dict[str, Any]], None]) -> None:
    cluster = drive(BY_REQUESTS)
    before = copy.deepcopy(scaled_object(cluster)["spec"])
    change(scaled_object(cluster)["spec"])
    settle(cluster)
    assert scaled_object(cluster)["spec"] == before
    assert bounds(cluster) == (1, 4)
    assert [trigger["type"] for trigger in scaled_object(cluster)["spec"]["triggers"]] == ["prometheus"]


def test_autoscaler_that_keda_made_is_left_alone() -> None:
    cluster = drive(BY_REQUESTS)
    keda_looks(cluster, "True", "True")
    settle(cluster)
    assert cluster.names_of(HPA) == [MADE_BY_KEDA]


def test_without_keda_everything_else_is_done_and_a_condition_names_the_remedy() -> None:
    cluster = FakeCluster(BY_REQUESTS.raw())
    cluster.kinds_without_crd = {SCALED_OBJECT}
    take_steps(cluster)
    assert status(cluster)["stage"] == "Ready"
    assert conditions(cluster)["Scalable"] == ("False", "KedaMissing")
    told = message(cluster, "Scalable")
    assert "install KEDA" in told and "serving.autoscaling.metric: cpu" in told
    cluster.kinds_without_crd = set()
    settle(cluster)
    assert cluster.names_of(SCALED_OBJECT) == [SERVE]
    assert conditions(cluster)["Scalable"] == ("Unknown", "Waiting")


def test_without_keda_a_model_that_scales_by_cpu_lacks_nothing() -> None:
    cluster = FakeCluster(a_model().with_spec("serving.autoscaling", CPU).raw())
    cluster.kinds_without_crd = {SCALED_OBJECT}
    settle(cluster)
    assert conditions(cluster)["Scalable"] == ("Unknown", "Waiting")


@pytest.mark.parametrize(
    ("ready", "active", "wanted"),
    [
        ("Unknown", None, ("Unknown", "Waiting")),
        ("True", None, ("Unknown", "Waiting")),
        ("True", "True", ("True", "MetricAvailable")),
        ("True", "False", ("False", "MetricMissing")),
        ("False", None, ("False", "MetricMissing")),
        ("False", "True", ("False", "MetricMissing")),
    ],
)
def test_condition_follows_what_keda_and_its_autoscaler_say(
    ready: str, active: str | None, wanted: tuple[str, str]
) -> None:
    cluster = drive(BY_REQUESTS)
    keda_looks(cluster, ready, active, "no data from the query")
    settle(cluster)
    assert conditions(cluster)["Scalable"] == wanted
    if wanted[1] == "MetricMissing":
        told = message(cluster, "Scalable")
        assert "no data from the query" in told and PROMETHEUS in told
        assert 'toxicity_requests_in_flight{namespace="default",toxicity_dev_model="ru-toxicity"}' in told
    assert conditions(cluster)["Ready"][0] == "True"


def test_autoscaler_of_another_resources_scaled_object_is_no_word_on_this_one() -> None:
    cluster = drive(BY_REQUESTS)
    keda_looks(cluster, "True", "True")
    cluster.objects[HPA, MADE_BY_KEDA]["metadata"]["ownerReferences"][0]["uid"] = "uid-of-a-namesake-of-before"
    settle(cluster)
    assert conditions(cluster)["Scalable"] == ("Unknown", "Waiting")


@pytest.mark.parametrize("ends_well", [True, False])
def test_keda_is_held_while_the_load_test_runs_and_let_go_after_it(ends_well: bool) -> None:
    cluster = drive(BY_REQUESTS.with_spec("loadTest.pinReplicas", True), 3)
    assert bounds(cluster) == (1, 4)
    cluster.roll_out(ready=2, replicas=2)
    settle(cluster)
    assert bounds(cluster) == (2, 2)
    if ends_well:
        cluster.finish_load_test()
    else:
        cluster.fail_job("loadtest", {"exitCode": 1, "reason": "Error"})
    settle(cluster)
    assert bounds(cluster) == (1, 4)


@pytest.mark.parametrize("autoscaling", [{"minReplicas": 2, "maxReplicas": 4}, IN_FLIGHT])
def test_autoscaler_does_not_stay_where_somebody_elses_deployment_has_the_name(
    autoscaling: dict[str, Any],
) -> None:
    cluster = drive(a_model().with_spec("serving.autoscaling", autoscaling))
    assert cluster.names_of(HPA) + cluster.names_of(SCALED_OBJECT) == [SERVE]
    theirs = {
        "metadata": {"name": SERVE, "uid": "uid-of-theirs", "labels": {"app": "forum"}},
        "spec": {"replicas": 3},
    }
    cluster.objects["Deployment", SERVE] = {"kind": "Deployment", **theirs}
    for _ in range(3):
        run(cluster)  # which asks each time whether the name is free
    assert cluster.names_of(HPA) + cluster.names_of(SCALED_OBJECT) == []
    assert cluster.objects["Deployment", SERVE] == {"kind": "Deployment", **theirs}
    assert conditions(cluster)["Ready"] == ("False", "NotOurs")
    del cluster.objects["Deployment", SERVE]
    settle(cluster)
    cluster.roll_out()
    settle(cluster)
    assert cluster.names_of(HPA) + cluster.names_of(SCALED_OBJECT) == [SERVE]
