"""When a training is validated, and when it stops."""

from __future__ import annotations

import pytest

from toxicity_training.engines.validation import is_due, is_exhausted


@pytest.mark.parametrize(
    ("steps", "per_epoch", "validations", "expected"),
    [
        (10, 10, 2, [5, 10]),
        (11, 11, 2, [6, 11]),
        (20, 10, 1, [10, 20]),
        (25, 10, 2, [5, 10, 15, 20, 25]),
        (23, 10, 1, [10, 20, 23]),
        (3, 3, 10, [1, 2, 3]),
        (1, 1, 2, [1]),
        (10, 10, 0, []),
    ],
)
def test_validations_are_evenly_spaced_and_the_last_step_has_one(
    steps: int, per_epoch: int, validations: int, expected: list[int]
) -> None:
    assert [step for step in range(1, steps + 1) if is_due(step, steps, per_epoch, validations)] == expected


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.4], 1, False),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.6, 0.4], 2, False),
        ([0.5, 0.6, 0.5], 2, True),
        ([0.5, 0.6, 0.7, 0.4, 0.6], 3, False),
        ([0.5, 0.3, 0.7, 0.4, 0.6], 3, True),
    ],
)
def test_a_training_stops_after_validations_without_a_lower_loss(
    losses: list[float], patience: int, expected: bool
) -> None:
    assert is_exhausted(losses, patience) == expected
