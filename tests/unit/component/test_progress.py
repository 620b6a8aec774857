"""The progress of a running training is read from its log. A failure to read it has no other effect."""

from __future__ import annotations

import pytest

from support.builders import NOW, a_model, progress
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import LATER, conditions, drive, message, run, settle, status
from toxicity_api.progress import progress_line
from toxicity_operator.errors import ClusterError


def training_at(step: int) -> FakeCluster:
    """A cluster in which the training has logged this progress among other lines."""
    cluster = drive(a_model(), 0)
    cluster.run_pod("train", "reads the data", progress_line(progress(step)), "some library warns")
    settle(cluster)
    return cluster


def transition_times(cluster: FakeCluster) -> set[str]:
    return {item["lastTransitionTime"] for item in status(cluster)["conditions"]}


def test_progress_appears_in_status_and_message() -> None:
    cluster = training_at(40)
    assert status(cluster)["training"]["progress"] == {
        "step": 40, "steps": 70, "epoch": 0.8, "loss": 0.2312, "secondsLeft": 90,
    }  # fmt: skip
    assert message(cluster, "Trained") == "step 40/70, epoch 0.80, loss 0.2312, 90 s left"
    assert conditions(cluster)["Trained"] == ("Unknown", "Running")


def test_progress_advances_without_an_event_or_a_transition() -> None:
    cluster = training_at(40)
    events, writes = list(cluster.events), cluster.writes
    cluster.run_pod("train", progress_line(progress(40)), progress_line(progress(50)))
    assert run(cluster, LATER).trains
    assert status(cluster)["training"]["progress"]["step"] == 50
    assert message(cluster, "Trained").startswith("step 50/70")
    assert (cluster.events, cluster.writes, transition_times(cluster)) == (events, writes + 1, {NOW})


def test_nothing_is_written_while_the_progress_stays() -> None:
    cluster = training_at(40)
    writes = cluster.writes
    for minute in range(5):
        assert not run(cluster, f"2030-01-01T01:{minute:02}:00Z").wrote_status
    assert cluster.writes == writes


def test_progress_stays_when_the_last_lines_are_about_something_else() -> None:
    cluster = training_at(40)
    cluster.run_pod("train", progress_line(progress(50)), *["chatter"] * 1000)
    settle(cluster)
    assert status(cluster)["training"]["progress"]["step"] == 40


@pytest.mark.parametrize("code", [0, 400, 403, 404, 500, 504])
def test_unreadable_log_keeps_what_was_known_and_fails_nothing(code: int) -> None:
    cluster = training_at(40)
    before = status(cluster)
    cluster.log_failure = ClusterError("the log cannot be read", code)
    outcome = run(cluster, LATER)
    assert (outcome.failure, outcome.wrote_status, outcome.trains) == (None, False, True)
    assert status(cluster) == before
    cluster.log_failure = None
    cluster.run_pod("train", progress_line(progress(60)))
    settle(cluster)
    assert status(cluster)["training"]["progress"]["step"] == 60


def test_forbidden_log_from_the_first_does_not_stop_the_pipeline() -> None:
    cluster = drive(a_model(), 0)
    cluster.log_failure = ClusterError("pods/log is forbidden", 403)
    cluster.run_pod("train", progress_line(progress(40)))
    settle(cluster)
    assert "progress" not in status(cluster)["training"]
    assert message(cluster, "Trained") == f"Job {status(cluster)['training']['jobName']} runs"
    cluster.finish_training()
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("True", "Succeeded")


def test_progress_is_gone_after_success() -> None:
    cluster = training_at(70)
    cluster.finish_training()
    settle(cluster)
    assert "progress" not in status(cluster)["training"]
    assert conditions(cluster)["Trained"] == ("True", "Succeeded")
    assert not run(cluster).trains


def test_progress_is_gone_after_failure() -> None:
    cluster = training_at(40)
    cluster.fail_job("train", {"exitCode": 1, "reason": "Error", "message": "no memory"})
    settle(cluster)
    assert "progress" not in status(cluster)["training"]
    assert "no memory" in message(cluster, "Trained")


def test_progress_is_gone_with_its_pod_and_comes_back_with_the_next() -> None:
    cluster = training_at(40)
    cluster.kill_pod("train")
    settle(cluster)
    assert "progress" not in status(cluster)["training"]
    assert "exit code 137" in message(cluster, "Trained")
    assert not run(cluster).trains
    cluster.run_pod("train", progress_line(progress(10)))
    settle(cluster)
    assert status(cluster)["training"]["progress"]["step"] == 10


def test_new_spec_does_not_inherit_the_progress_of_the_old_run() -> None:
    """The next Job's pod runs before a pass has written the status in which the old progress is gone."""
    cluster = training_at(40)
    old_job = status(cluster)["training"]["jobName"]
    cluster.change_spec(a_model().with_spec("training.epochs", 2.0).spec)
    for _ in range(2):  # the old Job is deleted, then the new one made; neither pass writes the status
        cluster.writes_until_failure = 1
        with pytest.raises(ClusterError):
            run(cluster)
    cluster.writes_until_failure = None
    cluster.run_pod("train", "reads the data")
    assert status(cluster)["training"]["progress"]["step"] == 40
    settle(cluster)
    assert status(cluster)["training"]["jobName"] != old_job
    assert "progress" not in status(cluster)["training"]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_loss_that_is_no_number_is_left_out_and_written_once(loss: float) -> None:
    cluster = drive(a_model(), 0)
    cluster.run_pod("train", progress_line(progress(40, loss=loss)))
    settle(cluster)
    assert "loss" not in status(cluster)["training"]["progress"]
    assert "loss nan" in message(cluster, "Trained")
