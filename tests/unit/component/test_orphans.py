"""Objects left by an earlier resource of the same name, and who takes them over."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from support.builders import a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import drive, run
from toxicity_operator import names
from toxicity_operator.errors import ClusterError
from toxicity_operator.model import Identity

CLAIM = ("PersistentVolumeClaim", "ru-toxicity-artifacts")


class LateCluster(FakeCluster):
    """A cluster with a cache that lags behind in the state of the resource."""

    def __init__(self, before: FakeCluster, now: dict[str, Any] | None) -> None:
        assert before.model is not None
        super().__init__(before.model)
        self.objects, self.remembered, self.model = before.objects, before.model, now

    def get_model(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self.remembered

    def apply_status(self, identity: Identity, status: dict[str, Any]) -> None:
        raise ClusterError("the uid is another one's", 409)


def leave(cluster: FakeCluster) -> None:
    """Remove the owner references, as the garbage collector does for `kubectl delete --cascade=orphan`."""
    metadata = cluster.objects[CLAIM]["metadata"]
    del metadata["ownerReferences"]
    label = {"f:metadata": {"f:labels": {f"f:{names.MODEL_LABEL}": {}}}}
    metadata["managedFields"] = [{"manager": names.FIELD_MANAGER, "operation": "Update", "fieldsV1": label}]


def owners(cluster: FakeCluster) -> list[str]:
    return [owner["uid"] for owner in cluster.objects[CLAIM]["metadata"].get("ownerReferences", [])]


def test_orphan_is_taken_over_by_the_resource_that_is_there() -> None:
    cluster = drive(a_model(), 1)
    leave(cluster)
    run(cluster)
    assert owners(cluster) == ["uid-1"]


@pytest.mark.parametrize("successor", [None, "another", "dying"])
def test_orphan_is_not_taken_over_by_the_resource_that_left_it(successor: str | None) -> None:
    """With a deleted resource as owner, the garbage collector would delete the claim and the trained model."""
    before = drive(a_model(), 1)
    leave(before)
    now = a_model().raw() if successor else None
    if now and successor == "another":
        now["metadata"]["uid"] = "uid-2"
    if now and successor == "dying":
        now["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    late = LateCluster(before, now)
    with suppress(ClusterError):
        run(late)
    assert owners(late) == []
