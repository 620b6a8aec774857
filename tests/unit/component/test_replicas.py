"""Ready requires the replicas of the spec. A load test starts only when all of them are ready."""

from __future__ import annotations

import pytest

from support.builders import a_model
from support.operator.pipeline import conditions, drive, fingerprint_of, message, settle, status

FOUR = {"minReplicas": 3, "maxReplicas": 4}


@pytest.mark.parametrize("field", ["serving.replicas", "serving.autoscaling"])
def test_some_of_the_replicas_are_not_enough(field: str) -> None:
    model = a_model().with_spec(field, 3 if field == "serving.replicas" else FOUR)
    cluster = drive(model, 3)
    cluster.roll_out(ready=1, replicas=3)
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "RollingOut")
    assert conditions(cluster)["Available"] == ("True", "ReplicasReady")
    assert "1 of 3 replicas ready" in message(cluster, "Ready")
    assert not [name for kind, name in cluster.ever_created if "-loadtest-" in name]
    assert "goodFingerprint" not in status(cluster)["serving"], "it was never rolled out whole"
    cluster.roll_out(ready=3, replicas=3)
    settle(cluster)
    assert cluster.job("loadtest")
    assert status(cluster)["serving"]["goodFingerprint"] == fingerprint_of(cluster)
    cluster.finish_load_test()
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    cluster.roll_out(ready=2, replicas=3)
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "ReplicasNotReady")
    assert status(cluster)["stage"] == "Scaling"
    crashed = {"name": "serve", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
               "lastState": {"terminated": {"exitCode": 139, "reason": "Error"}}}  # fmt: skip
    cluster.put_serving_pod("serve-2", {"containerStatuses": [crashed]})
    settle(cluster)
    assert status(cluster)["stage"] == "Degraded"
    assert "exit code 139" in message(cluster, "Ready")


def test_model_is_served_once_a_pod_of_it_is_ready() -> None:
    cluster = drive(a_model())
    served = status(cluster)["serving"]["modelFingerprint"]
    cluster.change_spec(a_model().with_spec("training.epochs", 2.0).spec)
    for finish in (cluster.finish_training, cluster.finish_quantization, cluster.finish_evaluation):
        settle(cluster)
        finish()
    settle(cluster)
    assert status(cluster)["serving"]["modelFingerprint"] == served, "the pod of the version before is ready"
    cluster.roll_out(ready=0)
    settle(cluster)
    assert status(cluster)["serving"]["modelFingerprint"] == served
    cluster.roll_out(ready=1)
    settle(cluster)
    assert (
        status(cluster)["serving"]["modelFingerprint"] == status(cluster)["quantization"]["fingerprint"] != served
    )


def test_replicas_beyond_those_asked_for_may_still_start() -> None:
    cluster = drive(a_model().with_spec("serving.autoscaling", FOUR))
    cluster.roll_out(ready=3, replicas=4)
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")


def test_load_test_does_not_begin_while_the_autoscaler_adds_a_replica() -> None:
    model = a_model().with_spec("serving.autoscaling", FOUR)
    cluster = drive(model)
    cluster.roll_out(ready=3, replicas=4)
    cluster.change_spec(model.with_spec("loadTest.runId", "2").spec)
    settle(cluster)
    assert len([name for _, name in cluster.ever_created if "-loadtest-" in name]) == 1
    assert message(cluster, "LoadTested") == (
        "the load test starts when all replicas are ready: 3 of 4 replicas ready"
    )
    cluster.roll_out(ready=4, replicas=4)
    settle(cluster)
    assert len([name for _, name in cluster.ever_created if "-loadtest-" in name]) == 2
