"""Determines the last good version of the serving pods and the failed one. Pure.

A version is a pod template. It changes with the model, with the spec, and with the version of the operator. A version
is good once it is rolled out completely and all of its pods are ready. It has failed if the Deployment exceeds its
progress deadline, or if its load test finds it slower and `loadTest.onRegression` is RollBack. The last good version
then replaces it, and the failed version is not tried again.
"""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_api.status import ServingStatus
from toxicity_operator.decide.trial import Trial
from toxicity_operator.observe.deployment import DeploymentState


@dataclass(frozen=True)
class Failure:
    """A version that failed, and why. `run`: the run of the load test that found it slower; empty if not ready."""

    fingerprint: str
    message: str
    run: str = ""

    def describe(self, within: str = "") -> str:
        """What failed, for people. `within`: how long the version had to become ready."""
        if self.run:
            return f"the load test found version {self.fingerprint} slower: {self.message}"
        return f"version {self.fingerprint} did not become ready{within}: {self.message}"

    def counts(self, trial: Trial | None) -> bool:
        """Whether the version is not to be tried again. Another run of the load test measures a slower one again."""
        return not self.run or (trial is not None and trial.run == self.run)


def good_version(recorded: ServingStatus | None, deployment: DeploymentState | None) -> str | None:
    """The newest good version; None if there is none yet. A restored version counts as good."""
    if deployment is not None and (deployment.failed_fingerprint or _is_whole(deployment)):
        return deployment.version
    return recorded.good_fingerprint if recorded else None


def _is_whole(deployment: DeploymentState) -> bool:
    return deployment.rolled_out and 0 < deployment.ready_replicas >= deployment.wanted_replicas


def previous_version(
    recorded: ServingStatus | None, deployment: DeploymentState | None, trial: Trial | None
) -> str | None:
    """The version to restore if the load test finds the good one slower.

    None without RollBack, without a version before, and once a load test has accepted the good version. A version
    whose load test has not succeeded never becomes the version to restore.
    """
    if trial is None or trial.has_accepted or recorded is None:
        return None
    good = good_version(recorded, deployment)
    before = recorded.previous_fingerprint or recorded.good_fingerprint
    return before if before != good else None


def failed_version(
    wanted: str, recorded: ServingStatus | None, deployment: DeploymentState | None, trial: Trial | None = None
) -> Failure | None:
    """The failure of the `wanted` version, from the Deployment or the status; None if it may be rolled out."""
    if good_version(recorded, deployment) == wanted:
        return None
    failure = _failure_of(wanted, recorded, deployment)
    return failure if failure is not None and failure.counts(trial) else None


def _failure_of(wanted: str, recorded: ServingStatus | None, deployment: DeploymentState | None) -> Failure | None:
    if deployment is not None:
        if deployment.version == wanted and deployment.failure:
            return Failure(wanted, deployment.failure)
        if deployment.failed_fingerprint == wanted:
            return failure_before(deployment)
    return recorded_failure(recorded) if recorded and recorded.failed_fingerprint == wanted else None


def failure_before(deployment: DeploymentState) -> Failure | None:
    """The failure of the version that the deployed one replaced; None if it replaced none."""
    if not deployment.failed_fingerprint:
        return None
    return Failure(deployment.failed_fingerprint, deployment.failed_message, deployment.failed_run)


def recorded_failure(recorded: ServingStatus | None) -> Failure | None:
    """The failure in the status."""
    if recorded is None or recorded.failed_fingerprint is None:
        return None
    return Failure(recorded.failed_fingerprint, recorded.failed_message or "", recorded.failed_in_run or "")
