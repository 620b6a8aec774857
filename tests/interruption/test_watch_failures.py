"""Watches that fail on a real API server: a right taken away, a place that is forgotten, an event that is missed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.builders import a_model
from support.interruption.backends import on_server
from support.operator.api_server import ApiServer
from support.operator.process import OperatorProcess, running_operator, set_rights
from toxicity_api.base import KIND, PLURAL
from toxicity_api.types import Key
from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.cached_cluster import CachedCluster
from toxicity_operator.kube.client import WATCH_SECONDS, KubernetesCluster, WatchEvent
from toxicity_operator.kube.health import WatchHealth
from toxicity_operator.kube.watch import WatchManager

pytestmark = [pytest.mark.interruption, pytest.mark.clock]

WaitFor = Callable[..., Any]
FAILURES, AGE = "toxicity_operator_watch_failures_total", "toxicity_operator_watch_age_seconds"
SOON = {"RELIST_SECONDS": "2", "UNFOLLOWED_SECONDS": "8", "RESYNC_SECONDS": "5"}
"""Watches that last two seconds, so that what is taken away is missed soon."""


def is_followed(operator: OperatorProcess, kind: str) -> bool:
    age = operator.metric(AGE, kind=kind)
    return age is not None and age < 5


@pytest.mark.parametrize(("resource", "kind"), [("jobs", "Job"), (PLURAL, KIND)])
def test_right_that_is_taken_away_is_said_until_it_is_back(
    server: ApiServer, tmp_path: Path, wait_for: WaitFor, resource: str, kind: str
) -> None:
    account = f"without-{resource}"
    api = on_server(server.connect())
    with running_operator(server, tmp_path, account, SOON) as operator:
        wait_for("it to be well", operator.is_well, 60)
        wait_for("the kind to be followed", lambda: is_followed(operator, kind), 60)
        set_rights(server, account, without=resource)
        wait_for("the failures", lambda: operator.metric(FAILURES, kind=kind, reason="forbidden"), 30)
        wait_for("the probe to fail", lambda: operator.is_well() is False, 60)
        assert operator.process.poll() is None, "it is the kubelet that starts it anew"
        assert (operator.metric(AGE, kind=kind) or 0) >= 8
        assert is_followed(operator, "Pod")
        told = [line for line in operator.output().splitlines() if "watch_failed" in line]
        assert len(told) == 1 and f"kind='{kind}'" in told[0] and "forbidden" in told[0]
        set_rights(server, account)
        wait_for("the probe to succeed", operator.is_well, 90)
        api.create(KIND, {**a_model().raw(), "metadata": {"name": "after"}})
        wait_for("the resource to be looked after", lambda: api.list("Job"), 60)
        assert "watch_recovered" in operator.output()


def test_kind_of_others_that_may_not_be_asked_for_stops_nothing(
    server: ApiServer, tmp_path: Path, wait_for: WaitFor
) -> None:
    api = on_server(server.connect())
    with running_operator(server, tmp_path, "without-keda", SOON) as operator:
        wait_for("it to be well", operator.is_well, 60)
        wait_for("the kind to be followed", lambda: is_followed(operator, "ScaledObject"), 60)
        set_rights(server, "without-keda", without="scaledobjects")
        wait_for("the age to show it", lambda: (operator.metric(AGE, kind="ScaledObject") or 0) > 10, 60)
        assert operator.metric(FAILURES, kind="ScaledObject", reason="forbidden")
        assert operator.is_well()
        assert operator.output().count("watch_failed kind='ScaledObject'") == 1
        api.create(KIND, {**a_model().raw(), "metadata": {"name": "without-keda"}})
        wait_for("the resource to be looked after", lambda: api.list("Job"), 60)


class Forgetful(KubernetesCluster):
    """The place of every watch of Jobs is forgotten, however often they are listed; watches of Services end at once."""

    @contextmanager
    def watch_kind(
        self, api_version: str, kind: str, namespace: str | None, version: int, seconds: int = WATCH_SECONDS
    ) -> Iterator[Iterator[WatchEvent]]:
        if kind == "Job":
            raise ClusterError("too old resource version", 410)
        if kind == "Service":
            yield iter(())
            return
        with super().watch_kind(api_version, kind, namespace, version, seconds) as events:
            yield events


def test_watch_whose_place_is_always_forgotten_or_that_ends_at_once_is_not_followed(
    server: ApiServer, wait_for: WaitFor
) -> None:
    api = on_server(server.connect())
    failed: list[tuple[str, int]] = []
    health = WatchHealth(lambda kind, error: failed.append((kind, error.status)))
    cache = CachedCluster(KubernetesCluster(server.connect()))
    watching = WatchManager(
        Forgetful(server.connect()), cache, (api.namespace,), retry_seconds=0.2, relist_seconds=2, health=health
    )
    watching.fill()
    watching.start(lambda key: None)
    try:
        wait_for("several failures of both", lambda: min(count(failed, "Job"), count(failed, "Service")) > 3, 30)
        wait_for("them alone to be late", lambda: health.unfollowed(4) == ["Job", "Service"], 30)
        assert set(failed) == {("Job", 410), ("Service", 0)}
        assert watching.is_alive()
    finally:
        watching.stop()


def count(failed: list[tuple[str, int]], kind: str) -> int:
    return sum(kind == item for item, _ in failed)


class Silent(KubernetesCluster):
    """Its watches live as long as asked for and tell nothing."""

    asked: list[int]

    @contextmanager
    def watch_kind(
        self, api_version: str, kind: str, namespace: str | None, version: int, seconds: int = WATCH_SECONDS
    ) -> Iterator[Iterator[WatchEvent]]:
        self.asked.append(seconds)
        with super().watch_kind(api_version, kind, namespace, version, seconds) as events:
            yield (event for event in events if event.type == "BOOKMARK")


def test_list_now_and_then_heals_what_no_watch_has_told(server: ApiServer, wait_for: WaitFor) -> None:
    api = on_server(server.connect())
    for name in ("stays", "goes"):
        api.create(KIND, {**a_model().raw(), "metadata": {"name": name}})
    source = Silent(server.connect())
    source.asked = []
    cache, told = CachedCluster(KubernetesCluster(server.connect())), set[Key]()
    watching = WatchManager(source, cache, (api.namespace,), relist_seconds=3)
    watching.fill()
    watching.start(told.add)
    try:
        assert told == {(api.namespace, "stays"), (api.namespace, "goes")}, "every resource is told of at first"
        told.clear()
        api.delete(KIND, "goes")
        api.create(KIND, {**a_model().raw(), "metadata": {"name": "comes"}})
        began = time.monotonic()
        wait_for("both to be told of", lambda: len(told) == 2, 30)
        assert time.monotonic() - began < 10
        assert told == {(api.namespace, "goes"), (api.namespace, "comes")}
        assert cache.get_model(api.namespace, "goes") is None
        assert cache.get_model(api.namespace, "comes") is not None
        assert 1 <= max(source.asked) <= 3, "a watch ends when the next list is due"
    finally:
        watching.stop()
