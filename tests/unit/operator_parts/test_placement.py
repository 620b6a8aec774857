"""Pods that share a ReadWriteOnce volume share a node; serving pods of any other volume are spread."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from support.builders import a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import drive, settle
from toxicity_operator import names

HOSTNAME = "kubernetes.io/hostname"
TERM = {"labelSelector": {"matchLabels": {names.MODEL_LABEL: "ru-toxicity"}}, "topologyKey": HOSTNAME}
REQUIRED, PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
MANY = a_model().with_spec("storage.accessModes", ["ReadWriteMany"])


def templates(cluster: FakeCluster) -> dict[str, dict[str, Any]]:
    """The pod templates of all Jobs and of the Deployment, by component."""
    found = [item for (kind, _), item in cluster.objects.items() if kind in ("Job", "Deployment")]
    return {item["metadata"]["labels"][names.COMPONENT_LABEL]: item["spec"]["template"] for item in found}


def test_pods_of_a_read_write_once_volume_share_a_node() -> None:
    found = templates(drive(a_model()))
    assert set(found) == {"train", "quantize", "evaluate", "serve", "loadtest"}
    for component, template in found.items():
        assert template["spec"]["affinity"] == {"podAffinity": {REQUIRED: [TERM]}}, component
        # the scheduler places the first pod freely because it matches its own term
        assert TERM["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()  # type: ignore[index]
        assert "topologySpreadConstraints" not in template["spec"]


def test_pods_of_a_read_write_many_volume_are_placed_freely_and_serving_pods_are_spread() -> None:
    found = templates(drive(MANY))
    assert [component for component, template in found.items() if "affinity" in template["spec"]] == []
    spread = found["serve"]["spec"]["topologySpreadConstraints"]
    assert [item["topologyKey"] for item in spread] == [HOSTNAME, "topology.kubernetes.io/zone"]
    for item in spread:
        assert (item["maxSkew"], item["whenUnsatisfiable"]) == (1, "ScheduleAnyway"), "a full node blocks no pod"
        assert item["labelSelector"]["matchLabels"] == names.selector_labels("ru-toxicity", "serve")
        assert item["matchLabelKeys"] == ["pod-template-hash"], "pods of the old version do not count"
    assert "topologySpreadConstraints" not in found["train"]["spec"]


def test_own_spread_replaces_the_default() -> None:
    own = {"maxSkew": 3, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    template = templates(drive(MANY.with_spec("serving.pod.topologySpreadConstraints", [own])))["serve"]
    assert template["spec"]["topologySpreadConstraints"] == [own]


NODE = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": []}]}}
CACHE = {"labelSelector": {"matchLabels": {"app": "cache"}}, "topologyKey": HOSTNAME}


def test_own_affinity_is_kept_beside_the_shared_node() -> None:
    own = {"nodeAffinity": NODE, "podAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": CACHE}]}}
    template = templates(drive(a_model().with_spec("serving.pod.affinity", own)))["serve"]
    expected = copy.deepcopy(own)
    expected["podAffinity"] |= {REQUIRED: [TERM]}
    assert template["spec"]["affinity"] == expected


def test_shared_node_is_only_preferred_beside_an_own_required_term() -> None:
    """The scheduler counts only pods that match all required terms, so two of them could never be met."""
    own = {"podAffinity": {REQUIRED: [CACHE]}}
    template = templates(drive(a_model().with_spec("serving.pod.affinity", own)))["serve"]
    preferred = [{"weight": 100, "podAffinityTerm": TERM}]
    assert template["spec"]["affinity"] == {"podAffinity": {REQUIRED: [CACHE], PREFERRED: preferred}}


@pytest.mark.parametrize(
    ("modes", "shares"),
    [
        (["ReadWriteOnce"], True),
        (["ReadWriteOncePod"], True),
        (["ReadWriteMany"], False),
        (["ReadWriteOnce", "ReadWriteMany"], False),
    ],
)
def test_access_modes_of_a_named_claim_count(modes: list[str], shares: bool) -> None:
    cluster = FakeCluster(a_model().with_spec("storage.claimName", "mine").raw())
    metadata = {"name": "mine", "namespace": "default", "uid": "claim"}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata}
    cluster.objects["PersistentVolumeClaim", "mine"] = {**claim, "spec": {"accessModes": modes}}
    settle(cluster)
    assert ("affinity" in templates(cluster)["train"]["spec"]) == shares


def test_access_modes_of_a_retained_claim_count_before_those_of_the_spec() -> None:
    """The next resource of the name uses the claim as it is."""
    retained = drive(MANY.with_spec("storage.reclaim", "Retain"), 0)
    for kind in ("Job", "Pod"):
        retained.remove(kind)
    retained.change_spec(a_model().with_spec("storage.reclaim", "Retain").spec)
    settle(retained)
    assert "affinity" not in templates(retained)["train"]["spec"]
