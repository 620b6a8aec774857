"""The conditions show Flux, Argo CD and `kubectl wait` whether a resource is in progress, current or stalled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.builders import a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import STEPS, conditions, drive, message, run, settle, status, take_steps
from toxicity_api.conditions import ConditionType, Reason
from toxicity_api.results import StageResult
from toxicity_api.types import Raw
from toxicity_operator.decide.kstatus import KSTATUS_OF_REASON, KStatus
from toxicity_operator.errors import ClusterError
from toxicity_operator.manifests.autoscaler import SCALED_OBJECT

CRASH: dict[str, Any] = {"exitCode": 1, "reason": "Error", "message": "boom"}
NO_COLUMN = {
    "exitCode": 42,
    "message": StageResult(
        stage="train", fingerprint="f", outcome="failed", reason="MissingColumn", message="no column toxic"
    ).to_termination_message(),
}
NO_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
IN_FLIGHT = {"metric": "inFlight", "prometheusAddress": "http://prometheus:9090"}
BAD = a_model().with_spec("training.epochs", "many").spec


def kstatus(resource: Raw) -> str:
    """The kstatus of a resource with conditions, as sigs.k8s.io/cli-utils computes it."""
    found = resource.get("status", {})
    if found.get("observedGeneration", resource["metadata"]["generation"]) != resource["metadata"]["generation"]:
        return "InProgress"
    states = {item["type"]: item["status"] for item in found.get("conditions", [])}
    if states.get("Reconciling") == "True":
        return "InProgress"
    if states.get("Stalled") == "True":
        return "Failed"
    if states.get("Ready") in ("False", "Unknown"):
        return "InProgress"
    return "Current"


def word(cluster: FakeCluster) -> str:
    """The kstatus of the cluster's resource. Checks that its conditions do not contradict each other."""
    assert cluster.model is not None
    seen = {item["type"]: item for item in status(cluster)["conditions"]}
    said = {kind: seen[kind]["status"] for kind in ("Ready", "Reconciling", "Stalled")}
    assert said["Reconciling"] in ("True", "False") and said["Stalled"] in ("True", "False")
    assert "False" in (said["Reconciling"], said["Stalled"]), said
    if said["Ready"] == "True":
        assert (said["Reconciling"], said["Stalled"]) == ("False", "False")
    for kind in ("Reconciling", "Stalled"):
        assert seen[kind]["observedGeneration"] == cluster.model["metadata"]["generation"]
        if said[kind] == "True":
            assert (seen[kind]["reason"], seen[kind]["message"]) == (
                seen["Ready"]["reason"], seen["Ready"]["message"],
            )  # fmt: skip
    return kstatus(cluster.model)


class Refusing(FakeCluster):
    """A cluster whose API server answers every apply with this status."""

    answer = 403

    def create(self, body: Raw) -> None:
        raise ClusterError("the API server does not take it", self.answer)


def after_failure(component: str, steps: int, terminated: dict[str, Any] = CRASH) -> FakeCluster:
    cluster = drive(a_model(), steps)
    cluster.fail_job(component, terminated)
    settle(cluster)
    return cluster


def refused() -> FakeCluster:
    cluster = drive(a_model(), 0)
    cluster.finish_training(f1=0.3)
    settle(cluster)
    return cluster


def inconclusive() -> FakeCluster:
    cluster = drive(a_model(), 2)
    cluster.finish_evaluation(f1=0.5)
    settle(cluster)
    return cluster


def rolled_back() -> FakeCluster:
    cluster = drive(a_model())
    cluster.change_spec(a_model().with_spec("serving.maxNumSeqs", 8).spec)
    settle(cluster)
    cluster.stall()
    settle(cluster)
    return cluster


def given_up() -> FakeCluster:
    cluster = drive(a_model(), 3)
    cluster.roll_out(ready=0)
    cluster.stall()
    settle(cluster)
    return cluster


def invalid(before: int | None) -> FakeCluster:
    """The cluster of a new resource, or after `steps` stages."""
    cluster = FakeCluster(a_model().raw() | {"spec": BAD})
    if before is not None:
        cluster = drive(a_model(), before)
        cluster.change_spec(BAD)
    settle(cluster)
    return cluster


def answered(code: int) -> FakeCluster:
    cluster = Refusing(a_model().raw())
    cluster.answer = code
    run(cluster)
    return cluster


