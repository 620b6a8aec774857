"""The load test's Job: Locust against the Service, with the test split's texts, writing status.loadTest.

With several workers it is an indexed Job: the pod of index 0 leads and reports, the others offer the load. A failed
worker does not end the others: the master finishes what can be told and marks it as partial.
"""

from __future__ import annotations

from pathlib import Path

from toxicity_api.stage_config import LoadTestConfig
from toxicity_operator import names
from toxicity_operator.chain import JobStage
from toxicity_operator.manifests.common import (
    ARTIFACTS,
    Manifest,
    env,
    manifest,
    stage_env,
)
from toxicity_operator.manifests.job import build_job, stage_pod
from toxicity_operator.manifests.serving import api_token_env
from toxicity_operator.model import Model

DEFAULT_REQUESTS = {"cpu": "100m", "memory": "384Mi"}
MASTER_PORT = 5557


def build_loadtest_job(
    model: Model, stage: JobStage, training_fingerprint: str, image: str, serving_fingerprint: str = ""
) -> Manifest:
    """The Job of one run; it is not retried, since a second try would measure something else."""
    load = model.spec.load_test
    config = LoadTestConfig(
        model=model.name,
        namespace=model.namespace,
        fingerprint=stage.fingerprint,
        url=names.service_url(model.name, model.namespace),
        texts_path=Path(ARTIFACTS, f"train-{training_fingerprint}", "splits", "test.csv"),
        serving_deployment=names.serving_name(model.name),
        serving_fingerprint=serving_fingerprint,
        master_host=names.loadtest_master_host(stage.job_name, model.name, model.namespace),
        master_port=MASTER_PORT,
        load_test=load,
    )
    variables = [*env(stage_env(config, load)), *api_token_env(model)]
    pod = {
        "serviceAccountName": names.loadtest_account_name(model.name),
        "automountServiceAccountToken": True,
        **stage_pod(model, stage, image, "toxicity_loadtest", variables, load, DEFAULT_REQUESTS),
    }
    if load.workers > 1:
        pod["subdomain"] = names.loadtest_service_name(model.name)
    job = build_job(model, stage, pod, backoff_limit=0, deadline_seconds=load.active_deadline_seconds)
    return _indexed(job, load.workers + 1) if load.workers > 1 else job


def build_loadtest_service(model: Model) -> Manifest | None:
    """The headless Service that gives the pods of an indexed Job their names; None with one worker."""
    if model.spec.load_test.workers == 1:
        return None
    spec = {
        "clusterIP": "None",
        # the workers look for the master while it is not ready, which no probe of it ever says
        "publishNotReadyAddresses": True,
        "selector": names.selector_labels(model.name, names.LOADTEST),
        "ports": [{"name": "locust", "port": MASTER_PORT, "targetPort": MASTER_PORT}],
    }
    return manifest("v1", "Service", model, names.loadtest_service_name(model.name), names.LOADTEST, spec=spec)


def _indexed(job: Manifest, pods: int) -> Manifest:
    """The Job with a pod per index; one that fails is not started again and lets the others come to their end."""
    spec = {key: value for key, value in job["spec"].items() if key != "backoffLimit"}
    index = {"completionMode": "Indexed", "completions": pods, "parallelism": pods, "backoffLimitPerIndex": 0}
    return {**job, "spec": {**index, **spec}}
