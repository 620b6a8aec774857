"""Waits that have their own reason: suspended Jobs, stopped and paused Deployments."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, message, settle, status

SERVE = "ru-toxicity-serve"


def deployment(cluster: FakeCluster) -> dict[str, Any]:
    return cluster.objects["Deployment", SERVE]


@pytest.mark.parametrize(
    ("steps", "component", "kind"),
    [
        (0, "train", "Trained"),
        (1, "quantize", "Quantized"),
        (2, "evaluate", "Evaluated"),
        (4, "loadtest", "LoadTested"),
    ],
)
@pytest.mark.parametrize(
    ("labels", "words"), [({}, "kubectl patch job"), ({"team": "a"}, "queue team-a admits it")]
)
def test_suspended_job_is_told_as_such(
    steps: int, component: str, kind: str, labels: dict[str, str], words: str
) -> None:
    cluster = drive(a_model(), steps)
    job = cluster.job(component)
    job["spec"]["suspend"] = True
    if labels:
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team-a"
    job["status"] = {"conditions": [{"type": "Suspended", "status": "False"}]}
    settle(cluster)
    assert conditions(cluster)[kind] == ("Unknown", "Suspended")
    assert f"Job {job['metadata']['name']} is suspended" in message(cluster, kind) and words in message(
        cluster, kind
    )
    if component != "loadtest":
        assert conditions(cluster)["Ready"] == ("False", "Suspended")
    job["spec"]["suspend"] = False
    settle(cluster)
    assert conditions(cluster)[kind] == ("Unknown", "Running")


def test_replicas_zero_is_stopped_and_says_which_field() -> None:
    cluster = drive(a_model().with_spec("serving.replicas", 0), 3)
    cluster.roll_out(ready=0, replicas=0)
    settle(cluster)
    for kind in ("Available", "Ready"):
        assert conditions(cluster)[kind] == ("False", "Stopped")
        assert "set it to 1 or more" in message(cluster, kind)
    assert status(cluster)["stage"] == "Stopped"


def test_deployment_that_was_scaled_to_zero_beside_an_autoscaler_is_stopped() -> None:
    cluster = drive(a_model().with_spec("serving.autoscaling", {"minReplicas": 1, "maxReplicas": 3}))
    deployment(cluster)["spec"]["replicas"] = 0
    cluster.roll_out(ready=0, replicas=0)
    settle(cluster)
    for kind in ("Available", "Ready"):
        assert conditions(cluster)[kind] == ("False", "Stopped")
        assert f"kubectl scale deployment {SERVE} --replicas=1" in message(cluster, kind)


def test_paused_deployment_is_told_and_says_how_it_goes_on() -> None:
    model = a_model()
    cluster = drive(model, 3)
    deployment(cluster)["spec"]["paused"] = True
    cluster.roll_out(ready=0, replicas=0)
    settle(cluster)
    for kind in ("Available", "Ready"):
        assert conditions(cluster)[kind] == ("False", "DeploymentPaused")
        assert f"kubectl rollout resume deployment/{SERVE}" in message(cluster, kind)


def test_paused_deployment_whose_old_pods_serve_on_is_available_and_not_ready() -> None:
    model = a_model()
    cluster = drive(model)
    deployment(cluster)["spec"]["paused"] = True
    cluster.change_spec(model.with_spec("serving.maxNumSeqs", 8).spec)
    settle(cluster)
    deployment(cluster)["spec"]["paused"] = True
    cluster.roll_out(updated=0)
    settle(cluster)
    assert conditions(cluster)["Available"] == ("True", "ReplicasReady")
    assert conditions(cluster)["Ready"] == ("False", "DeploymentPaused")
    assert "kubectl rollout resume" in message(cluster, "Ready")


def test_stalled_deployment_keeps_its_own_words_while_it_is_paused() -> None:
    model = a_model()
    cluster = drive(model)
    cluster.change_spec(model.with_spec("serving.maxNumSeqs", 8).spec)
    settle(cluster)
    deployment(cluster)["spec"]["paused"] = True
    cluster.stall()
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    assert status(cluster)["serving"]["failedMessage"] == "late"
