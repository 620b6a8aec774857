"""Which version of the serving pods is good and which one was given up; pure.

A version is a pod template: another model, other fields of the spec, or what another version of the operator makes of
the same spec. It is good once it was rolled out whole and all of its pods classify; it has failed when the Deployment
made no progress within its deadline. A failed one is replaced by the last good one, and is not tried again until
another one is asked for.
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
    """The newest version known to be good; None before the first one. One that was restored was good before."""
    if deployment is not None and (deployment.failed_fingerprint or _is_whole(deployment)):
        return deployment.version
    return recorded.good_fingerprint if recorded else None


def _is_whole(deployment: DeploymentState) -> bool:
    return deployment.rolled_out and 0 < deployment.ready_replicas >= deployment.wanted_replicas


def failed_version(
    wanted: str, recorded: ServingStatus | None, deployment: DeploymentState | None
) -> Failure | None:
    """That the `wanted` version has failed: seen now, noted on the Deployment, or recorded in status."""
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
