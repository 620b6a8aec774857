"""The load test Job: Locust sends texts of the test split to the Service and writes status.loadTest.

With several workers it is an indexed Job: the pod with index 0 is the Locust master, the others are workers. If a
worker fails, the others continue and the master marks the results as partial.
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
from toxicity_operator.manifests.object_store import artifact_owner
from toxicity_operator.manifests.serving import api_token_env
from toxicity_operator.model import Model

DEFAULT_REQUESTS = {"cpu": "100m", "memory": "384Mi"}
MASTER_PORT = 5557
TRACE_FOLDER = "/data/trace"


def build_loadtest_job(
    model: Model, stage: JobStage, training_fingerprint: str, image: str, serving_fingerprint: str = ""
) -> Manifest:
    """The Job of one run. It is not retried, because a second attempt would measure a different state."""
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
        tokenizer_path=Path(ARTIFACTS, f"train-{training_fingerprint}", "model", "tokenizer.json")
        if load.bucket_unit == "tokens"
        else None,
        trace_path=Path(TRACE_FOLDER, load.trace.key) if load.trace else None,
        load_test=load,
        object_store=model.spec.storage.object_store,
        owner=artifact_owner(model),
    )
    variables = [*env(stage_env(config, load)), *api_token_env(model)]
    pod = {
        "serviceAccountName": names.loadtest_account_name(model.name),
        "automountServiceAccountToken": True,
        **stage_pod(
            model,
            stage,
            image,
            "toxicity_loadtest",
            variables,
            load,
            DEFAULT_REQUESTS,
            more_volumes=[{"name": "trace", "configMap": {"name": load.trace.name}}] if load.trace else [],
            more_mounts=[{"name": "trace", "mountPath": TRACE_FOLDER, "readOnly": True}] if load.trace else [],
        ),
    }
    if load.workers > 1:
        pod["subdomain"] = names.loadtest_service_name(model.name)
    job = build_job(model, stage, pod, backoff_limit=0, deadline_seconds=load.active_deadline_seconds)
    return _indexed(job, load.workers + 1) if load.workers > 1 else job


def build_loadtest_service(model: Model) -> Manifest | None:
    """The headless Service for the host names of an indexed Job's pods; None with one worker."""
    if model.spec.load_test.workers == 1:
        return None
    spec = {
        "clusterIP": "None",
        # the workers must resolve the master before it is ready
        "publishNotReadyAddresses": True,
        "selector": names.selector_labels(model.name, names.LOADTEST),
        "ports": [{"name": "locust", "port": MASTER_PORT, "targetPort": MASTER_PORT}],
    }
    return manifest("v1", "Service", model, names.loadtest_service_name(model.name), names.LOADTEST, spec=spec)


def _indexed(job: Manifest, pods: int) -> Manifest:
    """The Job with one pod per index. A failed index is not retried and does not stop the others."""
    spec = {key: value for key, value in job["spec"].items() if key != "backoffLimit"}
    index = {"completionMode": "Indexed", "completions": pods, "parallelism": pods, "backoffLimitPerIndex": 0}
    return {**job, "spec": {**index, **spec}}
