"""The frame of a stage Job: one pod at a time, no restart in place, bad input never retried."""

from __future__ import annotations

from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_operator import names
from toxicity_operator.chain import JobStage
from toxicity_operator.manifests.common import Manifest, manifest, pod_template
from toxicity_operator.model import Model

TTL_SECONDS = 86400


def build_job(
    model: Model, stage: JobStage, pod_spec: Manifest, *, backoff_limit: int, deadline_seconds: int
) -> Manifest:
    """The Job of a stage. Its container must carry the component's name: the result is read from it."""
    # of any container: the ones that download before the stage refuse bad input by the same code
    on_invalid_input = {
        "action": "FailJob",
        "onExitCodes": {"operator": "In", "values": [EXIT_INVALID_INPUT]},
    }
    on_disruption = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    template = pod_template(model, stage.component, {"restartPolicy": "Never", **pod_spec})
    mark = {names.FINGERPRINT_LABEL: stage.fingerprint}
    template["metadata"]["labels"] |= mark
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
            "template": template,
        },
    )
    job["metadata"]["labels"] |= mark
    return job
