"""The limit of concurrent upgrades: a resource that waits for a user does not block others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.builders import a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import ROLLING, conditions, drive, passes, settle
from toxicity_operator.runtime.rollout_limiter import RolloutLimiter

ANOTHER = ("default", "another")
CRASH = {"exitCode": 1, "reason": "Error", "message": "no such column"}


def refuse(cluster: FakeCluster) -> None:
    cluster.finish_evaluation(f1=0.1)


def leave_open(cluster: FakeCluster) -> None:
    cluster.finish_evaluation(f1=0.5)


def fail(cluster: FakeCluster) -> None:
    cluster.fail_job("evaluate", CRASH)


def pause(cluster: FakeCluster) -> None:
    cluster.change_spec(a_model().with_spec("paused", True).spec)


def spoil(cluster: FakeCluster) -> None:
    cluster.change_spec(a_model().with_spec("loadTest.schedule", "never").spec)


def retrain(cluster: FakeCluster) -> None:
    cluster.change_spec(a_model().with_spec("training.learningRate", 1e-4).spec)


def raise_gate(cluster: FakeCluster) -> None:
    cluster.change_spec(a_model().with_spec("qualityGate.minF1", 0.99).spec)


def lose_deployment(cluster: FakeCluster) -> None:
    cluster.remove("Deployment")


def pause_deployment(cluster: FakeCluster) -> None:
    cluster.finish_evaluation()
    cluster.objects["Deployment", "ru-toxicity-serve"]["spec"]["paused"] = True


@pytest.mark.parametrize(
    "happen",
    [refuse, leave_open, fail, pause, spoil, retrain, raise_gate, lose_deployment, pause_deployment],
)
def test_turn_ends_when_the_resource_does_not_go_on_by_itself(happen: Callable[[FakeCluster], None]) -> None:
    cluster, limiter = drive(a_model()), RolloutLimiter(1)
    passes(cluster, ROLLING, limiter)
    assert cluster.job("evaluate"), "it is under way"
    assert not limiter.acquire(ANOTHER)
    happen(cluster)
    passes(cluster, ROLLING, limiter)
    assert limiter.acquire(ANOTHER), conditions(cluster)


def test_turn_ends_with_a_new_training_of_a_model_that_is_not_quantized() -> None:
    model, limiter = a_model().with_spec("quantization.method", "none"), RolloutLimiter(1)
    cluster = drive(model, 1)
    for step in (lambda: cluster.finish_evaluation(drop=None), cluster.roll_out, cluster.finish_load_test):
        step()
        settle(cluster)
    passes(cluster, ROLLING, limiter)
    assert not limiter.acquire(ANOTHER)
    cluster.change_spec(model.with_spec("training.learningRate", 1e-4).spec)
    passes(cluster, ROLLING, limiter)
    assert limiter.acquire(ANOTHER)


def test_turn_lasts_until_the_new_pod_is_ready() -> None:
    cluster, limiter = drive(a_model()), RolloutLimiter(1)
    passes(cluster, ROLLING, limiter)
    cluster.finish_evaluation()
    passes(cluster, ROLLING, limiter)
    assert not limiter.acquire(ANOTHER)
    cluster.roll_out()
    passes(cluster, ROLLING, limiter)
    assert limiter.acquire(ANOTHER)


def test_turn_of_a_resource_that_serves_with_no_replicas_ends() -> None:
    cluster, limiter = drive(a_model()), RolloutLimiter(1)
    cluster.change_spec(a_model().with_spec("serving.replicas", 0).spec)
    settle(cluster)
    cluster.roll_out()
    passes(cluster, ROLLING, limiter)
    cluster.finish_evaluation()
    passes(cluster, ROLLING, limiter)
    assert conditions(cluster)["Ready"] == ("False", "Stopped")
    assert limiter.acquire(ANOTHER)


def test_paused_resource_keeps_its_evaluation() -> None:
    cluster, limiter = drive(a_model()), RolloutLimiter(1)
    assert limiter.acquire(("default", "ru-toxicity"))
    pause(cluster)
    passes(cluster, ROLLING, limiter)
    assert conditions(cluster)["Evaluated"] == ("True", "Succeeded")
