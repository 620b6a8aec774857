"""After a downgrade of the operator, a status of a newer version does not disturb a pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from support.builders import a_model
from support.operator.pipeline import drive, run, status

MAPS = ("sources", "imageDigests")
"""Their keys are data, not fields."""


def with_news(part: Any) -> Any:
    """The value with an unknown field added to each of its objects."""
    if isinstance(part, dict):
        known = {key: below if key in MAPS else with_news(below) for key, below in part.items()}
        return known | {"newerField": {"a": [1]}}
    return [with_news(below) for below in part] if isinstance(part, list) else part


@pytest.mark.parametrize("steps", range(6))
def test_pass_does_nothing_when_a_later_version_added_to_the_status(steps: int) -> None:
    cluster = drive(a_model(), steps)
    newer = with_news(status(cluster))
    newer["conditions"].append({**newer["conditions"][0], "type": "Newer"})
    assert cluster.model is not None
    cluster.model["status"] = newer
    writes = cluster.writes
    outcome = run(cluster)
    assert (outcome.failure, cluster.writes) == (None, writes)


def test_pass_keeps_the_good_version_when_the_figures_of_the_load_test_cannot_be_read() -> None:
    cluster = drive(a_model())
    before = copy.deepcopy(status(cluster))
    status(cluster)["loadTest"]["state"] = "Newer"
    jobs = cluster.names_of("Job")
    outcome = run(cluster)
    assert outcome.failure is None
    assert (status(cluster)["serving"], cluster.names_of("Job")) == (before["serving"], jobs)
    assert status(cluster)["loadTestJob"] == before["loadTestJob"]
