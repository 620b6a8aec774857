"""The autoscaler of the serving Deployment: a HorizontalPodAutoscaler, or a KEDA ScaledObject.

CPU needs only a HorizontalPodAutoscaler. Requests in flight are a metric of the serving pods, which a
HorizontalPodAutoscaler reads through a metrics API. KEDA serves that API from Prometheus and creates the
HorizontalPodAutoscaler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toxicity_api.spec.serving import Autoscaling
from toxicity_operator import names
from toxicity_operator.manifests.common import Manifest, manifest
from toxicity_operator.model import Model

HPA = "HorizontalPodAutoscaler"
SCALED_OBJECT = "ScaledObject"

SCALERS: Mapping[str, tuple[str, str]] = {
    "cpu": ("autoscaling/v2", HPA),
    "inFlight": ("keda.sh/v1alpha1", SCALED_OBJECT),
}
"""apiVersion and kind of the autoscaler by metric. A model has at most one of them."""


@dataclass(frozen=True)
class Bounds:
    """Minimum and maximum replicas of an autoscaler."""

    lowest: int
    highest: int


def build_autoscaler(model: Model, bounds: Bounds | None) -> Manifest | None:
    """The autoscaler within `bounds`; None if the spec does not autoscale."""
    autoscaling = model.spec.serving.autoscaling
    if autoscaling is None or bounds is None:
        return None
    build = {HPA: _horizontal_pod_autoscaler, SCALED_OBJECT: _scaled_object}
    api_version, kind = SCALERS[autoscaling.metric]
    spec = build[kind](model, autoscaling, bounds)
    return manifest(api_version, kind, model, names.serving_name(model.name), names.SERVE, spec=spec)


def in_flight_query(model: Model) -> str:
    """The Prometheus query for the model's requests in flight.

    The chart's ServiceMonitor sets both labels. Any other scrape configuration must set them too.
    """
    labels = f'namespace="{model.namespace}",toxicity_dev_model="{model.name}"'
    return f"sum(toxicity_requests_in_flight{{{labels}}})"


def _horizontal_pod_autoscaler(model: Model, autoscaling: Autoscaling, bounds: Bounds) -> Manifest:
    target = {"type": "Utilization", "averageUtilization": autoscaling.wanted_value}
    behavior = _behavior(autoscaling)
    return {
        "scaleTargetRef": _scaled(model),
        "minReplicas": bounds.lowest,
        "maxReplicas": bounds.highest,
        "metrics": [{"type": "Resource", "resource": {"name": autoscaling.metric, "target": target}}],
        **({"behavior": behavior} if behavior else {}),
    }


def _scaled_object(model: Model, autoscaling: Autoscaling, bounds: Bounds) -> Manifest:
    """The ScaledObject. Missing metrics fail the trigger instead of counting as 0, so the replicas stay unchanged."""
    behavior = _behavior(autoscaling)
    trigger = {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": autoscaling.prometheus_address,
            "query": in_flight_query(model),
            "threshold": str(autoscaling.wanted_value),
            "ignoreNullValues": "false",
        },
    }
    return {
        "scaleTargetRef": _scaled(model),
        "minReplicaCount": bounds.lowest,
        "maxReplicaCount": bounds.highest,
        "triggers": [trigger],
        **({"advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}}} if behavior else {}),
    }


def _scaled(model: Model) -> Manifest:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": names.serving_name(model.name)}


def _behavior(autoscaling: Autoscaling) -> Manifest:
    seconds = autoscaling.scale_down_stabilization_seconds
    return {} if seconds is None else {"scaleDown": {"stabilizationWindowSeconds": seconds}}
