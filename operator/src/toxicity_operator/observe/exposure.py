"""Reads from an Ingress or HTTPRoute whether its controller serves it. Pure.

An ingress controller reports only the address at which it serves an Ingress, and some report none. A Gateway
controller reports for each Gateway of an HTTPRoute whether it accepts the route and finds its backends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from toxicity_api.types import Raw
from toxicity_operator.manifests.expose import HTTP_ROUTE, INGRESS

ACCEPTED, RESOLVED = "Accepted", "ResolvedRefs"

LAGGING = frozenset({"Pending", "BackendNotFound"})
"""Reasons of a controller that has not seen the Gateway or the Service yet. The operator creates the Service first."""


@dataclass(frozen=True)
class RouteState:
    """`accepted`: whether a controller serves the route, None if not reported. `message`: its words, or the address."""

    accepted: bool | None
    message: str = ""
    class_name: str | None = None
    """Class of an Ingress, which the API server sets if the spec does not. None for an HTTPRoute."""


def read_routes(objects: Iterable[Raw]) -> dict[str, RouteState]:
    """The state of each route by kind."""
    read = {INGRESS: _of_ingress, HTTP_ROUTE: _of_http_route}
    return {item["kind"]: read[item["kind"]](item) for item in objects if item["kind"] in read}


def _of_ingress(item: Raw) -> RouteState:
    points = item.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    addresses = [str(point.get("ip") or point.get("hostname")) for point in points]
    return RouteState(True if addresses else None, ", ".join(addresses), item["spec"].get("ingressClassName"))


def _of_http_route(item: Raw) -> RouteState:
    conditions = _conditions(item)
    refusals = [c for c in conditions if c["type"] in (ACCEPTED, RESOLVED) and c["status"] == "False"]
    if refusals:
        lags = all(condition["reason"] in LAGGING for condition in refusals)
        words = "; ".join(f"{condition['reason']}: {condition.get('message', '')}" for condition in refusals)
        return RouteState(None if lags else False, words)
    accepted = any(c["type"] == ACCEPTED and c["status"] == "True" for c in conditions)
    return RouteState(True if accepted else None)


def _conditions(route: Raw) -> list[Raw]:
    """The conditions that controllers reported for the route's current spec and Gateway."""
    namespace, generation = route["metadata"].get("namespace", ""), route["metadata"].get("generation", 0)
    wanted = [_parent(reference, namespace) for reference in route["spec"].get("parentRefs") or []]
    reports = route.get("status", {}).get("parents") or []
    found = [report for report in reports if _parent(report["parentRef"], namespace) in wanted]
    conditions = [condition for report in found for condition in report.get("conditions") or []]
    return [each for each in conditions if each.get("observedGeneration", generation) >= generation]


def _parent(reference: Raw, namespace: str) -> tuple[Any, ...]:
    """Namespace, name and listener of a Gateway. The namespace defaults to that of the route."""
    return reference.get("namespace", namespace), reference["name"], reference.get("sectionName")
