"""The message of raw Events: the newest problem, with the same text for repeated attempts."""

from __future__ import annotations

from typing import Any

import pytest

from toxicity_operator.observe.event_messages import event_message


def an_event(message: str, reason: str = "FailedMount", kind: str = "Warning", **times: Any) -> dict[str, Any]:
    return {"type": kind, "reason": reason, "message": message, **times}


@pytest.mark.parametrize("name", ["m-train-1-abcde", "m-train-1-fghij"])
@pytest.mark.parametrize("prefix", ["", "(combined from similar events): "])
def test_every_try_of_a_refused_pod_has_the_same_words(name: str, prefix: str) -> None:
    event = an_event(f'{prefix}Error creating: pods "{name}" is forbidden: exceeded quota: team', "FailedCreate")
    assert event_message([event]) == "the pod is forbidden: exceeded quota: team (FailedCreate)"


def test_every_sandbox_that_fails_has_the_same_words() -> None:
    events = [an_event(f'for sandbox "{digit * 64}": no network', "FailedCreatePodSandBox") for digit in "a7"]
    assert (
        event_message(events[:1])
        == event_message(events[1:])
        == "for sandbox …: no network (FailedCreatePodSandBox)"
    )


def test_newest_problem_speaks() -> None:
    events = [
        an_event("second", lastTimestamp="2030-01-01T00:00:02Z"),
        an_event("last", lastTimestamp=None, eventTime="2030-01-01T00:00:01.000000Z",
                 series={"lastObservedTime": "2030-01-01T00:00:03.000000Z"}),
        an_event("first", lastTimestamp="2030-01-01T00:00:01Z"),
        an_event("fine", "Scheduled", "Normal", lastTimestamp="2030-01-01T00:00:09Z"),
    ]  # fmt: skip
    assert event_message(events) == "last (FailedMount)"


def test_events_without_a_problem_say_nothing() -> None:
    assert event_message([]) == event_message([an_event("done", "Pulled", "Normal")]) == ""


def test_claim_that_finds_no_volume_is_a_problem_although_its_event_is_normal() -> None:
    words = "no persistent volumes available for this claim and no storage class is set"
    assert event_message([an_event(words, "FailedBinding", "Normal")]) == f"{words} (FailedBinding)"
