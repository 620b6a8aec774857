"""Starting serving pods: the condition says what they wait for, but does not report a problem."""

from __future__ import annotations

from typing import Any

from support.builders import a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, message, settle, status

NO_SANDBOX = {"type": "PodReadyToStartContainers", "status": "False"}
SANDBOX = {"type": "PodReadyToStartContainers", "status": "True"}


def put_starting_pod(cluster: FakeCluster, *conditions: dict[str, str]) -> None:
    waits: dict[str, Any] = {"name": "serve", "state": {"waiting": {"reason": "ContainerCreating"}}}
    scheduled = {"type": "PodScheduled", "status": "True"}
    starting = {"phase": "Pending", "conditions": [scheduled, *conditions], "containerStatuses": [waits]}
    cluster.put_serving_pod("serve-0", starting)


def test_pod_without_its_volumes_is_told_while_it_rolls_out() -> None:
    cluster = drive(a_model(), 3)
    cluster.roll_out(ready=0)
    put_starting_pod(cluster, NO_SANDBOX)
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "RollingOut")
    assert status(cluster)["stage"] == "Deploying"
    for kind in ("Ready", "Available"):
        assert "kubectl describe pod serve-0" in message(cluster, kind)
    writes, events = cluster.writes, list(cluster.events)
    put_starting_pod(cluster, SANDBOX)
    settle(cluster)
    assert message(cluster, "Available") == "0 of 1 replicas ready"
    assert (cluster.writes, cluster.events) == (writes + 1, events)
