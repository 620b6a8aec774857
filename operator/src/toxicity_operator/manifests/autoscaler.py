"""The HorizontalPodAutoscaler, which then owns the Deployment's replicas."""

from __future__ import annotations

from toxicity_operator import names
from toxicity_operator.manifests.common import Manifest, manifest
from toxicity_operator.model import Model
from toxicity_operator.pinning import Bounds


def build_autoscaler(model: Model, bounds: Bounds | None) -> Manifest | None:
    """The autoscaler, within `bounds`; None when the spec asks for none."""
    autoscaling = model.spec.serving.autoscaling
    if autoscaling is None or bounds is None:
        return None
    name = names.serving_name(model.name)
    target = {"type": "Utilization", "averageUtilization": autoscaling.target}
    return manifest(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        model,
        name,
        names.SERVE,
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": bounds.lowest,
            "maxReplicas": bounds.highest,
            "metrics": [{"type": "Resource", "resource": {"name": autoscaling.metric, "target": target}}],
        },
    )
