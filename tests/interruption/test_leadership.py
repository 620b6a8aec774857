"""Several operator processes on one API server: one acts, another goes on where it stopped, classes keep apart."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes import client

from support.builders import a_model
from support.interruption.backends import on_server
from support.operator.actors import Api, finish_job
from support.operator.api_server import SYSTEM_NAMESPACE, ApiServer
from support.operator.process import electing, running_operator
from toxicity_api.base import KIND
from toxicity_operator import names

pytestmark = [pytest.mark.interruption, pytest.mark.clock]

WaitFor = Callable[..., Any]
LEADER = "toxicity_operator_leader"
NEEDED_SECONDS = 60
LEASE_SECONDS, RETRY_SECONDS = 15, 2


def create(api: Api, name: str, operator_class: str | None = None) -> None:
    raw = a_model().raw()
    if operator_class is not None:
        raw["spec"]["operatorClass"] = operator_class
    api.create(KIND, {**raw, "metadata": {"name": name}})


def jobs(api: Api, model: str) -> list[dict[str, Any]]:
    return [job for job in api.list("Job") if job["metadata"]["labels"][names.MODEL_LABEL] == model]


def writers(server: ApiServer, namespace: str) -> set[str]:
    """The accounts that have written anything in a namespace."""
    return {user for user, verb, *_ in requests(server, namespace) if verb in ("create", "patch", "delete")}


def requests(server: ApiServer, namespace: str) -> list[tuple[str, str, str, str, int]]:
    """Account, verb, resource, name and status of every request in a namespace, in order."""
    found = []
    for line in server.audit_log.read_text().splitlines():
        entry = json.loads(line)
        target = entry.get("objectRef", {})
        if target.get("namespace") == namespace:
            user = entry["user"]["username"].rpartition(":")[2]
            code = entry["responseStatus"]["code"]
            found.append((user, entry["verb"], target["resource"], target.get("name", ""), code))
    return found


def status_of(api: Api, name: str) -> dict[str, Any]:
    found = api.get(KIND, name)
    assert found is not None
    return dict(found.get("status", {}))


def test_killed_leader_is_followed_within_its_lease_and_nothing_is_done_twice(
    server: ApiServer, tmp_path: Path, wait_for: WaitFor
) -> None:
    api = on_server(server.connect())
    create(api, "first")
    with running_operator(server, tmp_path, "leading", electing("leading", "killed")) as leader:
        wait_for("the first one to lead", lambda: leader.metric(LEADER) == 1, NEEDED_SECONDS)
        with running_operator(server, tmp_path, "waiting", electing("waiting", "killed")) as other:
            wait_for("the other to be well", other.is_well, NEEDED_SECONDS)
            assert other.metric(LEADER) == 0
            assert other.metric("toxicity_operator_watch_age_seconds") is None, "it watches nothing"
            wait_for("the training's Job", lambda: jobs(api, "first"), NEEDED_SECONDS)
            leader.process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            (job,) = jobs(api, "first")
            finish_job(api, job)
            create(api, "second")
            wait_for("the other to lead", lambda: other.metric(LEADER) == 1, LEASE_SECONDS + RETRY_SECONDS + 5)
            assert time.monotonic() - killed >= LEASE_SECONDS - RETRY_SECONDS - 1, "the Lease had not run out"
            wait_for("the next stage's Job", lambda: len(jobs(api, "first")) == 2, NEEDED_SECONDS)
            wait_for("the second one's Job", lambda: jobs(api, "second"), NEEDED_SECONDS)
            wait_for("it to be well still", other.is_well, NEEDED_SECONDS)
    assert uid(job) in [uid(item) for item in jobs(api, "first")], "the training was not begun again"
    made = requests(server, api.namespace)
    assert {entry[0] for entry in made[: last_of("leading", made) + 1]} == {"leading"}
    # what is made anew is answered 201, also when it is applied
    assert sum(entry[2] == "jobs" and entry[4] == 201 for entry in made) == len(api.list("Job")) == 3


def uid(item: dict[str, Any]) -> str:
    return str(item["metadata"]["uid"])


def last_of(user: str, made: list[tuple[str, str, str, str, int]]) -> int:
    return max(index for index, entry in enumerate(made) if entry[0] == user)


def test_process_that_ends_in_peace_hands_over_at_once(
    server: ApiServer, tmp_path: Path, wait_for: WaitFor
) -> None:
    with running_operator(server, tmp_path, "outgoing", electing("outgoing", "peace")) as leader:
        wait_for("the first one to lead", lambda: leader.metric(LEADER) == 1, NEEDED_SECONDS)
        with running_operator(server, tmp_path, "incoming", electing("incoming", "peace")) as other:
            wait_for("the other to be well", other.is_well, NEEDED_SECONDS)
            leader.process.terminate()
            assert leader.process.wait(NEEDED_SECONDS) == 0
            ended = time.monotonic()
            wait_for("the other to lead", lambda: other.metric(LEADER) == 1, NEEDED_SECONDS)
            assert time.monotonic() - ended < LEASE_SECONDS / 2
            assert "Traceback" not in leader.output() + other.output()


def test_process_whose_lease_another_has_ends(server: ApiServer, tmp_path: Path, wait_for: WaitFor) -> None:
    with running_operator(server, tmp_path, "losing", electing("losing", "stolen")) as operator:
        wait_for("it to lead", lambda: operator.metric(LEADER) == 1, NEEDED_SECONDS)
        leases = client.CoordinationV1Api(server.connect())
        leases.patch_namespaced_lease("stolen", SYSTEM_NAMESPACE, {"spec": {"holderIdentity": "another"}})
        assert operator.process.wait(NEEDED_SECONDS) == 3
        assert "leadership_lost" in operator.output()
        lease = leases.read_namespaced_lease("stolen", SYSTEM_NAMESPACE)
        assert lease.spec.holder_identity == "another"


def test_process_that_may_not_renew_ends_in_time(server: ApiServer, tmp_path: Path, wait_for: WaitFor) -> None:
    with running_operator(server, tmp_path, "barred", electing("barred", "barred")) as operator:
        wait_for("it to lead", lambda: operator.metric(LEADER) == 1, NEEDED_SECONDS)
        rbac = client.RbacAuthorizationV1Api(server.connect())
        rbac.delete_namespaced_role_binding("barred", SYSTEM_NAMESPACE)
        barred = time.monotonic()
        assert operator.process.wait(LEASE_SECONDS) == 3
        assert time.monotonic() - barred < LEASE_SECONDS


def test_process_whose_api_server_hangs_ends_before_another_can_lead(
    server: ApiServer, tmp_path: Path, wait_for: WaitFor
) -> None:
    (api_server,) = (child for child in psutil.Process().children() if child.name() == "kube-apiserver")
    with running_operator(server, tmp_path, "hanging", electing("hanging", "hanging")) as operator:
        wait_for("it to lead", lambda: operator.metric(LEADER) == 1, NEEDED_SECONDS)
        api_server.suspend()
        suspended = time.monotonic()
        try:
            assert operator.process.wait(LEASE_SECONDS) == 3
            assert time.monotonic() - suspended < LEASE_SECONDS - RETRY_SECONDS
        finally:
            api_server.resume()


def test_each_class_is_looked_after_by_its_own_operator(
    server: ApiServer, tmp_path: Path, wait_for: WaitFor
) -> None:
    theirs, ours = on_server(server.connect()), on_server(server.connect())
    create(theirs, "fast", "fast")
    create(ours, "slow")
    fast = {"OPERATOR_CLASS": "fast", "WATCH_NAMESPACES": f"{theirs.namespace},{ours.namespace}"}
    slow = {**fast, "OPERATOR_CLASS": ""}
    with (
        running_operator(server, tmp_path, "of-fast", fast | electing("of-fast", "fast")),
        running_operator(server, tmp_path, "of-none", slow | electing("of-none", "slow")),
    ):
        wait_for("the Job of one class", lambda: jobs(theirs, "fast"), NEEDED_SECONDS)
        wait_for("the Job of no class", lambda: jobs(ours, "slow"), NEEDED_SECONDS)
        wait_for("a status", lambda: status_of(theirs, "fast"), NEEDED_SECONDS)
        assert writers(server, theirs.namespace) == {"of-fast"}
        assert writers(server, ours.namespace) == {"of-none"}
        # handed over: the other one goes on with what is there
        (job,) = jobs(ours, "slow")
        changed = ours.merge(KIND, "slow", {"spec": {"operatorClass": "fast"}})["metadata"]["generation"]
        # before that, the other one may learn of the finished Job before it learns of the class
        wait_for(
            "the new one to take over",
            lambda: status_of(ours, "slow").get("observedGeneration") == changed,
            NEEDED_SECONDS,
        )
        finish_job(ours, job)
        wait_for("the new one to go on", lambda: len(jobs(ours, "slow")) == 2, NEEDED_SECONDS)
        wait_for("the status", lambda: status_of(ours, "slow")["stage"] == "Quantizing", NEEDED_SECONDS)
        assert uid(job) in [uid(item) for item in jobs(ours, "slow")]
        after = [entry for entry in requests(server, ours.namespace) if entry[1] != "watch"]
        assert [entry[0] for entry in after if entry[2] == "jobs" and entry[4] == 201] == ["of-none", "of-fast"]
