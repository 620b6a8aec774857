"""What a stage is told to keep on the artifact volume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.builders import (
    NOW,
    ModelBuilder,
    a_model,
    evaluation_result,
    quantization_result,
    training_result,
)
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import drive, settle, status, take_steps
from toxicity_api.results import StorageFigures

SERVE = ("Deployment", "ru-toxicity-serve")


def config_of(item: dict[str, Any]) -> dict[str, Any]:
    (main,) = item["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = json.loads(
        next(entry["value"] for entry in main["env"] if entry["name"] == "STAGE_CONFIG")
    )
    return found


def kept(cluster: FakeCluster, component: str) -> set[str]:
    return set(config_of(cluster.job(component))["retention"]["keep"])


def served_folders(cluster: FakeCluster) -> set[str]:
    return {folder.rsplit("/", 1)[-1] for folder in config_of(cluster.objects[SERVE])["reportDirs"]}


def retrain(cluster: FakeCluster, model: ModelBuilder, run: str) -> None:
    cluster.change_spec(model.with_spec("training.runId", run).spec)
    settle(cluster)


def test_training_keeps_what_is_served_and_what_it_makes() -> None:
    cluster = drive(a_model())
    served, load_test = served_folders(cluster), status(cluster)["loadTestJob"]["fingerprint"]
    assert len(served) == 3, "training, quantization and evaluation"
    retrain(cluster, a_model(), "2")
    keep = kept(cluster, "train")
    assert served < keep
    assert {f"loadtest-{load_test}", f"train-{config_of(cluster.job('train'))['fingerprint']}"} < keep
    assert {name.rsplit("-", 1)[0] for name in keep} == {
        "train", "quantize", "evaluate", "loadtest", "dataset", "base-model",
    }  # fmt: skip


def test_copies_of_the_test_sets_are_kept_while_the_spec_names_them() -> None:
    test_sets = [{"name": name, "huggingFace": {"repo": f"owner/{name}"}} for name in ("forum", "news")]
    cluster = drive(a_model().with_spec("evaluation.testSets", test_sets), 2)
    folders = {Path(each["path"]).parent.name for each in config_of(cluster.job("evaluate"))["testSets"]}
    assert len(folders) == 2
    assert folders < kept(cluster, "evaluate")


def test_version_that_a_roll_back_would_restore_is_kept_during_a_roll_out() -> None:
    cluster = drive(a_model())
    first = served_folders(cluster)
    retrain(cluster, a_model(), "2")
    take_steps(cluster, 3)
    second = served_folders(cluster)
    assert not first & second, "the second version is deployed and not ready"
    retrain(cluster, a_model(), "3")
    assert first | second < kept(cluster, "train")


def test_version_before_is_kept_on_the_volume_until_the_load_test_has_succeeded() -> None:
    model = a_model().with_spec("loadTest.onRegression", "RollBack")
    cluster = drive(model)
    first = served_folders(cluster)
    cluster.change_spec(model.with_spec("training.runId", "2").spec)
    take_steps(cluster, 4)
    second = served_folders(cluster)
    assert not first & second
    cluster.change_spec(model.with_spec("training.runId", "3").spec)
    settle(cluster)
    assert first | second < kept(cluster, "train")


def test_version_before_is_not_kept_without_a_roll_back() -> None:
    cluster = drive(a_model())
    first = served_folders(cluster)
    cluster.change_spec(a_model().with_spec("training.runId", "2").spec)
    take_steps(cluster, 4)
    cluster.change_spec(a_model().with_spec("training.runId", "3").spec)
    settle(cluster)
    assert not first & kept(cluster, "train")


@pytest.mark.parametrize("component", ["train", "quantize", "evaluate"])
def test_every_stage_gets_the_number_of_the_spec(component: str) -> None:
    model = a_model().with_spec("storage.keepVersions", 5)
    cluster = drive(model, {"train": 0, "quantize": 1, "evaluate": 2}[component])
    assert config_of(cluster.job(component))["retention"]["versions"] == 5


def test_nothing_is_removed_from_a_claim_of_the_user_unless_the_spec_says_so() -> None:
    named = a_model().with_spec("storage.claimName", "mine")
    assert "retention" not in config_of(drive(named, 0).job("train"))
    limited = named.with_spec("storage.keepVersions", 1)
    assert config_of(drive(limited, 0).job("train"))["retention"]["versions"] == 1
    assert config_of(drive(a_model(), 0).job("train"))["retention"]["versions"] == 2


def test_another_number_runs_nothing_again() -> None:
    cluster = drive(a_model())
    jobs = cluster.names_of("Job")
    cluster.change_spec(a_model().with_spec("storage.keepVersions", 3).spec)
    settle(cluster)
    assert cluster.names_of("Job") == jobs


def test_status_shows_the_disk_space_that_the_last_stage_measured() -> None:
    cluster = drive(a_model(), 0)
    folders = [{"name": "train-a", "sizeBytes": 7}]
    figures = {"usedBytes": 7, "freeBytes": 9, "folders": folders}
    result = training_result(config_of(cluster.job("train"))["fingerprint"])
    cluster.finish_job("train", result.model_copy(update={"storage": StorageFigures.model_validate(figures)}))
    settle(cluster)
    shown = status(cluster)["storage"]
    assert {key: shown[key] for key in figures} == figures
    assert shown["measuredAt"] == NOW
    cluster.remove("Pod")
    settle(cluster)
    assert status(cluster)["storage"] == shown


def test_status_keeps_the_figures_of_the_stage_that_ended_last() -> None:
    """In whatever order the Jobs are listed, and after they are deleted."""
    cluster = drive(a_model(), 1)
    results = {"quantize": quantization_result, "evaluate": evaluation_result}
    for hour, (component, build) in enumerate(results.items(), start=1):
        job = cluster.job(component)
        figures = StorageFigures(used_bytes=hour * 100, free_bytes=9)
        cluster.finish_job(component, build(config_of(job)["fingerprint"]).model_copy(update={"storage": figures}))
        job["status"]["completionTime"] = f"2030-01-01T0{hour}:00:00Z"
        settle(cluster)
    shown = status(cluster)["storage"]
    assert (shown["usedBytes"], shown["measuredAt"]) == (200, "2030-01-01T02:00:00Z")
    cluster.objects = dict(reversed(cluster.objects.items()))
    settle(cluster)
    assert status(cluster)["storage"] == shown
    del cluster.objects["Job", job["metadata"]["name"]]
    settle(cluster)
    assert status(cluster)["storage"] == shown
