"""Who owns what of a child on a real API server: edits by hand, an autoscaler, a load test, one GPU.

What a person edits is undone at the next look, also where applying alone cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.interruption.backends import on_server
from support.interruption.faults import Write
from support.interruption.schedule import NAME, Schedule
from support.operator.actors import Api
from support.operator.api_server import ApiServer
from toxicity_api.base import KIND
from toxicity_operator import names
from toxicity_operator.manifests.autoscaler import HPA

pytestmark = pytest.mark.interruption

SERVE = names.serving_name(NAME)
ACCOUNT = names.loadtest_account_name(NAME)
PORT = {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}

Edit = Callable[[Api], object]


def set_ports(*ports: dict[str, Any]) -> Edit:
    return lambda api: api.merge("Service", SERVE, {"spec": {"ports": list(ports)}})


def set_strategy(api: Api) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}
    api.merge("Deployment", SERVE, {"spec": {"strategy": strategy}})


def bind_another_role(api: Api) -> None:
    """As `kubectl replace --force` does, since the field cannot be changed."""
    binding = api.get("RoleBinding", ACCOUNT)
    assert binding is not None
    metadata = {key: binding["metadata"][key] for key in ("name", "labels", "annotations", "ownerReferences")}
    api.delete("RoleBinding", ACCOUNT)
    other = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "other"}
    api.create("RoleBinding", {"metadata": metadata, "roleRef": other, "subjects": binding["subjects"]})


EDITS: dict[str, tuple[str, str, str, Edit]] = {
    "the port has another number": ("plain", "Service", SERVE, set_ports(PORT | {"port": 8080})),
    "ports of our name and of our number": (
        "plain", "Service", SERVE, set_ports(PORT | {"port": 8080}, PORT | {"name": "web"}),
    ),
    "the strategy has parameters": ("gpu", "Deployment", SERVE, set_strategy),
    "the binding names another role": ("plain", "RoleBinding", ACCOUNT, bind_another_role),
}  # fmt: skip


def content(api: Api, kind: str, name: str) -> dict[str, Any]:
    """The object without what every write of it changes."""
    found = api.get(kind, name)
    assert found is not None
    return {key: value for key, value in found.items() if key not in ("metadata", "status")}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("edit", EDITS)
def test_edit_that_cannot_be_applied_over_is_undone_in_one_pass(
    server: ApiServer, edit: str, cached: bool
) -> None:
    spec, kind, name, act = EDITS[edit]
    api = on_server(server.connect())
    schedule = Schedule(api, spec=spec, cached=cached)
    schedule.converge()
    before, service = content(api, kind, name), api.get("Service", SERVE)
    jobs = {item["metadata"]["uid"] for item in api.list("Job")}
    act(api)
    assert content(api, kind, name) != before
    schedule.hear_and_reconcile()
    assert content(api, kind, name) == before
    after = api.get("Service", SERVE)
    assert service is not None and after is not None
    assert (after["metadata"]["uid"], after["spec"]["clusterIP"]) == (
        service["metadata"]["uid"], service["spec"]["clusterIP"],
    )  # fmt: skip
    assert {item["metadata"]["uid"] for item in api.list("Job")} == jobs
    schedule.converge()
    schedule.check_rest()
    assert schedule.outcome()["status"]["stage"] == "Ready"


def test_spec_that_the_server_refuses_costs_nothing_that_is_there(server: ApiServer) -> None:
    api = on_server(server.connect())
    schedule = Schedule(api)
    schedule.converge()
    before = content(api, "Deployment", SERVE)
    resources = {"limits": {"memory": "1Gi"}, "requests": {"memory": "2Gi"}}
    api.merge(KIND, NAME, {"spec": {"serving": {"resources": resources}}})
    for _ in range(3):
        schedule.hear_and_reconcile()
        schedule.act()
    assert content(api, "Deployment", SERVE) == before
    model = api.get(KIND, NAME)
    assert model is not None
    ready = next(item for item in model["status"]["conditions"] if item["type"] == "Ready")
    assert ready["reason"] == "ApplyFailed"
    assert "must be less than or equal to memory limit" in ready["message"]


class Watched(Schedule):
    """Remembers the replicas that the Deployment had after each of the operator's writes."""

    def _on_write(self, write: Write) -> None:
        super()._on_write(write)
        deployment = self.api.get("Deployment", SERVE)
        if deployment is not None:
            self.seen = [*getattr(self, "seen", []), deployment["spec"]["replicas"]]


