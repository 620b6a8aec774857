"""Derives Kubernetes Events from the difference between two statuses. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from toxicity_api.conditions import Condition, ConditionType, Reason
from toxicity_api.status import ServingStatus, StageRecord, ToxicityModelStatus
from toxicity_operator.decide.rollout import recorded_failure


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event about the resource, as `kubectl describe` shows it."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def derive_events(old: ToxicityModelStatus, new: ToxicityModelStatus) -> list[Event]:
    """Events for the start, success or failure of a stage, the gate's verdict, a rollback, and changes of Ready."""
    pairs = (
        (old.training, new.training, "Training"),
        (old.quantization, new.quantization, "Quantization"),
        (old.evaluation, new.evaluation, "Evaluation"),
        (old.load_test_job, new.load_test_job, "LoadTest"),
    )
    events = [event for before, after, word in pairs for event in _of_stage(before, after, word)]
    return events + _of_roll_out(old.serving, new.serving) + _of_conditions(old, new)


def _of_roll_out(old: ServingStatus | None, new: ServingStatus | None) -> list[Event]:
    """The event for a version that failed, and for the version that is restored."""
    failure = recorded_failure(new)
    if new is None or failure is None:
        return []
    if old is not None and old.failed_fingerprint == new.failed_fingerprint:
        return []
    text = failure.describe()
    if new.good_fingerprint is None:
        return [Event("Warning", "RollOutFailed", f"{text}; there is no earlier version to restore")]
    return [Event("Warning", "RolledBack", f"{text}; version {new.good_fingerprint} was restored")]


def _of_stage(old: StageRecord | None, new: StageRecord | None, word: str) -> list[Event]:
    if new is None:
        return []
    same_run = old is not None and (old.fingerprint, old.job_name) == (new.fingerprint, new.job_name)
    events = [] if same_run else [Event("Normal", f"{word}Started", f"created Job {new.job_name}")]
    if new.outcome == "Running" or (same_run and old is not None and old.outcome == new.outcome):
        return events
    if new.outcome == "Failed":
        return [*events, Event("Warning", f"{word}Failed", f"{new.reason}: {new.message}")]
    return [*events, Event("Normal", f"{word}Succeeded", f"Job {new.job_name} succeeded")]


def _of_conditions(old: ToxicityModelStatus, new: ToxicityModelStatus) -> list[Event]:
    before = {condition.type: condition for condition in old.conditions}
    events = []
    for condition in new.conditions:
        was = before.get(condition.type)
        if was is None or was.status != condition.status:
            events += _of_condition(condition, first=was is None)
    return events


def _of_condition(condition: Condition, *, first: bool) -> list[Event]:
    good = condition.status == "True"
    if condition.type == ConditionType.QUALITY_ACCEPTED and condition.status != "Unknown":
        word = "QualityAccepted" if good else "QualityRefused"
        return [Event("Normal" if good else "Warning", word, condition.message)]
    if condition.type == ConditionType.PERFORMANCE_REGRESSED:
        return [Event("Warning", condition.type, condition.message)] if good else []
    if condition.reason == Reason.GPU_HANDED_OVER:
        return [Event("Normal", condition.reason, condition.message)]
    if condition.type == ConditionType.READY and not (first and not good):
        return [Event("Normal" if good else "Warning", "Ready" if good else "NotReady", condition.message)]
    return []
