"""Which tests `make mutation` runs for a mutant: those that execute the mutated statement."""

from __future__ import annotations

import pytest

from mutation.covering import covering_tests

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
        (1, None),  # a constant
        (5, None),  # of a class
        (7, None),  # a default argument
        (8, {"big", "small", "negative"}),
        (9, {"big"}),
        (11, {"big"}),  # inside a call that begins two lines above
        (15, {"small", "negative"}),
        (16, {"negative"}),
        (19, {"small"}),
        (21, set()),
    ],
)
def test_mutant_is_tested_by_the_tests_that_execute_its_statement(line: int, tests: set[str] | None) -> None:
    assert covering_tests(SOURCE, line, EXECUTED) == tests