@pytest.mark.parametrize("cached", [False, True])
def test_replicas_stay_when_an_autoscaler_takes_them_over(server: ApiServer, cached: bool) -> None:
    api = on_server(server.connect())
    schedule = Watched(api, spec="replicas", cached=cached)
    schedule.converge()
    schedule.seen = []
    schedule.change_spec("autoscaled")
    for _ in range(3):
        schedule.hear_and_reconcile()
    assert set(schedule.seen) == {2}
    assert api.get(HPA, SERVE) is not None
    assert owners_of_replicas(api) == {names.REPLICAS_MANAGER}
    assert schedule.scale(1), "the autoscaler is free to choose another number"
    assert owners_of_replicas(api) == {"autoscaler"}
    schedule.converge()
    schedule.check_rest()
    assert content(api, "Deployment", SERVE)["spec"]["replicas"] == 1
    schedule.change_spec("replicas")
    schedule.converge()
    assert content(api, "Deployment", SERVE)["spec"]["replicas"] == 2


def test_number_that_the_autoscaler_has_just_set_is_not_set_back(server: ApiServer) -> None:
    """The operator's mirror is late: it knows the number before."""
    api = on_server(server.connect())
    schedule = Watched(api, spec="autoscaled")
    schedule.converge()
    schedule.seen = []
    schedule.scale(2)
    schedule.change_spec("autoscaled, threshold")
    schedule.tell_model()
    for _ in range(2):
        schedule.reconcile()
    assert set(schedule.seen) <= {2}
    for _ in range(6):
        schedule.hear_and_reconcile()
        schedule.run_jobs()
    assert set(schedule.seen) == {2}


def owners_of_replicas(api: Api) -> set[str]:
    deployment = api.get("Deployment", SERVE)
    assert deployment is not None
    entries = deployment["metadata"]["managedFields"]
    return {entry["manager"] for entry in entries if "f:replicas" in entry["fieldsV1"].get("f:spec", {})}


def test_access_of_the_load_test_goes_with_it(server: ApiServer) -> None:
    api = on_server(server.connect())
    schedule = Schedule(api)
    schedule.converge()
    kinds = ("ServiceAccount", "Role", "RoleBinding")
    assert all(api.get(kind, ACCOUNT) for kind in kinds)
    schedule.change_spec("no load test")
    schedule.hear_and_reconcile()
    assert not any(api.get(kind, ACCOUNT) for kind in kinds)
    assert api.get("ServiceAccount", "default") is not None
    schedule.converge()
    schedule.check_rest()
    schedule.change_spec("plain")
    schedule.converge()
    assert all(api.get(kind, ACCOUNT) for kind in kinds)


@pytest.mark.parametrize("cached", [False, True])
def test_hand_over_of_the_gpu_changes_nothing_but_the_number_of_pods(server: ApiServer, cached: bool) -> None:
    api = on_server(server.connect())
    schedule = Schedule(api, spec="gpu", cached=cached)
    schedule.converge()
    before = content(api, "Deployment", SERVE)
    schedule.change_spec("gpu, learning rate")
    schedule.hear_and_reconcile()
    schedule.run_jobs(end=False)
    assert content(api, "Deployment", SERVE) == before
    schedule.hear_and_reconcile()
    without_pods = {**before, "spec": before["spec"] | {"replicas": 0}}
    assert content(api, "Deployment", SERVE) == without_pods
    schedule.roll_out()
    schedule.restart()
    schedule.run_jobs(end=False)
    schedule.hear_and_reconcile()
    assert content(api, "Deployment", SERVE) == without_pods, "the training has the GPU"
    schedule.change_spec("gpu")
    schedule.hear_and_reconcile()
    assert content(api, "Deployment", SERVE) == before
