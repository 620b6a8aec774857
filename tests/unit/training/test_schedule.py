"""Progress lines: their frequency, and figures that follow from the clock."""

from __future__ import annotations

import pytest

from toxicity_api.progress import read_progress
from toxicity_api.spec import TrainingSpec
from toxicity_training.engines.schedule import LINE_SECONDS, Reporter, scheduler_name, warmup_steps


class Clock:
    """A clock that advances only on request."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(steps: int, seconds_per_step: float, first: int = 0) -> list[str]:
    clock, lines = Clock(), list[str]()
    reporter = Reporter(first, steps, lines.append, clock)
    for step in range(first + 1, steps + 1):
        clock.now += seconds_per_step
        reporter.step_done(step, step / steps, float(step))
    return lines


def test_fast_steps_give_a_line_every_tenth() -> None:
    lines = [read_progress([line]) for line in run(200, 0.01)]
    assert [line.step for line in lines if line] == list(range(20, 201, 20))


def test_slow_steps_give_a_line_as_soon_as_the_seconds_have_passed() -> None:
    lines = [read_progress([line]) for line in run(200, LINE_SECONDS / 4)]
    assert [line.step for line in lines if line][:4] == [4, 8, 12, 16]
    assert lines[-1] is not None
    assert (lines[-1].step, lines[-1].seconds_left) == (200, 0)


def test_a_line_has_the_mean_loss_since_the_line_before_and_the_time_left() -> None:
    first = read_progress(run(100, 2.0)[:1])
    assert first is not None
    assert (first.step, first.steps, first.loss, first.seconds_left) == (5, 100, 3.0, 190)


def test_after_a_restart_the_time_left_counts_the_new_steps_only() -> None:
    first = read_progress(run(100, 2.0, first=50)[:1])
    assert first is not None
    assert (first.step, first.seconds_left) == (55, 90)


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 0), (0.05, 5), (0.051, 6)])
def test_warm_up_is_a_share_of_all_steps(ratio: float, expected: int) -> None:
    assert warmup_steps(400, TrainingSpec(batch_size=8, epochs=2, warmup_ratio=ratio)) == expected


def test_a_constant_rate_is_warmed_up_too() -> None:
    assert scheduler_name(TrainingSpec(scheduler="constant")) == "constant_with_warmup"
    assert scheduler_name(TrainingSpec(scheduler="cosine")) == "cosine"
