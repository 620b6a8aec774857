"""A newer version of the normal form retrains nothing. The status reports it, and a new run uses it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.builders import a_model, training_result
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import NEWER, conditions, drive, passes, status
from toxicity_api.spec import training
from toxicity_operator import names


def of_training(cluster: FakeCluster) -> list[dict[str, Any]]:
    return [item for item in status(cluster).get("outdated", []) if item["subject"] == "normalForm"]


def asked_form(cluster: FakeCluster) -> int | None:
    """The version that the configuration of the training Job names."""
    (container,) = cluster.job("train")["spec"]["template"]["spec"]["containers"]
    (value,) = [entry["value"] for entry in container["env"] if entry["name"] == "STAGE_CONFIG"]
    found: int | None = json.loads(value)["training"].get("normalForm")
    return found


def of_an_operator_without_forms(cluster: FakeCluster) -> None:
    assert cluster.model is not None
    del cluster.model["status"]["training"]["normalForm"]
    del cluster.model["status"]["training"]["madeWith"]["normalForm"]


@pytest.mark.parametrize("made", [0, 1])
def test_finished_model_stays_and_the_status_reports_the_newer_form(
    monkeypatch: pytest.MonkeyPatch, made: int
) -> None:
    cluster = drive(a_model())
    if made == 0:
        of_an_operator_without_forms(cluster)
    monkeypatch.setattr(training, "NORMAL_FORM_VERSION", made + 1)
    created = list(cluster.ever_created)
    passes(cluster)
    assert cluster.ever_created == created
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    (item,) = of_training(cluster)
    assert (item["stage"], item["madeWith"], item["present"]) == ("training", str(made), str(made + 1))
    assert "training.runId" in item["message"]
    # an edit of a later stage keeps the training, and a new run has the newer form
    cluster.change_spec(a_model().with_spec("loadTest.runId", "2").spec)
    passes(cluster)
    assert [name.rsplit("-", 1)[0] for _, name in cluster.ever_created[len(created) :]] == ["ru-toxicity-loadtest"]
    cluster.change_spec(a_model().with_spec("training.runId", "2").spec)
    passes(cluster)
    assert asked_form(cluster) == made + 1


def test_running_training_keeps_the_form_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = drive(a_model(), 0)
    assert asked_form(cluster) == 1
    monkeypatch.setattr(training, "NORMAL_FORM_VERSION", 2)
    created = list(cluster.ever_created)
    passes(cluster)
    assert (cluster.ever_created, asked_form(cluster)) == (created, 1)


def test_form_of_the_spec_is_asked_for_and_a_change_trains_again() -> None:
    cluster = drive(a_model().with_spec("training.normalForm", 0), 0)
    first = cluster.job("train")["metadata"]["name"]
    assert asked_form(cluster) == 0
    cluster.change_spec(a_model().with_spec("training.normalForm", 1).spec)
    passes(cluster, NEWER)
    passes(cluster, NEWER)
    assert cluster.job("train")["metadata"]["name"] != first
    assert asked_form(cluster) == 1


def test_model_that_the_spec_wants_without_a_form_is_not_outdated() -> None:
    cluster = drive(a_model().with_spec("training.normalForm", 0), 0)
    result = training_result(cluster.job("train")["metadata"]["labels"][names.FINGERPRINT_LABEL])
    assert result.training is not None
    without = result.training.model_copy(update={"normal_form": 0})
    cluster.finish_job("train", result.model_copy(update={"training": without}))
    passes(cluster)
    assert status(cluster)["training"]["outcome"] == "Succeeded"
    assert of_training(cluster) == []
