"""Work and objects that nobody asks for any more are deleted; what is wanted stays: state in, state out."""

from __future__ import annotations

import pytest

from support.builders import NOW, a_model, progress
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, run, settle, status
from toxicity_api.progress import progress_line

CLAIM = ("PersistentVolumeClaim", "ru-toxicity-artifacts")


def unfinished(cluster: FakeCluster) -> list[str]:
    """Components of the Jobs that have not ended."""
    jobs = [item for (kind, _), item in cluster.objects.items() if kind == "Job"]
    return [
        item["metadata"]["name"].split("-")[2] for item in jobs if not item.get("status", {}).get("conditions")
    ]


@pytest.mark.parametrize(("done", "component"), [(1, "quantize"), (2, "evaluate")])
def test_work_on_a_model_that_the_gate_refuses_meanwhile_is_stopped(done: int, component: str) -> None:
    cluster = drive(a_model(), done)
    assert unfinished(cluster) == [component]
    cluster.change_spec(a_model().with_spec("qualityGate.minF1", 0.95).spec)
    settle(cluster)
    assert conditions(cluster)["QualityAccepted"][0] == "False"
    assert unfinished(cluster) == []
    cluster.change_spec(a_model().spec)
    settle(cluster)
    assert unfinished(cluster) == [component]


def test_service_of_the_load_test_s_workers_goes_with_the_workers() -> None:
    model = a_model().with_spec("loadTest.workers", 2)
    cluster = drive(model)
    assert cluster.names_of("Service") == ["ru-toxicity-loadtest", "ru-toxicity-serve"]
    cluster.change_spec(model.with_spec("loadTest.workers", 1).spec)
    settle(cluster)
    assert cluster.names_of("Service") == ["ru-toxicity-serve"]
    assert cluster.names_of("ServiceAccount") == ["ru-toxicity-loadtest"]


def test_nothing_of_the_load_test_is_left_when_it_is_switched_off() -> None:
    model = a_model().with_spec("loadTest.workers", 2)
    cluster = drive(model)
    cluster.change_spec(model.with_spec("loadTest.enabled", False).spec)
    settle(cluster)
    assert cluster.names_of("Service") == ["ru-toxicity-serve"]
    left = [kind for kind in ("ServiceAccount", "Role", "RoleBinding") if cluster.names_of(kind)]
    assert left == []


@pytest.mark.parametrize("claim_made_at", [NOW, "2029-12-31T00:00:00Z", "2030-06-01T00:00:00Z"])
def test_running_stage_keeps_its_job_and_record_whatever_the_age_of_the_volume(claim_made_at: str) -> None:
    """A Job that runs has no end that could be earlier than the volume."""
    cluster = drive(a_model(), 0)
    cluster.objects[CLAIM]["metadata"]["creationTimestamp"] = claim_made_at
    cluster.run_pod("train", progress_line(progress(40)))
    settle(cluster)
    assert status(cluster)["training"]["progress"]["step"] == 40
    job = cluster.job("train")["metadata"]
    assert (status(cluster)["training"]["outcome"], status(cluster)["training"]["jobName"]) == (
        "Running", job["name"],
    )  # fmt: skip
    settle(cluster)
    assert cluster.job("train")["metadata"]["uid"] == job["uid"]


def test_failure_on_a_volume_as_old_as_the_job_is_recorded() -> None:
    cluster = drive(a_model(), 0)
    cluster.objects[CLAIM]["metadata"]["creationTimestamp"] = NOW
    settle(cluster)
    cluster.fail_job("train", {"exitCode": 1, "reason": "Error", "message": "no memory"})
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("False", "JobFailed")
    assert status(cluster)["training"]["finishedAt"] == NOW


def test_ready_is_not_true_without_the_service() -> None:
    """A quota, say, refuses the Service; the pods that serve cannot be reached by its name."""
    cluster = drive(a_model())
    assert conditions(cluster)["Ready"][0] == "True"
    cluster.remove("Service")
    cluster.kinds_without_crd = {"Service"}
    run(cluster)
    assert conditions(cluster)["Ready"][0] == "False"
    assert "url" not in status(cluster)
    cluster.kinds_without_crd = set()
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert status(cluster)["url"] == "http://ru-toxicity-serve.default.svc"


def test_paused_resource_without_its_service_is_not_ready() -> None:
    """Nothing is applied, so no failure tells that the Service is missing."""
    cluster = drive(a_model())
    cluster.remove("Service")
    cluster.change_spec(a_model().with_spec("paused", True).spec)
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "Paused")
    assert "url" not in status(cluster)


def test_ready_is_not_true_while_the_service_is_somebody_elses() -> None:
    cluster = drive(a_model())
    theirs = {"metadata": {"name": "ru-toxicity-serve", "uid": "uid-of-theirs", "labels": {"app": "forum"}}}
    cluster.objects["Service", "ru-toxicity-serve"] = {"kind": "Service", **theirs}
    for _ in range(2):
        run(cluster)
    assert conditions(cluster)["Ready"] == ("False", "NotOurs")
    assert "url" not in status(cluster)
