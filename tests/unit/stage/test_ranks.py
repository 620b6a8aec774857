"""The rank of a process, from the variables that torchrun sets."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from toxicity_stage.ranks import is_main, local_rank, needs_launch, processes

ALONE: Mapping[str, str] = {}
SECOND = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
ON_ANOTHER_NODE = {"RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [(ALONE, (True, 0, 1)), (SECOND, (False, 1, 2)), (ON_ANOTHER_NODE, (False, 0, 4))],
)
def test_a_process_knows_its_place(environment: Mapping[str, str], expected: tuple[bool, int, int]) -> None:
    assert (is_main(environment), local_rank(environment), processes(environment)) == expected


@pytest.mark.parametrize(
    ("gpus", "environment", "expected"),
    [(0, ALONE, False), (1, ALONE, False), (4, ALONE, True), (4, SECOND, False), (2, ON_ANOTHER_NODE, False)],
)
def test_others_are_started_once(gpus: int, environment: Mapping[str, str], expected: bool) -> None:
    assert needs_launch(gpus, environment) is expected
