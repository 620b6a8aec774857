"""The training Job: init containers provide the data set and the base model, one container trains."""

from __future__ import annotations

from toxicity_api.stage_config import Retention, TrainingConfig
from toxicity_operator.chain import JobStage
from toxicity_operator.manifests.common import Manifest, artifacts_volume, env, stage_env
from toxicity_operator.manifests.job import build_job, stage_pod
from toxicity_operator.manifests.object_store import artifact_owner
from toxicity_operator.manifests.sources import (
    add_sources,
    base_model_name,
    base_model_source,
    dataset_name,
    dataset_source,
)
from toxicity_operator.model import Model


def build_training_job(model: Model, stage: JobStage, image: str, retention: Retention | None = None) -> Manifest:
    """The Job that trains the adapter and merges it into the base model."""
    spec, training = model.spec, model.spec.training
    _, mount = artifacts_volume(model, read_only=False)
    dataset = dataset_source(spec, mount, image)
    base = base_model_source(spec, mount, image)
    config = TrainingConfig(
        model=model.name,
        fingerprint=stage.fingerprint,
        dataset_path=dataset.path,
        text_column=spec.dataset.text_column,
        label_column=spec.dataset.label_column,
        split=spec.dataset.split,
        base_model_path=base.path,
        training=training.with_normal_form(stage.normal_form),
        retention=retention,
        dataset=dataset_name(spec.dataset),
        base_model=base_model_name(spec.base_model),
        object_store=spec.storage.object_store,
        owner=artifact_owner(model),
    )
    pod = stage_pod(
        model,
        stage,
        image,
        "toxicity_training",
        env(stage_env(config, training)),
        training,
        more_volumes=[*dataset.volumes, *base.volumes],
        more_mounts=[*dataset.mounts, *base.mounts],
    )
    add_sources(pod, [dataset, base], image, training)
    return build_job(
        model,
        stage,
        pod,
        backoff_limit=training.backoff_limit,
        deadline_seconds=training.active_deadline_seconds,
    )
