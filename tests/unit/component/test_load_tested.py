"""The message of `LoadTested` after a successful run in mode fixed and in mode search."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import a_model
from support.operator.pipeline import conditions, drive, message, settle

FIGURES: dict[str, Any] = {"actualRps": 9.98, "p95Seconds": 0.18, "maxLengthAtRequestedRps": 200}


def bucket(name: str, rps: float, found: float | None) -> dict[str, Any]:
    result = {"name": name, "requests": 300, "failures": 0, "actualRps": rps, "p95Seconds": 0.18}
    return result if found is None else {**result, "maxRpsWithinSlo": found}


def sentence(**figures: Any) -> str:
    """The message of the condition after a load test with these results."""
    cluster = drive(a_model())
    assert cluster.model is not None
    cluster.model["status"]["loadTest"] |= FIGURES | figures
    settle(cluster)
    assert conditions(cluster)["LoadTested"] == ("True", "Succeeded")
    return message(cluster, "LoadTested")


@pytest.mark.parametrize("mode", [{}, {"mode": "fixed"}], ids=["of an earlier release", "fixed"])
def test_fixed_rate_is_told_by_what_was_reached_of_it(mode: dict[str, str]) -> None:
    assert sentence(**mode) == (
        "9.98 of 10 requested requests per second, p95 0.180 s, longest length bucket within the objective: 200"
    )


def test_search_is_told_by_what_it_found() -> None:
    conclusions = {
        "mixedRpsPerReplica": 23.4567, "basis": "search", "shareBeyondMaxLength": 0, "replicasNeeded": 1,
    }  # fmt: skip
    buckets = [bucket("1-100", 39.9, 40.0), bucket("101-200", 9.9, 10.125), bucket("201-300", 3.2, 3.25)]
    said = sentence(mode="search", buckets=buckets, conclusions=conclusions)
    assert said == (
        "within the objective: 3.25 to 40.00 requests per second by text length,"
        " 23.46 per replica for the mix of lengths,"
        " p95 0.180 s, longest length bucket at the requested rate: 200"
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([40.0], "within the objective: 40.00 requests per second, "),
        ([0.0, 40.0], "within the objective: 0.00 to 40.00 requests per second by text length, "),
        ([0.0, 0.0], "no tested rate met the objective, "),
        ([None], "no tested rate met the objective, "),
        ([], "no tested rate met the objective, "),
    ],
)
def test_search_never_compares_with_the_rate_that_it_began_at(found: list[float | None], words: str) -> None:
    buckets = [bucket(f"{i}-{i}", 5.0, rps) for i, rps in enumerate(found, 1)]
    said = sentence(mode="search", buckets=buckets, maxLengthAtRequestedRps=None, generatorSaturated=True)
    assert said.startswith(words)
    assert "of 10 requests" not in said
    assert said.endswith("longest length bucket at the requested rate: none; the load generator was saturated")


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({}, ""),
        ({"generatorSaturated": True, "openLimitReached": True}, "; the load generator was saturated"),
        ({"openLimitReached": True}, "; the limit of 16 open requests was reached, so requests were sent late"),
        (
            {"openLimitReached": True, "usersExhausted": True},
            "; the limit of 16 open requests was reached, so requests were omitted; raise loadTest.maxOpenRequests if"
            " latencies are low",
        ),
        (
            {"replicasChanged": True},
            "; the number of ready replicas changed during the run, so there are no conclusions",
        ),
    ],
)
def test_what_limits_the_conclusions_is_said(figures: dict[str, Any], words: str) -> None:
    assert sentence(users=16, **figures).endswith(f"within the objective: 200{words}")


def test_figure_that_the_mix_did_not_give_is_marked() -> None:
    conclusions = {
        "mixedRpsPerReplica": 4.0, "basis": "search", "source": "buckets", "shareBeyondMaxLength": 0,
        "replicasNeeded": 3,
    }  # fmt: skip
    said = sentence(mode="search", buckets=[bucket("1-100", 5.0, 5.0)], conclusions=conclusions)
    assert "4.00 per replica for the mix of lengths (computed from the buckets)" in said


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (None, ("False", "NoBaseline")),
        ({"regressed": False, "p95Change": 0.01, "message": "p95 is equal"}, ("False", "AsBefore")),
        ({"regressed": True, "p95Change": 0.5, "message": "p95 is higher"}, ("True", "SlowerThanBefore")),
    ],
)
def test_regression_sets_its_condition_and_emits_one_event(
    comparison: dict[str, Any] | None, expected: tuple[str, str]
) -> None:
    cluster = drive(a_model())
    assert cluster.model is not None
    cluster.model["status"]["loadTest"] |= {"comparison": comparison} if comparison else {}
    settle(cluster)
    settle(cluster)
    assert conditions(cluster)["PerformanceRegressed"] == expected
    warned = [event.message for event in cluster.events if event.reason == "PerformanceRegressed"]
    assert warned == (["p95 is higher"] if expected[0] == "True" else [])
    assert conditions(cluster)["Ready"][0] == "True", "a slower version still serves"


def test_regression_is_unknown_before_a_load_test_and_off_without_one() -> None:
    assert conditions(drive(a_model(), 2))["PerformanceRegressed"] == ("Unknown", "Waiting")
    off = drive(a_model().with_spec("loadTest.enabled", False), 3)
    assert conditions(off)["PerformanceRegressed"] == ("False", "Skipped")


def test_figures_that_the_test_did_not_get_are_told_as_such() -> None:
    assert sentence(actualRps=None, p95Seconds=None, maxLengthAtRequestedRps=None) == (
        "no of 10 requested requests per second, p95 none, longest length bucket within the objective: none"
    )
