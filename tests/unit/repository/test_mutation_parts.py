"""The parts of `make mutation`: which tests run for a mutant, and how a loaded function gets its code."""

from __future__ import annotations

import functools
import signal
from pathlib import Path
from types import ModuleType

import pytest

from mutation.covering import covering_tests, function_path
from mutation.patching import patched
from mutation.plugins import Alarm

SOURCE = """\
LIMIT = 3


class Box:
    size = 4

    def half(self, whole: int = 8) -> int:
        if whole > LIMIT:
            return sum(
                [
                    whole // 2,
                    self.size,
                ]
            )
        elif whole < 0:
            raise ValueError

        def inner() -> int:
            return 1

        return inner()
"""
EXECUTED = {
    8: ["big", "small", "negative"],
    9: ["big"],
    15: ["small", "negative"],
    16: ["negative"],
    19: ["small"],
}


@pytest.mark.parametrize(
    ("line", "tests"),
    [
        (8, {"big", "small", "negative"}),
        (9, {"big"}),
        (11, {"big"}),  # inside a call that begins two lines above
        (15, {"small", "negative"}),
        (16, {"negative"}),
        (19, {"small"}),
        (21, set()),
    ],
)
def test_mutant_is_tested_by_the_tests_that_execute_its_statement(line: int, tests: set[str]) -> None:
    assert covering_tests(SOURCE, line, EXECUTED) == tests


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (1, []),
        (5, []),
        (7, []),  # a default argument
        (8, ["Box", "half"]),
        (19, ["Box", "half"]),
    ],
)
def test_line_belongs_to_the_outermost_function_unless_it_runs_at_import(line: int, path: list[str]) -> None:
    assert function_path(SOURCE, line) == path


DECORATED = """\
import functools

@functools.lru_cache
def cached(number):
    return [number + 1 for _ in range(1)][0]

class Box:
    def __init__(self, width):
        self.width = width

    @property
    def area(self):
        return self.width + 1

    @functools.cached_property
    def half(self):
        return self.width + 1

    @classmethod
    def of(cls, width):
        return cls(width + 1)

    @staticmethod
    def plain(width):
        return width + 1
"""


def test_function_has_the_other_code_as_long_as_it_is_patched(tmp_path: Path) -> None:
    module = ModuleType("boxes")
    module.__file__ = str(tmp_path / "boxes.py")
    exec(compile(DECORATED, module.__file__, "exec"), module.__dict__)
    cached, box = module.cached, module.Box
    calls = {
        "cached": lambda: cached.__wrapped__(5),
        "Box.area": lambda: box(5).area,
        "Box.half": lambda: box(5).half,
        "Box.of": lambda: box.of(5).width,
        "Box.plain": lambda: box.plain(5),
    }
    for path, call in calls.items():
        with patched(module, path.split("."), DECORATED.replace("+ 1", "- 1")):
            assert {name: other() for name, other in calls.items() if name != path} == dict.fromkeys(
                calls.keys() - {path}, 6
            )
            assert call() == 4
        assert call() == 6
    assert isinstance(box.__dict__["half"], functools.cached_property)


def test_test_that_waits_for_ever_is_ended_soon(request: pytest.FixtureRequest) -> None:
    """A mutant can lock itself out. The limit of its CPU time does not end it."""
    Alarm({request.node.nodeid: 3.0}).pytest_runtest_protocol(request.node)
    assert signal.alarm(0) == 50
    Alarm({}).pytest_runtest_protocol(request.node)
    assert signal.alarm(0) == 20
