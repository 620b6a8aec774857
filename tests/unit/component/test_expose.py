"""`serving.expose` on the in-memory cluster: the Ingress or HTTPRoute, `status.url` and the condition Exposed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from support.builders import a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import STEPS, conditions, drive, message, run, settle, status, take_steps
from toxicity_operator.manifests.expose import HTTP_ROUTE, INGRESS

SERVE = "ru-toxicity-serve"
INSIDE = "http://ru-toxicity-serve.default.svc"
HOST = "toxicity.example.org"
BY_INGRESS = {"host": HOST, "ingress": {"className": "nginx", "tlsSecretName": "toxicity-tls"}}
BY_GATEWAY = {"host": HOST, "gateway": {"name": "public", "namespace": "infra", "sectionName": "https"}}
PARENT = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "infra"}
OURS = {**PARENT, "sectionName": "https"}
ACCEPTED, RESOLVED = ("Accepted", "True", "Accepted", ""), ("ResolvedRefs", "True", "ResolvedRefs", "")
EXPOSED = {
    INGRESS: a_model().with_spec("serving.expose", BY_INGRESS),
    HTTP_ROUTE: a_model().with_spec("serving.expose", BY_GATEWAY),
}


def spec_of(cluster: FakeCluster, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.objects[kind, SERVE]["spec"]
    return found


def routes(cluster: FakeCluster) -> list[str]:
    return [kind for kind in (INGRESS, HTTP_ROUTE) if cluster.names_of(kind) == [SERVE]]


def report(cluster: FakeCluster, *found: tuple[str, str, str, str], parent: Any = OURS, behind: int = 0) -> None:
    """Act as a Gateway controller: report conditions (type, status, reason, message) for the route."""
    route = cluster.objects[HTTP_ROUTE, SERVE]
    generation = route["metadata"].get("generation", 1) - behind
    told = [
        {"type": kind, "status": word, "reason": reason, "message": text, "observedGeneration": generation}
        for kind, word, reason, text in found
    ]
    route["metadata"].setdefault("generation", 1)
    route["status"] = {"parents": [{"parentRef": parent, "controllerName": "example.com/c", "conditions": told}]}


def with_refusals(cluster: FakeCluster, steps: Iterable[Callable[[FakeCluster], None]]) -> None:
    """Let the steps succeed one after the other, while each pass attempts a write that is refused."""
    for step in steps:
        for _ in range(3):
            run(cluster)
        step(cluster)
    run(cluster)


@pytest.mark.parametrize("kind", [INGRESS, HTTP_ROUTE])
def test_route_and_its_url_appear_with_the_deployment_and_disappear_with_the_field(kind: str) -> None:
    cluster = drive(EXPOSED[kind], 2)
    assert routes(cluster) == []
    assert conditions(cluster)["Exposed"] == ("Unknown", "Waiting")
    assert "url" not in status(cluster)
    cluster = drive(EXPOSED[kind])
    assert routes(cluster) == [kind]
    assert status(cluster)["url"] == f"https://{HOST}"
    assert status(cluster)["serving"]["url"] == INSIDE, "the load test stays inside the cluster"
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone"), "no controller has refused anything"
    cluster.change_spec(a_model().spec)
    settle(cluster)
    assert routes(cluster) == []
    assert status(cluster)["url"] == INSIDE
    assert conditions(cluster)["Exposed"] == ("True", "Skipped")
    assert message(cluster, "Exposed") == "disabled: spec.serving.expose is not set"


@pytest.mark.parametrize(("first", "second"), [(INGRESS, HTTP_ROUTE), (HTTP_ROUTE, INGRESS)])
def test_other_way_replaces_the_route(first: str, second: str) -> None:
    cluster = drive(EXPOSED[first])
    cluster.change_spec(EXPOSED[second].spec)
    settle(cluster)
    assert routes(cluster) == [second]


def test_exposing_changes_the_route_only_and_starts_nothing() -> None:
    cluster = drive(a_model())
    before = {key: copy.deepcopy(item) for key, item in cluster.objects.items()}
    records = copy.deepcopy(status(cluster))
    cluster.change_spec(EXPOSED[INGRESS].spec)
    settle(cluster)
    moved = EXPOSED[INGRESS].with_spec("serving.expose.host", "classifier.example.net")
    cluster.change_spec(moved.spec)
    settle(cluster)
    (rule,) = spec_of(cluster, INGRESS)["rules"]
    assert rule["host"] == "classifier.example.net"
    assert spec_of(cluster, INGRESS)["tls"] == [
        {"hosts": ["classifier.example.net"], "secretName": "toxicity-tls"}
    ]
    assert status(cluster)["url"] == "https://classifier.example.net"
    assert {key: item for key, item in cluster.objects.items() if key[0] != INGRESS} == before
    for stage in ("training", "quantization", "evaluation", "loadTestJob"):
        assert status(cluster)[stage]["fingerprint"] == records[stage]["fingerprint"]
    assert status(cluster)["serving"]["fingerprint"] == records["serving"]["fingerprint"]


def set_host(spec: dict[str, Any]) -> None:
    spec["rules"][0]["host"] = "evil.example"


def add_path(spec: dict[str, Any]) -> None:
    paths = spec["rules"][0]["http"]["paths"]
    paths.append({**paths[0], "path": "/admin"})


def add_certificate(spec: dict[str, Any]) -> None:
    spec["tls"].append({"hosts": ["evil.example"], "secretName": "evil"})


def add_host_name(spec: dict[str, Any]) -> None:
    spec["hostnames"].append("evil.example")


def add_parent(spec: dict[str, Any]) -> None:
    spec["parentRefs"].append({"name": "evil"})


def add_backend(spec: dict[str, Any]) -> None:
    spec["rules"][0]["backendRefs"].append({"name": "evil", "port": 80})


def add_match(spec: dict[str, Any]) -> None:
    spec["rules"][0]["matches"].append({"path": {"type": "PathPrefix", "value": "/admin"}})


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (INGRESS, set_host),
        (INGRESS, add_path),
        (INGRESS, add_certificate),
        (HTTP_ROUTE, add_host_name),
        (HTTP_ROUTE, add_parent),
        (HTTP_ROUTE, add_backend),
        (HTTP_ROUTE, add_match),
    ],
)
def test_each_change_by_hand_is_undone(kind: str, change: Callable[[dict[str, Any]], None]) -> None:
    cluster = drive(EXPOSED[kind])
    before = copy.deepcopy(spec_of(cluster, kind))
    change(spec_of(cluster, kind))
    settle(cluster)
    assert spec_of(cluster, kind) == before


def test_defaults_of_the_api_server_are_no_change() -> None:
    cluster = drive(EXPOSED[HTTP_ROUTE])
    route = spec_of(cluster, HTTP_ROUTE)
    route["parentRefs"][0] |= {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
    route["rules"][0]["backendRefs"][0] |= {"group": "", "kind": "Service", "weight": 1}
    cluster.writes = 0
    run(cluster)
    assert cluster.writes == 0


@pytest.mark.parametrize("kind", [INGRESS, HTTP_ROUTE])
def test_route_of_another_owner_is_left_alone_and_ready_names_it(kind: str) -> None:
    theirs = {"metadata": {"name": SERVE, "uid": "uid-of-theirs", "resourceVersion": "1"}, "spec": {"rules": []}}
    cluster = FakeCluster(EXPOSED[kind].raw())
    cluster.objects[kind, SERVE] = {"kind": kind, **copy.deepcopy(theirs)}
    with_refusals(cluster, STEPS)
    assert cluster.objects[kind, SERVE] == {"kind": kind, **theirs}
    assert conditions(cluster)["Ready"] == ("False", "NotOurs")
    assert f"{kind} {SERVE}" in message(cluster, "Ready")
    assert conditions(cluster)["LoadTested"][0] == "True", "the model serves inside the cluster"
    assert status(cluster)["url"] == INSIDE
    cluster.change_spec(a_model().spec)
    settle(cluster)
    assert cluster.objects[kind, SERVE] == {"kind": kind, **theirs}
    del cluster.objects[kind, SERVE]
    cluster.change_spec(EXPOSED[kind].spec)
    settle(cluster)
    assert conditions(cluster)["Ready"][0] == "True"


@pytest.mark.parametrize("kind", [INGRESS, HTTP_ROUTE])
def test_service_of_another_owner_is_never_exposed(kind: str) -> None:
    theirs = {"metadata": {"name": SERVE, "namespace": "default", "uid": "uid-of-theirs", "resourceVersion": "1"}}
    cluster = FakeCluster(EXPOSED[kind].raw())
    cluster.objects["Service", SERVE] = {"apiVersion": "v1", "kind": "Service", **theirs}
    with_refusals(cluster, STEPS[:4])
    assert routes(cluster) == []
    cluster = drive(EXPOSED[kind])
    cluster.objects["Service", SERVE] = {"apiVersion": "v1", "kind": "Service", **theirs}
    run(cluster)
    assert routes(cluster) == []
    assert conditions(cluster)["Ready"] == ("False", "NotOurs")
    assert "url" not in status(cluster)
    del cluster.objects["Service", SERVE]
    settle(cluster)
    assert routes(cluster) == [kind]


def test_without_the_gateway_api_the_model_serves_inside_and_ready_names_the_remedy() -> None:
    cluster = FakeCluster(EXPOSED[HTTP_ROUTE].raw())
    cluster.kinds_without_crd = {HTTP_ROUTE}
    take_steps(cluster)
    assert conditions(cluster)["Exposed"] == ("False", "GatewayApiMissing")
    assert conditions(cluster)["Ready"] == ("False", "GatewayApiMissing")
    assert conditions(cluster)["Stalled"] == ("True", "GatewayApiMissing")
    assert conditions(cluster)["LoadTested"][0] == "True"
    assert (status(cluster)["stage"], status(cluster)["url"]) == ("NotExposed", INSIDE)
    for words in ("install the Gateway API", "serving.expose.ingress"):
        assert words in message(cluster, "Ready")
    cluster.kinds_without_crd = set()
    settle(cluster)
    assert routes(cluster) == [HTTP_ROUTE]
    assert conditions(cluster)["Ready"][0] == "True"


def test_without_the_gateway_api_an_ingress_lacks_nothing() -> None:
    cluster = FakeCluster(EXPOSED[INGRESS].raw())
    cluster.kinds_without_crd = {HTTP_ROUTE}
    take_steps(cluster)
    assert routes(cluster) == [INGRESS]
    assert conditions(cluster)["Ready"][0] == "True"


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [
        ((), ("Unknown", "Waiting"), "Gateway infra/public"),
        ((ACCEPTED, RESOLVED), ("True", "RouteAccepted"), f"https://{HOST}"),
        ((ACCEPTED,), ("True", "RouteAccepted"), f"https://{HOST}"),
        (
            (("Accepted", "False", "NoMatchingListenerHostname", "no listener for it"),),
            ("False", "RouteRefused"),
            "NoMatchingListenerHostname: no listener for it",
        ),
        (
            (ACCEPTED, ("ResolvedRefs", "False", "RefNotPermitted", "not allowed")),
            ("False", "RouteRefused"),
            "RefNotPermitted: not allowed",
        ),
        (
            (("Accepted", "False", "Pending", "waits"),),
            ("Unknown", "Waiting"),
            "Pending: waits",
        ),
        (
            (ACCEPTED, ("ResolvedRefs", "False", "BackendNotFound", "no Service")),
            ("Unknown", "Waiting"),
            "BackendNotFound: no Service",
        ),
    ],
)
def test_condition_follows_what_the_gateway_reports(
    found: tuple[tuple[str, str, str, str], ...], wanted: tuple[str, str], words: str
) -> None:
    cluster = drive(EXPOSED[HTTP_ROUTE])
    report(cluster, *found)
    settle(cluster)
    assert conditions(cluster)["Exposed"] == wanted
    assert words in message(cluster, "Exposed")
    refused = wanted[0] == "False"
    assert conditions(cluster)["Ready"][0] == ("False" if refused else "True")
    assert status(cluster)["stage"] == ("NotExposed" if refused else "Ready")


def test_reports_for_another_parent_or_an_earlier_generation_do_not_count() -> None:
    cluster = drive(EXPOSED[HTTP_ROUTE])
    report(cluster, ("Accepted", "False", "NotAllowedByListeners", "x"), parent={**OURS, "name": "private"})
    settle(cluster)
    assert conditions(cluster)["Exposed"] == ("Unknown", "Waiting")
    cluster.objects[HTTP_ROUTE, SERVE]["metadata"]["generation"] = 2
    report(cluster, ACCEPTED, RESOLVED, behind=1)
    settle(cluster)
    assert conditions(cluster)["Exposed"] == ("Unknown", "Waiting")


def test_gateway_in_the_namespace_of_the_model_is_recognized_without_its_namespace() -> None:
    cluster = drive(a_model().with_spec("serving.expose", {"host": HOST, "gateway": {"name": "public"}}))
    report(cluster, ACCEPTED, RESOLVED, parent={"name": "public", "namespace": "default"})
    settle(cluster)
    assert conditions(cluster)["Exposed"] == ("True", "RouteAccepted")


@pytest.mark.parametrize("address", [{"ip": "192.0.2.7"}, {"hostname": "lb.example.net"}])
def test_ingress_is_exposed_once_it_has_an_address(address: dict[str, str]) -> None:
    cluster = drive(EXPOSED[INGRESS])
    assert conditions(cluster)["Exposed"] == ("Unknown", "Waiting")
    for words in (f"Ingress {SERVE}", "class nginx", "kubectl get ingressclass"):
        assert words in message(cluster, "Exposed")
    cluster.objects[INGRESS, SERVE]["status"] = {"loadBalancer": {"ingress": [address]}}
    settle(cluster)
    assert conditions(cluster)["Exposed"] == ("True", "RouteAccepted")
    assert next(iter(address.values())) in message(cluster, "Exposed")


def test_ingress_without_a_class_names_the_field() -> None:
    cluster = drive(a_model().with_spec("serving.expose", {"host": HOST, "ingress": {}}))
    assert "serving.expose.ingress.className" in message(cluster, "Exposed")
    assert status(cluster)["url"] == f"http://{HOST}"


@pytest.mark.parametrize(("token", "warned"), [(None, True), ("forum-token", False)])
def test_service_without_a_token_is_exposed_with_a_warning(token: str | None, warned: bool) -> None:
    cluster = drive(EXPOSED[HTTP_ROUTE].with_spec("serving.apiTokenSecretName", token))
    assert ("serving.apiTokenSecretName" in message(cluster, "Exposed")) is warned
    report(cluster, ACCEPTED, RESOLVED)
    settle(cluster)
    assert ("serving.apiTokenSecretName" in message(cluster, "Exposed")) is warned