def paused(steps: int) -> FakeCluster:
    cluster = drive(a_model(), steps)
    cluster.change_spec(a_model().with_spec("paused", True).with_spec("training.epochs", 2.0).spec)
    settle(cluster)
    return cluster


def without_gpu() -> FakeCluster:
    cluster = drive(a_model().with_spec("training.gpus", 1), 0)
    cluster.leave_pod_pending("train", NO_GPU)
    settle(cluster)
    return cluster


def without_keda() -> FakeCluster:
    cluster = FakeCluster(a_model().with_spec("serving.autoscaling", IN_FLIGHT).raw())
    cluster.kinds_without_crd = {SCALED_OBJECT}
    take_steps(cluster)
    return cluster


Situation = Callable[[], FakeCluster]

SITUATIONS: list[tuple[str, Situation, str, str]] = [
    ("Current", lambda: drive(a_model()), "AllStagesDone", ""),
    ("Current", lambda: drive(a_model(), 4), "ReplicasReady", "the load test runs"),
    ("Current", lambda: after_failure("loadtest", 4), "ReplicasReady", "the load test failed"),
    ("Current", without_keda, "AllStagesDone", "without KEDA"),
    ("InProgress", without_gpu, "WaitingForGPU", ""),
    ("InProgress", lambda: answered(500), "ApplyFailed", "tried again"),
    ("InProgress", lambda: answered(409), "ApplyFailed", "tried again"),
    ("InProgress", lambda: paused(5), "Paused", ""),
    ("Failed", lambda: answered(403), "ApplyFailed", "denied"),
    ("Failed", lambda: answered(422), "ApplyFailed", "denied"),
    ("Failed", lambda: after_failure("train", 0), "JobFailed", ""),
    ("Failed", lambda: after_failure("quantize", 1), "JobFailed", ""),
    ("Failed", lambda: after_failure("evaluate", 2), "JobFailed", ""),
    ("Failed", lambda: after_failure("train", 0, NO_COLUMN), "MissingColumn", "the stage's own reason"),
    ("Failed", refused, "BelowMinimumF1", ""),
    ("Failed", inconclusive, "Inconclusive", ""),
    ("Failed", rolled_back, "RolledBack", ""),
    ("Failed", given_up, "RollOutFailed", ""),
    ("Failed", lambda: invalid(None), "InvalidSpec", "new"),
    ("Failed", lambda: invalid(0), "InvalidSpec", "while it trained"),
    ("Failed", lambda: invalid(5), "InvalidSpec", "while it served"),
]


@pytest.mark.parametrize(
    ("wanted", "situation", "reason"),
    [item[:3] for item in SITUATIONS],
    ids=[f"{wanted} {reason} {note}".strip() for wanted, _, reason, note in SITUATIONS],
)
def test_situation_is_told_in_the_words_of_kstatus(wanted: str, situation: Situation, reason: str) -> None:
    cluster = situation()
    assert conditions(cluster)["Ready"][1] == reason
    assert word(cluster) == wanted


@pytest.mark.parametrize("steps", range(len(STEPS) + 1))
def test_work_goes_on_until_the_model_is_served(steps: int) -> None:
    cluster = drive(a_model(), steps)
    assert word(cluster) == ("InProgress" if steps < 4 else "Current")


def test_new_spec_is_in_progress_before_and_after_the_first_look() -> None:
    cluster = drive(a_model())
    cluster.change_spec(a_model().with_spec("training.epochs", 2.0).spec)
    assert cluster.model is not None
    assert kstatus(cluster.model) == "InProgress"
    run(cluster)
    assert word(cluster) == "InProgress"


def test_paused_resource_is_neither_worked_at_nor_stalled() -> None:
    cluster = paused(5)
    assert conditions(cluster)["Reconciling"] == ("False", "Paused")
    assert conditions(cluster)["Stalled"] == ("False", "Paused")
    assert "the spec pauses" in message(cluster, "Reconciling")


def test_corrected_spec_ends_the_stall() -> None:
    cluster = invalid(5)
    cluster.change_spec(a_model().spec)
    settle(cluster)
    assert word(cluster) == "Current"


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_one_outlook(reason: Reason) -> None:
    assert isinstance(KSTATUS_OF_REASON[reason], KStatus)


def test_kstatus_conditions_come_last_and_are_the_abnormal_ones() -> None:
    assert list(ConditionType)[-2:] == [ConditionType.RECONCILING, ConditionType.STALLED]
