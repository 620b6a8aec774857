"""Determines the last good version of the serving pods and the failed one. Pure.

A version is a pod template. It changes with the model, with the spec, and with the version of the operator. A version
is good once it is rolled out completely and all of its pods are ready. It has failed if the Deployment exceeds its
progress deadline. The last good version then replaces it, and the failed version is not tried again.
"""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_api.status import ServingStatus
from toxicity_operator.observe.deployment import DeploymentState


@dataclass(frozen=True)
class Failure:
    """A version that did not become ready, and why."""

    fingerprint: str
    message: str


def good_version(recorded: ServingStatus | None, deployment: DeploymentState | None) -> str | None:
    """The newest good version; None if there is none yet. A restored version counts as good."""
    if deployment is not None and (deployment.failed_fingerprint or _is_whole(deployment)):
        return deployment.version
    return recorded.good_fingerprint if recorded else None


def _is_whole(deployment: DeploymentState) -> bool:
    return deployment.rolled_out and 0 < deployment.ready_replicas >= deployment.wanted_replicas


def failed_version(
    wanted: str, recorded: ServingStatus | None, deployment: DeploymentState | None
) -> Failure | None:
    """The failure of the `wanted` version, from the Deployment or the status; None if it has not failed."""
    if good_version(recorded, deployment) == wanted:
        return None
    if deployment is not None:
        if deployment.version == wanted and deployment.failure:
            return Failure(wanted, deployment.failure)
        if deployment.failed_fingerprint == wanted:
            return Failure(wanted, deployment.failed_message)
    if recorded is not None and recorded.failed_fingerprint == wanted:
        return Failure(wanted, recorded.failed_message or "")
    return None
