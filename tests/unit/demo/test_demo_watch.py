"""When the demo considers a resource done, and when failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from toxicity_api.conditions import ConditionType
from toxicity_cluster.demo_watch import (
    failed_condition,
    good_status,
    is_done,
    progress_line,
    pull_condition,
    running_job,
    status_of,
)


def a_model(changed: Mapping[str, tuple[str, str, int]] | None = None) -> dict[str, Any]:
    """A resource of generation 3, all well but for `changed`: type to (status, reason, observedGeneration)."""
    conditions = []
    for kind in ConditionType:
        status, reason, observed = (changed or {}).get(kind, (good_status(kind), "Succeeded", 3))
        conditions.append(
            {
                "type": str(kind),
                "status": status,
                "reason": reason,
                "message": "",
                "observedGeneration": observed,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        )
    return {"metadata": {"name": "m", "generation": 3}, "status": {"conditions": conditions}}


def test_done_when_every_condition_is_true_for_the_present_generation() -> None:
    assert is_done(a_model())
    assert failed_condition(a_model()) is None


@pytest.mark.parametrize("kind", list(ConditionType))
def test_not_done_when_a_condition_is_of_an_older_generation(kind: ConditionType) -> None:
    assert not is_done(a_model({kind: (good_status(kind), "Succeeded", 2)}))


@pytest.mark.parametrize("status", ["True", "False", "Unknown"])
@pytest.mark.parametrize("kind", list(ConditionType))
def test_not_done_when_a_condition_has_another_status(kind: ConditionType, status: str) -> None:
    assert is_done(a_model({kind: (status, "Running", 3)})) is (status == good_status(kind))


def test_done_when_the_spec_skips_a_stage() -> None:
    model = a_model({"Quantized": ("True", "Skipped", 3)})
    assert is_done(model)
    assert failed_condition(model) is None


def test_not_done_without_status() -> None:
    assert not is_done({"metadata": {"name": "m", "generation": 1}})


def test_failed_when_a_stage_gives_a_reason_of_its_own() -> None:
    failed = failed_condition(a_model({"Trained": ("False", "MissingColumn", 3)}))
    assert failed is not None
    assert (failed.type, failed.reason) == ("Trained", "MissingColumn")


@pytest.mark.parametrize(
    ("kind", "reason"), [("Trained", "Running"), ("LoadTested", "Waiting"), ("Available", "NoReadyReplicas")]
)
def test_not_failed_while_it_may_still_come(kind: str, reason: str) -> None:
    assert failed_condition(a_model({kind: ("False", reason, 3)})) is None


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("QualityAccepted", "Unknown", "Inconclusive"),
        ("Ready", "False", "RolledBack"),
        ("Ready", "False", "RollOutFailed"),
    ],
)
def test_failed_when_only_a_change_of_the_spec_helps(kind: str, status: str, reason: str) -> None:
    failed = failed_condition(a_model({kind: (status, reason, 3)}))
    assert failed is not None and failed.reason == reason


def test_not_failed_by_a_condition_of_an_older_generation() -> None:
    assert failed_condition(a_model({"Trained": ("False", "MissingColumn", 2)})) is None


@pytest.mark.parametrize("kind", ["Trained", "Available", "LoadTested"])
@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_an_image_that_cannot_be_pulled_is_found_in_the_condition_of_its_stage(kind: str, reason: str) -> None:
    waits = f"container train of pod x waits: {reason} 401 Unauthorized; correct images.training"
    model = a_model({kind: ("Unknown", "Running", 3)})
    assert pull_condition(model) is None
    for condition in model["status"]["conditions"]:
        if condition["type"] in (kind, "Ready"):
            condition["message"] = waits
    found = pull_condition(model)
    assert found is not None and (found.type, found.message) == (kind, waits)


def test_running_job_is_that_of_the_latest_running_stage() -> None:
    model = a_model()
    model["status"]["training"] = {"fingerprint": "a", "jobName": "m-train-a", "outcome": "Succeeded"}
    model["status"]["quantization"] = {"fingerprint": "b", "jobName": "m-quantize-b", "outcome": "Running"}
    assert running_job(status_of(model)) == "m-quantize-b"
    assert running_job(status_of(a_model())) == ""


def test_running_training_has_its_progress_in_its_condition() -> None:
    model = a_model()
    model["status"]["training"] = {"fingerprint": "a", "jobName": "m-train-a", "outcome": "Running"}
    assert running_job(status_of(model)) == ""


def test_progress_line_passes_over_warnings_and_the_result() -> None:
    log = ["training: step 3/9", "x | WARNING - no accelerator", '{"stage":"train"}', ""]
    assert progress_line(log) == "training: step 3/9"
    assert progress_line(["x | WARNING - no accelerator"]) == ""
