"""The serving version is reconciled while the next one is made, has failed or was refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.builders import ModelBuilder, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, fingerprint_of, settle, status, take_steps
from toxicity_operator import names

SERVE = "ru-toxicity-serve"
SCALED = {"minReplicas": 1, "maxReplicas": 4}
IN_FLIGHT = {"metric": "inFlight", "prometheusAddress": "http://prometheus:9090"}
CRASHED = {"exitCode": 1, "reason": "Error", "message": "no luck"}

World = Callable[[FakeCluster], None]


def training_runs(cluster: FakeCluster) -> None:
    """The Job of the new spec was created."""


def training_failed(cluster: FakeCluster) -> None:
    cluster.fail_job("train", CRASHED)


def gate_refuses(cluster: FakeCluster) -> None:
    cluster.finish_training(f1=0.1)


def gate_cannot_say(cluster: FakeCluster) -> None:
    cluster.finish_training()
    settle(cluster)
    cluster.finish_quantization()
    settle(cluster)
    cluster.finish_evaluation(f1=0.52)


WORLDS = [training_runs, training_failed, gate_refuses, gate_cannot_say]


def trained_anew(model: ModelBuilder, world: World, steps: int = 5) -> tuple[ModelBuilder, FakeCluster]:
    """A serving model with a changed spec, whose progress is set by `world`."""
    cluster = drive(model, steps)
    other = model.with_spec("training.epochs", 2.0)
    cluster.change_spec(other.spec)
    settle(cluster)
    world(cluster)
    settle(cluster)
    assert conditions(cluster)["Ready"][0] == "False"
    return other, cluster


def spec_of(cluster: FakeCluster, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.objects[kind, SERVE]["spec"]
    return found


@pytest.mark.parametrize("world", WORLDS)
def test_pin_of_a_load_test_is_released(world: World) -> None:
    model = a_model().with_spec("serving.autoscaling", SCALED).with_spec("loadTest.pinReplicas", True)
    pinned = drive(model, 4)
    assert spec_of(pinned, "HorizontalPodAutoscaler")["maxReplicas"] == 1
    _, cluster = trained_anew(model, world, steps=4)
    assert spec_of(cluster, "HorizontalPodAutoscaler")["maxReplicas"] == SCALED["maxReplicas"]


@pytest.mark.parametrize("world", WORLDS)
def test_number_of_replicas_follows_the_spec(world: World) -> None:
    model, cluster = trained_anew(a_model().with_spec("serving.replicas", 2), world)
    template = spec_of(cluster, "Deployment")["template"]
    cluster.change_spec(model.with_spec("serving.replicas", 5).spec)
    settle(cluster)
    assert spec_of(cluster, "Deployment")["replicas"] == 5
    assert spec_of(cluster, "Deployment")["template"] == template


@pytest.mark.parametrize("world", WORLDS)
def test_autoscaler_follows_the_spec(world: World) -> None:
    model, cluster = trained_anew(a_model().with_spec("serving.autoscaling", SCALED), world)
    cluster.change_spec(model.with_spec("serving.autoscaling", SCALED | {"maxReplicas": 9}).spec)
    settle(cluster)
    assert spec_of(cluster, "HorizontalPodAutoscaler")["maxReplicas"] == 9
    cluster.change_spec(model.with_spec("serving.autoscaling", SCALED | IN_FLIGHT).spec)
    settle(cluster)
    assert (cluster.names_of("HorizontalPodAutoscaler"), cluster.names_of("ScaledObject")) == ([], [SERVE])


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("kind", ["Service", "HorizontalPodAutoscaler"])
def test_what_was_deleted_by_hand_comes_back(world: World, kind: str) -> None:
    _, cluster = trained_anew(a_model().with_spec("serving.autoscaling", SCALED), world)
    cluster.remove(kind)
    settle(cluster)
    assert SERVE in cluster.names_of(kind)


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Recreate"])
@pytest.mark.parametrize("world", WORLDS)
def test_version_that_does_not_become_ready_gives_way_to_the_last_good_one(world: World, strategy: str) -> None:
    model = a_model().with_spec("serving.strategy", strategy)
    cluster = drive(model)
    good = fingerprint_of(cluster)
    newer = model.with_spec("serving.maxNumSeqs", 8)
    cluster.change_spec(newer.spec)
    settle(cluster)
    stalled = fingerprint_of(cluster)
    cluster.roll_out(ready=0, updated=1)
    cluster.change_spec(newer.with_spec("training.epochs", 2.0).spec)
    settle(cluster)
    world(cluster)
    settle(cluster)
    assert fingerprint_of(cluster) == stalled != good
    cluster.stall()
    settle(cluster)
    assert fingerprint_of(cluster) == good
    annotations = cluster.objects["Deployment", SERVE]["metadata"]["annotations"]
    assert annotations[names.FAILED_FINGERPRINT] == stalled
    assert status(cluster)["serving"]["goodFingerprint"] == good


@pytest.mark.parametrize("world", WORLDS)
def test_nothing_is_rolled_while_nothing_is_asked(world: World) -> None:
    cluster = drive(a_model().with_spec("serving.autoscaling", SCALED))
    template = spec_of(cluster, "Deployment")["template"]
    served = fingerprint_of(cluster)
    _, cluster = trained_anew(a_model().with_spec("serving.autoscaling", SCALED), world)
    assert fingerprint_of(cluster) == served
    assert spec_of(cluster, "Deployment")["template"] == template


def test_next_version_is_rolled_out_when_it_is_accepted() -> None:
    _, cluster = trained_anew(a_model(), training_runs)
    served = fingerprint_of(cluster)
    take_steps(cluster)
    assert fingerprint_of(cluster) != served
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
