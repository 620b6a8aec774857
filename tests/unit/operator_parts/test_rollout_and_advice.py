"""Which version is good, which has failed, and what to do for a pod without a GPU: as functions of the Deployment."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import a_model
from toxicity_api.status import ServingStatus
from toxicity_operator.decide.handover import REMEDY, advice
from toxicity_operator.decide.rollout import Failure, failed_version, good_version
from toxicity_operator.observe.deployment import DeploymentState
from toxicity_operator.observe.state import Observed


def deployed(**changes: Any) -> DeploymentState:
    """Version `new`, rolled out with two pods that are ready."""
    fields: dict[str, Any] = {
        "version": "new", "serving_fingerprint": "s", "model_fingerprint": "m", "replicas": 2, "ready_replicas": 2,
        "wanted_replicas": 2, "rolled_out": True, "trouble": "",
    }  # fmt: skip
    return DeploymentState(**(fields | changes))


def recorded(**changes: Any) -> ServingStatus:
    fields = {"fingerprint": "s", "goodFingerprint": "old", "url": "", "selector": "", "replicas": 1}
    return ServingStatus.model_validate(fields | {"readyReplicas": 1} | changes)


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, "new"),
        ({"rolled_out": False}, "old"),
        ({"ready_replicas": 1}, "old"),
        ({"ready_replicas": 0}, "old"),
        ({"ready_replicas": 0, "wanted_replicas": 0}, "old"),
        ({"ready_replicas": 3}, "new"),
        ({"ready_replicas": 0, "failed_fingerprint": "bad"}, "new"),
    ],
)
def test_version_is_good_when_all_pods_that_are_wanted_are_ready_or_when_it_was_restored(
    changes: dict[str, Any], good: str
) -> None:
    assert good_version(recorded(), deployed(**changes)) == good
    assert good_version(None, deployed(**changes)) == (good if good == "new" else None)


def test_good_version_is_the_recorded_one_without_a_deployment() -> None:
    assert good_version(recorded(), None) == "old"
    assert good_version(None, None) is None


UNREADY: dict[str, Any] = {"ready_replicas": 0}


@pytest.mark.parametrize(
    ("wanted", "status", "deployment", "failure"),
    [
        ("new", None, deployed(**UNREADY, failure="late"), Failure("new", "late")),
        ("new", None, deployed(**UNREADY), None),
        ("new", None, deployed(failure="late"), None),
        ("other", None, deployed(**UNREADY, failure="late"), None),
        ("bad", None, deployed(failed_fingerprint="bad", failed_message="why"), Failure("bad", "why")),
        ("other", None, deployed(failed_fingerprint="bad", failed_message="why"), None),
        ("bad", recorded(failedFingerprint="bad", failedMessage="so"), None, Failure("bad", "so")),
        ("bad", recorded(failedFingerprint="bad"), None, Failure("bad", "")),
        ("bad", recorded(failedFingerprint="bad", failedMessage="so"), deployed(), Failure("bad", "so")),
        ("other", recorded(failedFingerprint="bad", failedMessage="so"), None, None),
        ("old", recorded(failedFingerprint="old", failedMessage="so"), None, None),
        ("old", None, None, None),
    ],
)
def test_failure_is_that_of_the_version_that_is_wanted(
    wanted: str, status: ServingStatus | None, deployment: DeploymentState | None, failure: Failure | None
) -> None:
    assert failed_version(wanted, status, deployment) == failure


@pytest.mark.parametrize(
    ("strategy", "deployment", "advised"),
    [
        ("RollingUpdate", deployed(gpus=1), True),
        ("RollingUpdate", deployed(gpus=1, replicas=1), True),
        ("RollingUpdate", deployed(gpus=0), False),
        ("RollingUpdate", deployed(gpus=1, replicas=0), False),
        ("RollingUpdate", None, False),
        ("Recreate", deployed(gpus=1), False),
        ("Recreate", None, False),
    ],
)
def test_other_strategy_is_advised_only_where_pods_that_serve_hold_gpus(
    strategy: str, deployment: DeploymentState | None, advised: bool
) -> None:
    spec = a_model().with_spec("serving.strategy", strategy).build().spec
    observed = Observed(objects={}, jobs=(), deployment=deployment)
    assert advice(spec, observed) == (REMEDY if advised else "")
