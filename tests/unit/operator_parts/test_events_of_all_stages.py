"""Events of each stage, of a roll-out and of the conditions: which one, of what type, and when there is none."""

from __future__ import annotations

import pytest

from support.builders import NOW
from toxicity_api.conditions import Condition
from toxicity_api.status import (
    EvaluationStatus,
    LoadTestRecord,
    QuantizationStatus,
    ServingStatus,
    ToxicityModelStatus,
    TrainingStatus,
)
from toxicity_operator.decide.events import Event, derive_events

NOTHING = ToxicityModelStatus()
STAGES = [
    ("training", TrainingStatus, "Training"), ("quantization", QuantizationStatus, "Quantization"),
    ("evaluation", EvaluationStatus, "Evaluation"), ("load_test_job", LoadTestRecord, "LoadTest"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "kind", "word"), STAGES)
def test_each_stage_is_told_by_its_own_word(field: str, kind: type[TrainingStatus], word: str) -> None:
    running = kind(fingerprint="f", job_name=f"job-{field}", outcome="Running")
    done = running.model_copy(update={"outcome": "Succeeded"})
    failed = running.model_copy(update={"outcome": "Failed", "reason": "Why", "message": "no rows"})
    before, after = (ToxicityModelStatus.model_validate({field: record}) for record in (running, done))
    assert derive_events(NOTHING, before) == [Event("Normal", f"{word}Started", f"created Job job-{field}")]
    assert derive_events(before, after) == [Event("Normal", f"{word}Succeeded", f"Job job-{field} succeeded")]
    ended = ToxicityModelStatus.model_validate({field: failed})
    assert derive_events(before, ended) == [Event("Warning", f"{word}Failed", "Why: no rows")]
    for each in (before, after, ended):
        assert derive_events(each, each) == []
        assert derive_events(each, NOTHING) == []


def test_run_that_began_and_ended_between_two_looks_is_told_whole() -> None:
    done = TrainingStatus(fingerprint="f", job_name="j", outcome="Succeeded")
    other = done.model_copy(update={"job_name": "k"})
    found = derive_events(ToxicityModelStatus(training=done), ToxicityModelStatus(training=other))
    assert [event.reason for event in found] == ["TrainingStarted", "TrainingSucceeded"]


def serving(**fields: str) -> ToxicityModelStatus:
    known = {"fingerprint": "s", "url": "", "selector": "", "replicas": 1, "readyReplicas": 1}
    return ToxicityModelStatus(serving=ServingStatus.model_validate(known | fields))


def test_version_that_was_given_up_is_told_once_with_what_serves_in_its_place() -> None:
    back = serving(failedFingerprint="bad", failedMessage="OOMKilled", goodFingerprint="good")
    text = "version bad did not become ready: OOMKilled"
    restored = [Event("Warning", "RolledBack", f"{text}; version good was restored")]
    assert derive_events(NOTHING, back) == derive_events(serving(goodFingerprint="good"), back) == restored
    assert derive_events(back, back) == derive_events(back, serving(goodFingerprint="good")) == []
    alone = serving(failedFingerprint="bad", failedMessage="OOMKilled")
    assert derive_events(NOTHING, alone) == [
        Event("Warning", "RollOutFailed", f"{text}; there is no earlier version to restore")
    ]
    worse = serving(failedFingerprint="worse", failedMessage="late", goodFingerprint="good")
    assert [event.reason for event in derive_events(back, worse)] == ["RolledBack"]


def with_condition(kind: str, status: str, reason: str = "Reason") -> ToxicityModelStatus:
    fields = {"type": kind, "status": status, "reason": reason, "observedGeneration": 1, "message": "why"}
    return ToxicityModelStatus(conditions=[Condition.model_validate({**fields, "lastTransitionTime": NOW})])


@pytest.mark.parametrize(
    ("kind", "status", "type_", "reason"),
    [
        ("QualityAccepted", "True", "Normal", "QualityAccepted"),
        ("QualityAccepted", "False", "Warning", "QualityRefused"),
        ("Ready", "True", "Normal", "Ready"),
    ],
)
def test_condition_is_told_when_it_is_first_seen_or_changes(
    kind: str, status: str, type_: str, reason: str
) -> None:
    now = with_condition(kind, status)
    told = [(event.type, event.reason, event.message) for event in derive_events(NOTHING, now)]
    assert told == [(type_, reason, "why")]
    changed = derive_events(with_condition(kind, "Unknown"), now)
    assert [(event.type, event.reason) for event in changed] == [(type_, reason)]
    assert derive_events(now, now) == []


def test_resource_that_was_never_ready_is_not_told_to_be_unready() -> None:
    unready = with_condition("Ready", "False")
    assert derive_events(NOTHING, unready) == []
    [event] = derive_events(with_condition("Ready", "True"), unready)
    assert (event.type, event.reason) == ("Warning", "NotReady")


@pytest.mark.parametrize("kind", ["Trained", "Quantized", "Evaluated", "LoadTested"])
def test_conditions_of_stages_are_told_by_their_records_only(kind: str) -> None:
    assert derive_events(NOTHING, with_condition(kind, "False")) == []
    assert derive_events(with_condition(kind, "Unknown"), with_condition(kind, "True")) == []


def test_gpu_that_is_handed_over_is_no_warning() -> None:
    now = with_condition("Available", "False", "GPUHandedOver")
    assert derive_events(with_condition("Available", "True"), now) == [Event("Normal", "GPUHandedOver", "why")]


def test_verdict_that_is_open_is_no_event() -> None:
    assert (
        derive_events(with_condition("QualityAccepted", "True"), with_condition("QualityAccepted", "Unknown"))
        == []
    )
