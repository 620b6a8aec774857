"""The quantization Job, which reads the training's output folder and writes its own."""

from __future__ import annotations

from toxicity_api.stage_config import QuantizationConfig, Retention
from toxicity_operator.chain import JobStage
from toxicity_operator.manifests.common import Manifest, env, stage_env
from toxicity_operator.manifests.job import build_job, stage_pod
from toxicity_operator.manifests.object_store import artifact_owner
from toxicity_operator.model import Model


def build_quantization_job(
    model: Model, stage: JobStage, training_fingerprint: str, image: str, retention: Retention | None = None
) -> Manifest:
    """The Job that quantizes the merged model and evaluates the result."""
    quantization = model.spec.quantization
    config = QuantizationConfig(
        model=model.name,
        fingerprint=stage.fingerprint,
        training_fingerprint=training_fingerprint,
        training=model.spec.training,
        quantization=quantization,
        retention=retention,
        object_store=model.spec.storage.object_store,
        owner=artifact_owner(model),
    )
    variables = env(stage_env(config, quantization))
    return build_job(
        model,
        stage,
        stage_pod(model, stage, image, "toxicity_quantization", variables, quantization),
        backoff_limit=quantization.backoff_limit,
        deadline_seconds=quantization.active_deadline_seconds,
    )
