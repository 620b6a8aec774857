"""The load test's Job: Locust against the Service, with the test split's texts, writing status.loadTest."""

from __future__ import annotations

from pathlib import Path

from toxicity_api.stage_config import LoadTestConfig
from toxicity_operator import names
from toxicity_operator.chain import JobStage
from toxicity_operator.manifests.common import (
    ARTIFACTS,
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

DEFAULT_REQUESTS = {"cpu": "100m", "memory": "256Mi"}


def build_loadtest_job(model: Model, stage: JobStage, training_fingerprint: str, image: str) -> Manifest:
    """The Job of one run; it is not retried, since a second try would measure something else."""
    load = model.spec.load_test
    config = LoadTestConfig(
        model=model.name,
        namespace=model.namespace,
        fingerprint=stage.fingerprint,
        url=names.service_url(model.name, model.namespace),
        texts_path=Path(ARTIFACTS, f"train-{training_fingerprint}", "splits", "test.csv"),
        serving_deployment=names.serving_name(model.name),
        load_test=load,
    )
    volume, mount = artifacts_volume(model, read_only=True)
    volumes, mounts = scratch_volumes()
    main = container(
        stage.component,
        image,
        command=["python", "-m", "toxicity_loadtest"],
        env=env(stage_env(config, load)),
        resources=resources(load, DEFAULT_REQUESTS),
        volumeMounts=[mount, *mounts],
    )
    pod = {
        "serviceAccountName": names.loadtest_account_name(model.name),
        "automountServiceAccountToken": True,
        "containers": [main],
        "volumes": [volume, *volumes],
        **placement(load),
    }
    return build_job(model, stage, pod, backoff_limit=0, deadline_seconds=load.active_deadline_seconds)
