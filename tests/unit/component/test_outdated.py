"""What the status reports as outdated, and which results it does not report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.builders import NOW, SETTINGS, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import NEWER, ROLLING, conditions, drive, fingerprint_of, passes, settle, status
from toxicity_operator.manifests import serving
from toxicity_operator.runtime.reconcile import reconcile
from toxicity_operator.runtime.rollout_limiter import RolloutLimiter


def reported(cluster: FakeCluster) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["stage"], item["subject"]): item for item in status(cluster).get("outdated", [])}


def test_running_stage_with_another_image_is_not_reported() -> None:
    cluster = drive(a_model(), 1)
    passes(cluster)
    assert conditions(cluster)["Quantized"] == ("Unknown", "Running")
    assert reported(cluster).keys() == {("training", "image")}


def test_other_pod_template_of_the_same_spec_is_reported_until_it_is_rolled_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = drive(a_model())
    deployed = fingerprint_of(cluster)
    assert ("serving", "template") not in reported(cluster)
    monkeypatch.setattr(serving, "PORT", 9999)
    settle(cluster)
    found = reported(cluster)["serving", "template"]
    assert (found["madeWith"], fingerprint_of(cluster)) == (deployed, deployed)
    assert found["present"] not in (None, deployed)
    assert "upgrades.policy: RollOut" in found["message"]
    cluster.change_spec(a_model().with_spec("serving.maxNumSeqs", 8).spec)
    settle(cluster)
    assert ("serving", "template") not in reported(cluster)


def test_pod_template_that_did_not_become_ready_is_reported_with_its_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster, settings = drive(a_model()), replace(ROLLING, images=SETTINGS.images)
    monkeypatch.setattr(serving, "PORT", 9999)
    for happen in (cluster.stall, cluster.roll_out):
        passes(cluster, settings)
        happen()
    passes(cluster, settings)
    found = reported(cluster)["serving", "template"]
    assert found["message"] == "this template was rolled out and did not become ready: late"


def test_version_that_serves_in_place_of_a_failed_spec_is_not_reported() -> None:
    """Its template differs because the spec does."""
    cluster = drive(a_model())
    cluster.change_spec(a_model().with_spec("serving.maxNumSeqs", 8).spec)
    settle(cluster)
    cluster.stall()
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    assert reported(cluster) == {}


def test_deleted_deployment_is_made_again_before_the_model_is_evaluated_with_another_image() -> None:
    cluster = drive(a_model())
    cluster.remove("Deployment")
    reconcile(cluster, ROLLING, "default", "ru-toxicity", NOW, RolloutLimiter(1))
    assert cluster.names_of("Deployment") == ["ru-toxicity-serve"]
    assert NEWER.images.serving not in str(cluster.objects["Deployment", "ru-toxicity-serve"])
