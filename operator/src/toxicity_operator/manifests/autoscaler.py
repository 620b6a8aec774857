"""The HorizontalPodAutoscaler, which then owns the Deployment's replicas."""

from __future__ import annotations

from toxicity_operator import names
from toxicity_operator.manifests.common import Manifest, manifest
from toxicity_operator.model import Model


def build_autoscaler(model: Model) -> Manifest | None:
    """The autoscaler; None when the spec asks for none."""
    autoscaling = model.spec.serving.autoscaling
    if autoscaling is None:
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
            "minReplicas": autoscaling.min_replicas,
            "maxReplicas": autoscaling.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": autoscaling.metric, "target": target}}],
        },
    )
