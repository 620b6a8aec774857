"""Helpers that run the pipeline on the in-memory cluster and read its status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from support.builders import NOW, SETTINGS, ModelBuilder
from support.operator.fake_cluster import FakeCluster
from toxicity_operator.observe.deployment import version_of
from toxicity_operator.runtime.reconcile import Outcome, reconcile
from toxicity_operator.runtime.rollout_limiter import RolloutLimiter
from toxicity_operator.settings import Images, OperatorSettings

LATER = "2030-01-01T00:05:00Z"
NEWER = replace(SETTINGS, images=Images("t:2", "q:2", "awq:2", "s:2", "l:2"), version="2.0.0")
ROLLING = replace(NEWER, upgrades="RollOut")


def run(cluster: FakeCluster, now: str = NOW) -> Outcome:
    return reconcile(cluster, SETTINGS, "default", "ru-toxicity", now)


def settle(cluster: FakeCluster) -> None:
    """Reconcile until a pass writes nothing."""
    for _ in range(5):
        before = cluster.writes
        run(cluster)
        if cluster.writes == before:
            return
    raise AssertionError("reconcile does not come to rest")


def passes(
    cluster: FakeCluster, settings: OperatorSettings = NEWER, limiter: RolloutLimiter | None = None
) -> None:
    """Reconcile with these settings until a pass writes nothing."""
    limiter = limiter or RolloutLimiter(1)
    for _ in range(6):
        before = cluster.writes
        reconcile(cluster, settings, "default", "ru-toxicity", NOW, limiter)
        if cluster.writes == before:
            return
    raise AssertionError("reconcile does not come to rest")


def conditions(cluster: FakeCluster) -> dict[str, tuple[str, str]]:
    assert cluster.model is not None
    return {item["type"]: (item["status"], item["reason"]) for item in cluster.model["status"]["conditions"]}


def status(cluster: FakeCluster) -> dict[str, Any]:
    assert cluster.model is not None
    found: dict[str, Any] = cluster.model["status"]
    return found


def fingerprint_of(cluster: FakeCluster) -> str:
    """The version of the Deployment."""
    (name,) = cluster.names_of("Deployment")
    return version_of(cluster.objects["Deployment", name]["metadata"]["annotations"])


def message(cluster: FakeCluster, kind: str) -> str:
    return next(str(item["message"]) for item in status(cluster)["conditions"] if item["type"] == kind)


STEPS: list[Callable[[FakeCluster], None]] = [
    lambda cluster: cluster.finish_training(),
    lambda cluster: cluster.finish_quantization(),
    lambda cluster: cluster.finish_evaluation(),
    lambda cluster: cluster.roll_out(),
    lambda cluster: cluster.finish_load_test(),
]


def drive(model: ModelBuilder, steps: int = len(STEPS)) -> FakeCluster:
    """A cluster in which the first `steps` stages have succeeded."""
    cluster = FakeCluster(model.raw())
    take_steps(cluster, steps)
    return cluster


def take_steps(cluster: FakeCluster, steps: int = len(STEPS)) -> None:
    """Reconcile, and let the first `steps` stages succeed one after the other."""
    settle(cluster)
    for step in STEPS[:steps]:
        step(cluster)
        settle(cluster)
