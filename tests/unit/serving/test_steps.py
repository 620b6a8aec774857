"""Test StepLoop with a fake engine that counts its steps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from toxicity_serving.engine.steps import StepLoop

SECONDS = 10


class CountingEngine:
    """Finishes a request in the step after its arrival. A request named `poison` makes the step fail."""

    def __init__(self) -> None:
        self.unfinished: list[str] = []
        self.steps = 0

    def has_unfinished_requests(self) -> bool:
        return bool(self.unfinished)

    def step(self) -> list[str]:
        self.steps += 1
        finished, self.unfinished = self.unfinished, []
        if "poison" in finished:
            raise RuntimeError("index out of range")
        return finished


class Answers:
    def __init__(self) -> None:
        self.found: list[str] = []
        self.came = threading.Condition()

    def deliver(self, finished: list[str]) -> None:
        with self.came:
            self.found += finished
            self.came.notify_all()

    def wait_for(self, count: int) -> bool:
        with self.came:
            return self.came.wait_for(lambda: len(self.found) >= count, SECONDS)


@contextmanager
def stepping(engine: CountingEngine, answers: Answers) -> Iterator[StepLoop]:
    steps = StepLoop(engine, answers.deliver)
    thread = threading.Thread(target=steps.run)
    thread.start()
    try:
        yield steps
    finally:
        steps.stop()
        thread.join(SECONDS)
        assert not thread.is_alive(), "the thread outlives its end"


def add(steps: StepLoop, name: str) -> None:
    steps.submit(lambda engine: engine.unfinished.append(name))


def test_each_request_is_answered_and_an_idle_engine_is_not_stepped() -> None:
    engine, answers = CountingEngine(), Answers()
    with stepping(engine, answers) as steps:
        for number in range(100):
            add(steps, str(number))
        assert answers.wait_for(100)
    assert sorted(answers.found, key=int) == [str(number) for number in range(100)]
    assert 1 <= engine.steps <= 100


def test_command_without_work_does_not_step_the_engine() -> None:
    """An abort after the last request must neither step the engine nor end the thread."""
    engine, answers = CountingEngine(), Answers()
    with stepping(engine, answers) as steps:
        steps.submit(lambda engine: engine.unfinished.clear())
        add(steps, "after")
        assert answers.wait_for(1)
    assert engine.steps == 1


def test_stop_does_not_wait_for_unfinished_requests() -> None:
    engine = CountingEngine()
    steps = StepLoop(engine, lambda finished: None)
    add(steps, "never stepped")
    steps.stop()
    steps.run()
    assert engine.steps == 0


def test_run_raises_the_exception_of_the_engine() -> None:
    steps = StepLoop(CountingEngine(), lambda finished: None)
    add(steps, "poison")
    with pytest.raises(RuntimeError, match="index out of range"):
        steps.run()


def test_command_that_fails_concerns_its_own_request_only() -> None:
    engine, answers, failed = CountingEngine(), Answers(), list[Exception]()

    def refuse(engine: CountingEngine) -> None:
        raise ValueError("the prompt is too long")

    with stepping(engine, answers) as steps:
        add(steps, "before")
        steps.submit(refuse, failed.append)
        steps.submit(refuse)
        add(steps, "after")
        assert answers.wait_for(2)
    assert [str(error) for error in failed] == ["the prompt is too long"]
