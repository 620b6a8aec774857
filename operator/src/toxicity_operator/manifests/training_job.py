"""The training Job: init containers bring the data and the base model, one container trains."""

from __future__ import annotations

from toxicity_api.stage_config import TrainingConfig
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
from toxicity_operator.manifests.sources import base_model_source, dataset_source, tools_container
from toxicity_operator.model import Model


def build_training_job(model: Model, stage: JobStage, image: str) -> Manifest:
    """The Job that trains and merges the adapter."""
    spec, training = model.spec, model.spec.training
    volume, mount = artifacts_volume(model, read_only=False)
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
        training=training,
    )
    volumes, mounts = scratch_volumes()
    init = dataset.init_containers + base.init_containers
    if dataset.needs_tools or base.needs_tools:
        init = [tools_container(image), *init]
        volumes.append({"name": "tools", "emptyDir": {}})
    main = container(
        stage.component,
        image,
        command=["python", "-m", "toxicity_training"],
        env=env(stage_env(config, training)),
        resources=resources(training),
        volumeMounts=[mount, *dataset.mounts, *base.mounts, *mounts],
    )
    pod: Manifest = {
        **({"initContainers": init} if init else {}),
        "containers": [main],
        "volumes": [volume, *dataset.volumes, *base.volumes, *volumes],
        **placement(training),
    }
    return build_job(
        model,
        stage,
        pod,
        backoff_limit=training.backoff_limit,
        deadline_seconds=training.active_deadline_seconds,
    )
