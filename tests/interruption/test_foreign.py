"""Objects of other people that bear the names of children: they are left as they are, and Ready says so.

On a real API server, for every kind of child, whatever the object looks like: without labels, with ours copied, or with
another controller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.interruption.backends import on_server
from support.interruption.namesakes import ACCOUNT, NAMESAKES, OUR_LABELS, SERVE, VERSIONS, used_by
from support.interruption.schedule import NAME, SPECS, Schedule
from support.operator.actors import Api, collect_garbage
from support.operator.api_server import ApiServer
from toxicity_api.base import KIND
from toxicity_operator import names

pytestmark = pytest.mark.interruption

Disguise = Callable[[Api], dict[str, Any]]


def plain(api: Api) -> dict[str, Any]:
    return {"labels": {"app": "forum"}}


def with_our_labels(api: Api) -> dict[str, Any]:
    """As a copy of an exported manifest has them."""
    return {"labels": OUR_LABELS, "annotations": {names.APPLIED_HASH: "0123456789abcdef"}}


def with_another_controller(api: Api) -> dict[str, Any]:
    account = api.get("ServiceAccount", "default")
    assert account is not None
    owner = {"apiVersion": "v1", "kind": "ServiceAccount", "name": "default", "controller": True}
    return {
        "labels": OUR_LABELS,
        "ownerReferences": [owner | {"uid": account["metadata"]["uid"]}],
    }


def condition(api: Api, kind: str = "Ready") -> dict[str, Any]:
    model = api.get(KIND, NAME)
    assert model is not None
    found: dict[str, Any] = next(item for item in model["status"]["conditions"] if item["type"] == kind)
    return found


def users(api: Api, kind: str, name: str) -> list[str]:
    """Children of the resource whose pods would use the object, or whose pods it would reach."""
    return [
        item["metadata"]["name"]
        for item in [*api.list("Job"), *api.list("Deployment")]
        if item["metadata"].get("ownerReferences", [{}])[0].get("kind") == KIND and (kind, name) in used_by(item)
    ]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("disguise", [plain, with_our_labels, with_another_controller])
@pytest.mark.parametrize("kind", NAMESAKES)
def test_namesake_is_neither_adopted_nor_used_nor_deleted(
    server: ApiServer, kind: str, disguise: Disguise, cached: bool
) -> None:
    api = on_server(server.connect())
    spec, name, content = NAMESAKES[kind]
    body = {"apiVersion": VERSIONS[kind], "kind": kind} if kind in VERSIONS else {}
    made = api.create(kind, {**body, "metadata": {"name": name, **disguise(api)}, **content})
    schedule = Schedule(api, cached=cached, spec=spec)
    for _ in range(16):
        schedule.round()
    ready = condition(api)
    assert (ready["status"], ready["reason"]) == ("False", "NotOurs")
    assert f"{kind} {name}" in ready["message"]
    assert users(api, kind, name) == []
    assert api.get(kind, name) == made
    api.delete(KIND, NAME)
    collect_garbage(api)
    assert api.get(kind, name) == made
    schedule.hear_and_reconcile()
    assert api.get(kind, name) == made


@pytest.mark.parametrize("kind", NAMESAKES)
def test_resource_goes_on_when_the_namesake_is_gone(server: ApiServer, kind: str) -> None:
    api = on_server(server.connect())
    spec, name, content = NAMESAKES[kind]
    body = {"apiVersion": VERSIONS[kind], "kind": kind} if kind in VERSIONS else {}
    api.create(kind, {**body, "metadata": {"name": name}, **content})
    schedule = Schedule(api, spec=spec)
    for _ in range(8):
        schedule.round()
    assert condition(api)["reason"] == "NotOurs"
    api.merge(kind, name, {"metadata": {"finalizers": None}})
    api.delete(kind, name)
    schedule.reconcile()
    schedule.converge()
    assert condition(api)["status"] == "True"


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("rounds", [1, 3, 12])
def test_orphans_of_the_operator_are_taken_over_by_the_next_resource_of_the_name(
    server: ApiServer, rounds: int, cached: bool
) -> None:
    api = on_server(server.connect())
    schedule = Schedule(api, cached=cached)
    for _ in range(rounds):
        schedule.round()
    claim = api.get("PersistentVolumeClaim", names.claim_name(NAME))
    assert claim is not None
    schedule.orphan()
    schedule.hear()
    schedule.converge()
    schedule.check_rest()
    assert schedule.outcome()["status"]["stage"] == "Ready"
    after = api.get("PersistentVolumeClaim", names.claim_name(NAME))
    assert after is not None and after["metadata"]["uid"] == claim["metadata"]["uid"]
    api.delete(KIND, NAME)
    collect_garbage(api)
    assert [item["metadata"]["name"] for kind in NAMESAKES for item in api.list(kind)] == ["default"]


def test_kept_claim_follows_the_reclaim_of_the_next_resource(server: ApiServer) -> None:
    api = on_server(server.connect())
    name = names.claim_name(NAME)
    for reclaim, left in (("Retain", [name]), ("Retain", [name]), ("Delete", [])):
        raw = SPECS["plain"].with_spec("storage.reclaim", reclaim).raw()
        schedule = Schedule(api)
        api.delete(KIND, NAME)
        api.apply(KIND, NAME, {**raw, "metadata": {"name": NAME}}, "person")
        schedule.restart()
        for _ in range(3):
            schedule.reconcile()
        assert condition(api)["reason"] == "Running"
        api.delete(KIND, NAME)
        collect_garbage(api)
        assert [item["metadata"]["name"] for item in api.list("PersistentVolumeClaim")] == left


def test_object_that_was_exchanged_for_anothers_is_not_deleted(server: ApiServer) -> None:
    """The mirror is late: it still knows the operator's own object of the name."""
    api = on_server(server.connect())
    schedule = Schedule(api)
    schedule.converge()
    api.delete("ServiceAccount", ACCOUNT)
    made = api.create("ServiceAccount", {"metadata": {"name": ACCOUNT, "labels": {"app": "forum"}}})
    schedule.change_spec("no load test")
    schedule.tell_model()
    schedule.reconcile()
    assert api.get("ServiceAccount", ACCOUNT) == made


