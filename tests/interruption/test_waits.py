"""What a cluster makes a resource wait for, on a real API server: every wait has its reason and its remedy."""

from __future__ import annotations

from typing import Any

import pytest

from support.interruption.backends import on_server
from support.interruption.schedule import NAME, Schedule
from support.operator.actors import Api, end_beside_sidecar, label, record_event, start_pod, timestamp
from support.operator.api_server import ApiServer
from toxicity_api.base import KIND
from toxicity_operator import names

pytestmark = [pytest.mark.interruption, pytest.mark.parametrize("cached", [False, True])]

SERVE = names.serving_name(NAME)
QUOTA = "exceeded quota: team, requested: limits.memory=8Gi, used: limits.memory=4Gi, limited: limits.memory=8Gi"


def condition(api: Api, kind: str) -> tuple[str, str, str]:
    """Status, reason and message."""
    model = api.get(KIND, NAME)
    assert model is not None
    (found,) = (item for item in model["status"]["conditions"] if item["type"] == kind)
    return found["status"], found["reason"], found["message"]


def job_of(api: Api, component: str) -> dict[str, Any]:
    (job,) = (item for item in api.list("Job") if label(item, names.COMPONENT_LABEL) == component)
    return job


def until_served(schedule: Schedule) -> None:
    """All stages before serving are done, and the Deployment is made."""
    for _ in range(12):
        if schedule.api.get("Deployment", SERVE):
            return
        schedule.hear_and_reconcile()
        schedule.run_jobs()
    raise AssertionError("nothing is deployed")


def test_suspended_job_is_told_and_runs_on_once_it_may(server: ApiServer, cached: bool) -> None:
    api = on_server(server.connect())
    schedule = Schedule(api, cached=cached)
    schedule.hear_and_reconcile()
    job = job_of(api, names.TRAIN)["metadata"]["name"]
    api.merge("Job", job, {"spec": {"suspend": True}})
    schedule.hear_and_reconcile()
    for kind, status in (("Trained", "Unknown"), ("Ready", "False")):
        told = condition(api, kind)
        assert told[:2] == (status, "Suspended")
        assert f"Job {job} is suspended" in told[2] and "kubectl patch job" in told[2]
    api.merge("Job", job, {"spec": {"suspend": False}})
    schedule.converge()
    schedule.check_rest()
    assert schedule.outcome()["status"]["stage"] == "Ready"


def test_paused_deployment_is_told_and_serves_once_it_goes_on(server: ApiServer, cached: bool) -> None:
    api = on_server(server.connect())
    schedule = Schedule(api, cached=cached)
    until_served(schedule)
    api.merge("Deployment", SERVE, {"spec": {"paused": True}})
    generation = (api.get("Deployment", SERVE) or {})["metadata"]["generation"]
    api.merge("Deployment", SERVE, {"status": {"observedGeneration": generation, "replicas": 0}}, "/status")
    schedule.hear_and_reconcile()
    for kind in ("Available", "Ready"):
        told = condition(api, kind)
        assert told[:2] == ("False", "DeploymentPaused")
        assert f"kubectl rollout resume deployment/{SERVE}" in told[2]
    assert (api.get("Deployment", SERVE) or {})["spec"]["paused"]
    api.merge("Deployment", SERVE, {"spec": {"paused": False}})
    schedule.converge()
    schedule.check_rest()
    assert condition(api, "Ready")[0] == "True"


def test_no_replicas_is_stopped(server: ApiServer, cached: bool) -> None:
    api = on_server(server.connect())
    schedule = Schedule(api, cached=cached)
    schedule.converge()
    api.merge(KIND, NAME, {"spec": {"serving": {"replicas": 0}}})
    schedule.hear_and_reconcile()
    schedule.roll_out(ready=0)
    schedule.hear_and_reconcile()
    for kind in ("Available", "Ready"):
        told = condition(api, kind)
        assert told[:2] == ("False", "Stopped") and "set it to 1 or more" in told[2]
    schedule.check_rest()


def test_life_beside_a_service_mesh_ends_as_any_other(server: ApiServer, cached: bool) -> None:
    api = on_server(server.connect())
    schedule = Schedule(api, cached=cached)
    for _ in range(20):
        schedule.hear_and_reconcile()
        for job in (item for item in api.list("Job") if not item.get("status", {}).get("startTime")):
            end_beside_sidecar(api, job)
            schedule.done.add((label(job, names.COMPONENT_LABEL), label(job, names.FINGERPRINT_LABEL)))
        schedule.roll_out()
        schedule.collect_garbage()
    model = api.get(KIND, NAME)
    assert model is not None
    assert condition(api, "Ready")[:2] == ("True", "AllStagesDone")
    assert condition(api, "LoadTested")[:2] == ("True", "Succeeded")
    assert model["status"]["training"]["f1"] == 0.9
    assert api.list("Job") == []
    made = [
        write.body["metadata"]["name"]
        for write in schedule.writes
        if write.created and write.path.endswith("/jobs")
    ]
    assert len(made) == len(set(made)) == 4, "each stage ran once"
    schedule.check_rest()


def test_quota_that_refuses_the_pods_of_a_job_is_told_in_its_words(server: ApiServer, cached: bool) -> None:
    api = on_server(server.connect())
    schedule = Schedule(api, cached=cached)
    schedule.hear_and_reconcile()
    job = job_of(api, names.TRAIN)
    words = f'Error creating: pods "{job["metadata"]["name"]}-x7k2p" is forbidden: {QUOTA}'
    record_event(api, job, "FailedCreate", words)
    record_event(
        api, {**job, "metadata": {**job["metadata"], "uid": "another"}}, "FailedCreate", "of another life"
    )
    api.merge("Job", job["metadata"]["name"], {"status": {"startTime": timestamp()}}, "/status")
    schedule.hear_and_reconcile()
    for kind in ("Trained", "Ready"):
        assert condition(api, kind)[2].endswith(
            f"it has no pod yet: the pod is forbidden: {QUOTA} (FailedCreate);"
            " lower training.resources, or raise the ResourceQuota team"
        )
    schedule.check_rest()
    start_pod(api, job)
    schedule.hear_and_reconcile()
    assert QUOTA not in condition(api, "Trained")[2]
