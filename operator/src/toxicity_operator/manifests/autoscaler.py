"""The autoscaler, which then owns the Deployment's replicas: a HorizontalPodAutoscaler, or KEDA's order for one.

By CPU Kubernetes scales alone. Requests in flight are a figure of the serving pods, which a HorizontalPodAutoscaler
only gets through a metrics API: KEDA serves that from Prometheus, and makes the HorizontalPodAutoscaler itself.
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
"""apiVersion and kind of the object that scales by a metric. A model has at most one of them."""


@dataclass(frozen=True)
class Bounds:
    """The fewest and the most replicas an autoscaler may choose."""

    lowest: int
    highest: int


def build_autoscaler(model: Model, bounds: Bounds | None) -> Manifest | None:
    """The autoscaler, within `bounds`; None when the spec asks for none."""
    autoscaling = model.spec.serving.autoscaling
    if autoscaling is None or bounds is None:
        return None
    build = {HPA: _horizontal_pod_autoscaler, SCALED_OBJECT: _scaled_object}
    api_version, kind = SCALERS[autoscaling.metric]
    spec = build[kind](model, autoscaling, bounds)
    return manifest(api_version, kind, model, names.serving_name(model.name), names.SERVE, spec=spec)


def in_flight_query(model: Model) -> str:
    """The requests that the model's pods are answering, as Prometheus is asked for them.

    Both labels come with the chart's ServiceMonitor; another way of scraping has to set them.
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
    """Without figures the trigger fails, instead of counting as zero: so the replicas stay and a condition tells."""
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
