"""A return to an earlier spec: its results are reused or made again, and never block the pipeline."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.builders import ModelBuilder, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import STEPS, conditions, drive, settle

CRASHED = {"exitCode": 1, "reason": "Error", "message": "the node went away"}
LATER = "2030-01-02T00:00:00Z"
PARTS = ("train", "quantize", "evaluate")

Change = Callable[[ModelBuilder], ModelBuilder]


def there_and_back(cluster: FakeCluster, model: ModelBuilder, change: Change) -> list[str]:
    """The names of the Jobs that are created after a return to `model` from a spec with `change`."""
    cluster.change_spec(change(model).spec)
    settle(cluster)
    before = len(cluster.ever_created)
    cluster.change_spec(model.spec)
    settle(cluster)
    return [name for kind, name in cluster.ever_created[before:] if kind == "Job"]


def forget_pods(cluster: FakeCluster) -> None:
    """Delete the pods with their node, and so their results."""
    cluster.remove("Pod")


@pytest.mark.parametrize(
    ("done", "part", "change"),
    [
        (0, "train", lambda model: model.with_spec("training.backoffLimit", 3)),
        (0, "train", lambda model: model.with_spec("training.resources.limits.memory", "16Gi")),
        (1, "quantize", lambda model: model.with_spec("quantization.method", "none")),
        (2, "evaluate", lambda model: model.with_spec("evaluation.backoffLimit", 0)),
    ],
)
def test_stage_that_failed_is_tried_again(done: int, part: str, change: Change) -> None:
    model = a_model()
    cluster = drive(model, done)
    name = cluster.job(part)["metadata"]["name"]
    cluster.fail_job(part, CRASHED)
    settle(cluster)
    assert there_and_back(cluster, model, change) == [name]


def test_load_test_that_was_overwritten_is_measured_again() -> None:
    model = a_model()
    cluster = drive(model)
    cluster.change_spec(model.with_spec("serving.maxNumSeqs", 8).spec)
    settle(cluster)
    for step in STEPS[-2:]:
        step(cluster)
        settle(cluster)
    cluster.change_spec(model.spec)
    settle(cluster)
    cluster.roll_out()
    settle(cluster)
    assert conditions(cluster)["LoadTested"] == ("Unknown", "Running")
    cluster.finish_load_test()
    settle(cluster)
    assert conditions(cluster)["LoadTested"] == ("True", "Succeeded")


def test_training_whose_pods_are_gone_is_found_on_the_volume_by_a_new_job() -> None:
    model = a_model()
    cluster = drive(model)
    (name,) = [job for job in cluster.names_of("Job") if "-train-" in job]
    cluster.change_spec(model.with_spec("training.epochs", 2.0).spec)
    settle(cluster)
    forget_pods(cluster)
    assert there_and_back(cluster, model, lambda model: model.with_spec("training.epochs", 2.0)) == [name]


def test_a_job_that_ended_as_its_record_says_is_left_alone() -> None:
    cluster = drive(a_model())
    jobs = cluster.names_of("Job")
    settle(cluster)
    assert cluster.names_of("Job") == jobs


def test_stages_run_again_on_a_volume_that_is_younger_than_what_they_left() -> None:
    cluster = drive(a_model())
    (claim,) = cluster.names_of("PersistentVolumeClaim")
    cluster.remove("Job")
    cluster.objects["PersistentVolumeClaim", claim]["metadata"]["creationTimestamp"] = LATER
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("Unknown", "Running")
    assert [part for part in PARTS if any(f"-{part}-" in job for job in cluster.names_of("Job"))] == ["train"]


def test_stages_do_not_run_again_on_a_volume_that_is_older() -> None:
    cluster = drive(a_model())
    (claim,) = cluster.names_of("PersistentVolumeClaim")
    cluster.remove("Job")
    cluster.objects["PersistentVolumeClaim", claim]["metadata"]["creationTimestamp"] = "2029-12-31T00:00:00Z"
    settle(cluster)
    assert cluster.names_of("Job") == []
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
