"""Base of the stage Jobs: one pod at a time, no container restarts, no retry after invalid input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_api.spec import PodFields
from toxicity_operator import names
from toxicity_operator.chain import JobStage, pod_fields
from toxicity_operator.manifests import object_store
from toxicity_operator.manifests.common import (
    DEFAULT_REQUESTS,
    Manifest,
    artifacts_volume,
    container,
    manifest,
    placement,
    pod_template,
    resources,
    scratch_volumes,
)
from toxicity_operator.manifests.pods import queue_labels, with_placement, with_pod_settings
from toxicity_operator.model import Model

TTL_SECONDS = 86400


def stage_pod(
    model: Model,
    stage: JobStage,
    image: str,
    module: str,
    variables: Sequence[Manifest],
    fields: PodFields,
    default_requests: Mapping[str, str] = DEFAULT_REQUESTS,
    *,
    more_volumes: Sequence[Manifest] = (),
    more_mounts: Sequence[Manifest] = (),
) -> Manifest:
    """The pod spec of a stage: one container that runs `module`, with the artifacts volume and scratch volumes."""
    volume, mount = artifacts_volume(model, read_only=False)
    volumes, mounts = scratch_volumes()
    secret_volumes, secret_mounts = object_store.secret_volumes(model.spec.storage.object_store)
    main = container(
        stage.component,
        image,
        command=["python", "-m", module],
        env=list(variables),
        resources=resources(fields, default_requests),
        volumeMounts=[mount, *secret_mounts, *more_mounts, *mounts],
    )
    return {
        "containers": [main],
        "volumes": [volume, *secret_volumes, *more_volumes, *volumes],
        **placement(fields),
    }


def build_job(
    model: Model, stage: JobStage, pod_spec: Manifest, *, backoff_limit: int, deadline_seconds: int
) -> Manifest:
    """The Job of a stage. The result is read from the container that is named after the component."""
    # for any container, since init containers that download sources exit with the same code for invalid input
    on_invalid_input = {
        "action": "FailJob",
        "onExitCodes": {"operator": "In", "values": [EXIT_INVALID_INPUT]},
    }
    on_disruption = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    template = pod_template(model, stage.component, {"restartPolicy": "Never", **pod_spec})
    mark = {names.FINGERPRINT_LABEL: stage.fingerprint}
    template["metadata"]["labels"] |= mark
    settings = pod_fields(model.spec, stage.component).settings
    job = manifest(
        "batch/v1",
        "Job",
        model,
        stage.job_name,
        stage.component,
        spec={
            "backoffLimit": backoff_limit,
            "activeDeadlineSeconds": deadline_seconds,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "podFailurePolicy": {"rules": [on_invalid_input, on_disruption]},
            "template": with_placement(with_pod_settings(template, settings), model),
        },
    )
    job["metadata"]["labels"] |= mark | queue_labels(settings)
    return job
