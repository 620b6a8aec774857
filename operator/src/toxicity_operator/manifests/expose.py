"""The route from outside the cluster to the serving Service: an Ingress, or an HTTPRoute of the Gateway API."""

from __future__ import annotations

from collections.abc import Mapping

from toxicity_api.spec import Expose
from toxicity_api.spec.expose import GatewayRoute, IngressRoute
from toxicity_operator import names
from toxicity_operator.manifests.common import Manifest, manifest
from toxicity_operator.manifests.serving import SERVICE_PORT
from toxicity_operator.model import Model

INGRESS = "Ingress"
HTTP_ROUTE = "HTTPRoute"

ROUTES: Mapping[str, str] = {INGRESS: "networking.k8s.io/v1", HTTP_ROUTE: "gateway.networking.k8s.io/v1"}
"""apiVersion by kind. A model has at most one of them."""


def route_kind(expose: Expose) -> str:
    """The kind of the route that the spec requests."""
    return INGRESS if expose.ingress is not None else HTTP_ROUTE


def build_route(model: Model) -> Manifest | None:
    """The Ingress or HTTPRoute; None if the spec does not expose the Service."""
    expose = model.spec.serving.expose
    if expose is None:
        return None
    kind, name = route_kind(expose), names.serving_name(model.name)
    spec, annotations = {}, {}
    if expose.ingress is not None:
        spec, annotations = _ingress(expose.host, expose.ingress, name), expose.ingress.annotations
    elif expose.gateway is not None:
        spec = _http_route(expose.host, expose.gateway, name)
    route = manifest(ROUTES[kind], kind, model, name, names.SERVE, spec=spec)
    if annotations:
        route["metadata"]["annotations"] = dict(annotations)
    return route


def _ingress(host: str, ingress: IngressRoute, service: str) -> Manifest:
    backend = {"service": {"name": service, "port": {"number": SERVICE_PORT}}}
    spec: Manifest = {
        "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
    }
    if ingress.class_name is not None:
        spec["ingressClassName"] = ingress.class_name
    if ingress.tls_secret_name is not None:
        spec["tls"] = [{"hosts": [host], "secretName": ingress.tls_secret_name}]
    return spec


def _http_route(host: str, gateway: GatewayRoute, service: str) -> Manifest:
    parent = {"name": gateway.name}
    if gateway.namespace is not None:
        parent["namespace"] = gateway.namespace
    if gateway.section_name is not None:
        parent["sectionName"] = gateway.section_name
    return {
        "parentRefs": [parent],
        "hostnames": [host],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [{"name": service, "port": SERVICE_PORT}],
            }
        ],
    }