def test_object_that_was_exchanged_for_anothers_is_not_changed(server: ApiServer) -> None:
    api = on_server(server.connect())
    schedule = Schedule(api)
    schedule.converge()
    api.delete("Deployment", SERVE)
    body = {"metadata": {"name": SERVE, "labels": {"app": "forum"}}, **NAMESAKES["Deployment"][2]}
    made = api.create("Deployment", body)
    schedule.change_spec("threshold")
    schedule.tell_model()
    for _ in range(3):
        schedule.reconcile()
    assert api.get("Deployment", SERVE) == made
    assert condition(api)["reason"] == "NotOurs"


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", ["Job", "PersistentVolumeClaim"])
def test_child_that_lost_its_label_gets_it_back(server: ApiServer, kind: str, cached: bool) -> None:
    api = on_server(server.connect())
    schedule, name = Schedule(api, cached=cached), NAMESAKES[kind][1]
    schedule.round()
    before = api.get(kind, name)
    assert before is not None
    api.merge(kind, name, {"metadata": {"labels": {names.MODEL_LABEL: None}}})
    schedule.hear_and_reconcile()
    after = api.get(kind, name)
    assert after is not None
    assert [item["metadata"]["uid"] for item in (before, after)] == [before["metadata"]["uid"]] * 2
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    schedule.converge()
    schedule.check_rest()
    assert schedule.outcome()["status"]["stage"] == "Ready"


def test_account_that_was_exchanged_for_anothers_is_not_run_with(server: ApiServer) -> None:
    api = on_server(server.connect())
    schedule = Schedule(api)
    schedule.converge()
    before = users(api, "ServiceAccount", ACCOUNT)
    api.delete("ServiceAccount", ACCOUNT)
    api.create("ServiceAccount", {"metadata": {"name": ACCOUNT, "labels": {"app": "forum"}}})
    schedule.change_spec("load profile")
    schedule.tell_model()
    schedule.reconcile()
    assert users(api, "ServiceAccount", ACCOUNT) == before
    assert condition(api)["reason"] == "NotOurs"
