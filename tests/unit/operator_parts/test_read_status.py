"""A status of a newer version is read as far as this version knows its fields."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from support.builders import a_model
from support.documents import Place, at, filled, objects
from toxicity_api.conditions import ConditionType
from toxicity_api.status import ToxicityModelStatus
from toxicity_operator.model import read_status


def full_status() -> dict[str, Any]:
    status: dict[str, Any] = filled(ToxicityModelStatus)
    (condition,) = status["conditions"]
    return status | {"conditions": [condition | {"type": str(kind)} for kind in ConditionType]}


def read(status: dict[str, Any]) -> ToxicityModelStatus:
    before = copy.deepcopy(status)
    found = read_status({**a_model().raw(), "status": status})
    assert status == before, "what a cache holds must not change"
    return found


FULL = full_status()
KNOWN = ToxicityModelStatus.model_validate(FULL)
LEVELS = list(objects(FULL))
NEWS: list[Any] = ["word", 7, None, [], {}, [{"deep": {"er": 1}}], {"deep": [1]}]


def test_full_status_has_every_field_and_every_level() -> None:
    assert read(FULL) == KNOWN
    assert KNOWN.to_wire() == FULL
    assert {("loadTest", "buckets", 0), ("loadTest", "conclusions"), ("training", "progress")} < set(LEVELS)


@pytest.mark.parametrize("path", LEVELS, ids=lambda path: ".".join(map(str, path)) or "status")
def test_unknown_field_is_dropped_at_every_level(path: Place, caplog: pytest.LogCaptureFixture) -> None:
    for value in NEWS:
        newer = copy.deepcopy(FULL)
        at(newer, path)["newerField"] = value
        assert read(newer) == KNOWN
    assert not caplog.records


def test_unknown_fields_are_dropped_at_all_levels_at_once() -> None:
    newer = copy.deepcopy(FULL)
    for path in LEVELS:
        at(newer, path)["newerField"] = NEWS
    assert read(newer) == KNOWN


@pytest.mark.parametrize("kind", ["Newer", "trained", "", None, 7, [], {}])
def test_condition_of_unknown_type_is_dropped_wherever_it_stands(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for index in (0, 3, len(FULL["conditions"])):
        newer = copy.deepcopy(FULL)
        newer["conditions"].insert(index, {**FULL["conditions"][0], "type": kind, "newerField": 1})
        assert read(newer) == KNOWN
    assert not caplog.records


UNREADABLE = {
    "observedGeneration": "word",
    "stage": {},
    "url": ["newer"],
    "conditions": [{**FULL["conditions"][0], "status": "Perhaps"}],
    "training": FULL["training"] | {"outcome": "Suspended"},
    "quantization": FULL["quantization"] | {"sizeBytes": {"newer": 1}},
    "evaluation": {"newerField": "without the fingerprint"},
    "serving": FULL["serving"] | {"replicas": [1]},
    "lineage": "word",
    "outdated": [{"stage": "newer", "subject": "image"}],
    "loadTestJob": [],
    "loadTestSchedule": {"schedule": "0 3 * * *"},
    "loadTest": FULL["loadTest"] | {"mode": "newer"},
    "storage": FULL["storage"] | {"folders": "word"},
}


def test_every_part_has_an_unreadable_form() -> None:
    assert set(UNREADABLE) == set(FULL)


@pytest.mark.parametrize("part", sorted(UNREADABLE))
def test_part_that_cannot_be_read_is_left_out_with_a_warning_and_takes_no_other(
    part: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = read(FULL | {part: UNREADABLE[part]})
    rest = {key: FULL[key] for key in FULL if key != part}
    assert found.to_wire() == {"conditions": []} | rest
    (warning,) = caplog.records
    assert (warning.levelname, warning.message) == ("WARNING", "status_unreadable")
    assert vars(warning)["model"] == "ru-toxicity" and f"status.{part}" in vars(warning)["problem"]


def test_status_of_which_nothing_can_be_read_is_an_empty_one(caplog: pytest.LogCaptureFixture) -> None:
    assert read(UNREADABLE) == ToxicityModelStatus()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("raw", [{}, {"status": None}, {"status": {}}])
def test_no_status_is_an_empty_one(raw: dict[str, Any]) -> None:
    assert read_status(raw) == ToxicityModelStatus()
