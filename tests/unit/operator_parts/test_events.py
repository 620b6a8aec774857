"""Events are recorded once, when something has changed."""

from __future__ import annotations

from support.builders import NOW
from toxicity_api.conditions import Condition
from toxicity_api.status import ToxicityModelStatus, TrainingStatus
from toxicity_operator.decide.events import derive_events


def condition(kind: str, status: str) -> Condition:
    fields = {"type": kind, "status": status, "reason": "R", "observedGeneration": 1, "lastTransitionTime": NOW}
    return Condition.model_validate({**fields, "message": "why"})


def status(record: TrainingStatus | None = None, *conditions: Condition) -> ToxicityModelStatus:
    return ToxicityModelStatus(training=record, conditions=list(conditions))


RUNNING = TrainingStatus(fingerprint="f", job_name="j", outcome="Running")
DONE = RUNNING.model_copy(update={"outcome": "Succeeded"})
FAILED = RUNNING.model_copy(update={"outcome": "Failed", "reason": "DatasetError", "message": "no rows"})


def reasons(old: ToxicityModelStatus, new: ToxicityModelStatus) -> list[str]:
    return [event.reason for event in derive_events(old, new)]


def test_stage_begins_and_ends_once() -> None:
    assert reasons(status(), status(RUNNING)) == ["TrainingStarted"]
    assert reasons(status(RUNNING), status(DONE)) == ["TrainingSucceeded"]
    assert reasons(status(DONE), status(DONE)) == []
    assert reasons(status(), status(DONE)) == ["TrainingStarted", "TrainingSucceeded"]


def test_failure_is_a_warning_with_its_reason() -> None:
    (event,) = derive_events(status(RUNNING), status(FAILED))
    assert (event.type, event.reason, event.message) == ("Warning", "TrainingFailed", "DatasetError: no rows")


def test_new_run_of_a_stage_begins_again() -> None:
    again = RUNNING.model_copy(update={"job_name": "k"})
    assert reasons(status(FAILED), status(again)) == ["TrainingStarted"]


def test_first_look_at_something_not_ready_is_no_event() -> None:
    assert reasons(status(), status(None, condition("Ready", "False"))) == []


def test_serving_comes_and_goes() -> None:
    up, down = status(None, condition("Ready", "True")), status(None, condition("Ready", "False"))
    assert reasons(down, up) == ["Ready"]
    assert [(event.type, event.reason) for event in derive_events(up, down)] == [("Warning", "NotReady")]


def test_verdict_of_the_gate() -> None:
    unknown = status(None, condition("QualityAccepted", "Unknown"))
    assert reasons(unknown, status(None, condition("QualityAccepted", "False"))) == ["QualityRefused"]
    assert reasons(unknown, status(None, condition("QualityAccepted", "True"))) == ["QualityAccepted"]


def test_only_a_slower_version_is_an_event() -> None:
    before, slower = (status(None, condition("PerformanceRegressed", each)) for each in ("False", "True"))
    assert [(event.type, event.reason) for event in derive_events(before, slower)] == [
        ("Warning", "PerformanceRegressed")
    ]
    assert derive_events(slower, before) == []
