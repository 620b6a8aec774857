"""The quantization Job: reads the training's folder of the model's volume, writes its own."""

from __future__ import annotations

from toxicity_api.stage_config import QuantizationConfig
from toxicity_operator.chain import JobStage
from toxicity_operator.manifests.common import (
    Manifest,
    artifacts_volume,
    container,
    env,
    placement,
    resources,
    scratch_volumes,
    stage_env,
)
from toxicity_operator.manifests.job import build_job
from toxicity_operator.model import Model


def build_quantization_job(model: Model, stage: JobStage, training_fingerprint: str, image: str) -> Manifest:
    """The Job that quantizes the merged model and measures it again."""
    quantization = model.spec.quantization
    config = QuantizationConfig(
        model=model.name,
        fingerprint=stage.fingerprint,
        training_fingerprint=training_fingerprint,
        training=model.spec.training,
        quantization=quantization,
    )
    volume, mount = artifacts_volume(model, read_only=False)
    volumes, mounts = scratch_volumes()
    main = container(
        stage.component,
        image,
        command=["python", "-m", "toxicity_quantization"],
        env=env(stage_env(config, quantization)),
        resources=resources(quantization),
        volumeMounts=[mount, *mounts],
    )
    return build_job(
        model,
        stage,
        {"containers": [main], "volumes": [volume, *volumes], **placement(quantization)},
        backoff_limit=quantization.backoff_limit,
        deadline_seconds=quantization.active_deadline_seconds,
    )
