from __future__ import annotations

import re
from typing import Any

import pytest

from toxicity_api.spec.loadtest import CRON_PATTERN, LoadTestSpec
from toxicity_api.status import LoadTestSchedule
from toxicity_operator.chain import NO_SLOT
from toxicity_operator.decide.schedule import counts_from, due_slot, schedule_in_force
from toxicity_operator.errors import InvalidSpec

CREATED = "2030-03-30T12:00:00Z"
NIGHTLY = "30 2 * * *"


def slot_at(
    now: str, known: str = NO_SLOT, *, since: str = CREATED, is_running: bool = False, cron: str | None = NIGHTLY
) -> str:
    return due_slot(cron, since, now, known, is_running)


def test_first_run_belongs_to_no_slot() -> None:
    assert slot_at(CREATED) == NO_SLOT
    assert slot_at("2030-03-31T02:29:59Z") == NO_SLOT


@pytest.mark.parametrize(
    "now",
    ["2030-03-31T02:30:00Z", "2030-03-31T02:30:00.250000Z", "2030-03-31T05:30:00+03:00", "2030-04-01T02:29:59Z"],
)
def test_slot_is_due_from_its_moment_to_the_next_one(now: str) -> None:
    assert slot_at(now) == "2030-03-31T02:30:00Z"


def test_slot_that_was_run_is_not_due_again() -> None:
    night = "2030-03-31T02:30:00Z"
    assert slot_at("2030-04-01T02:29:59Z", night, since="2030-03-31T02:30:07Z") == night
    assert slot_at("2030-04-01T02:30:00Z", night, since="2030-03-31T02:30:07Z") == "2030-04-01T02:30:00Z"


def test_slots_are_a_day_apart_on_the_nights_when_clocks_change() -> None:
    slots = [slot_at(f"2030-{day}T12:00:00Z") for day in ("03-31", "04-01", "10-27", "10-28")]
    assert slots == [f"2030-{day}T02:30:00Z" for day in ("03-31", "04-01", "10-27", "10-28")]


def test_running_test_is_not_cut_off_by_the_next_slot_which_waits_for_its_end() -> None:
    night, begun, next_day = "2030-03-31T02:30:00Z", "2030-03-31T02:30:07Z", "2030-04-01T02:31:00Z"
    assert slot_at(next_day, night, since=begun, is_running=True) == night
    assert slot_at(next_day, night, since=begun) == "2030-04-01T02:30:00Z"
    assert slot_at("2030-03-31T02:31:00Z", is_running=True) == NO_SLOT


def test_of_several_missed_slots_the_latest_is_run() -> None:
    assert slot_at("2030-04-09T12:00:00Z", "2030-03-31T02:30:00Z") == "2030-04-09T02:30:00Z"


AFTERNOON = "2030-04-10T15:00:00Z"
KNOWN = LoadTestSchedule(schedule=NIGHTLY, since="2030-04-01T00:00:00Z")


@pytest.mark.parametrize(
    ("recorded", "since"),
    [
        pytest.param(None, AFTERNOON, id="set, or of an operator that did not remember"),
        pytest.param(LoadTestSchedule(schedule="0 14 * * *", since=CREATED), AFTERNOON, id="moved"),
        pytest.param(KNOWN, KNOWN.since, id="known"),
    ],
)
def test_schedule_that_is_set_or_changed_looks_ahead(recorded: LoadTestSchedule | None, since: str) -> None:
    found = schedule_in_force(LoadTestSpec(schedule=NIGHTLY), recorded, AFTERNOON)
    assert found == LoadTestSchedule(schedule=NIGHTLY, since=since)
    due = slot_at(AFTERNOON, since=counts_from(CREATED, found))
    assert due == ("2030-04-10T02:30:00Z" if found == recorded else NO_SLOT)
    assert slot_at("2030-04-11T02:30:00Z", since=counts_from(CREATED, found)) == "2030-04-11T02:30:00Z"


@pytest.mark.parametrize("changes", [{"schedule": None}, {"schedule": NIGHTLY, "enabled": False}])
def test_schedule_that_is_removed_or_switched_off_is_forgotten(changes: dict[str, Any]) -> None:
    spec = LoadTestSpec(**changes)
    assert schedule_in_force(spec, KNOWN, AFTERNOON) is None
    assert counts_from(CREATED, None) == CREATED


@pytest.mark.parametrize(
    ("last_run", "later"),
    [
        ("2030-04-02T02:30:07Z", "2030-04-02T02:30:07Z"),
        ("2030-03-31T02:30:07Z", KNOWN.since),
        ("2030-04-01T02:00:00+03:00", KNOWN.since),
    ],
)
def test_schedule_looks_from_the_later_of_the_last_run_and_its_own_beginning(last_run: str, later: str) -> None:
    assert counts_from(last_run, KNOWN) == later


def test_moment_of_the_creation_itself_is_no_slot() -> None:
    assert slot_at("2030-03-30T12:00:30Z", cron="0 12 * * *") == NO_SLOT


def test_schedule_that_is_removed_starts_nothing() -> None:
    assert slot_at("2031-01-01T00:00:00Z", "2030-03-31T02:30:00Z", cron=None) == "2030-03-31T02:30:00Z"
    assert slot_at("2031-01-01T00:00:00Z", cron=None) == NO_SLOT


@pytest.mark.parametrize("cron", ["61 * * * *", "* * * *", "a b c d e", "0 0 31 2 *", "*/0 * * * *", ""])
def test_bad_schedule_is_refused_by_the_name_of_its_field(cron: str) -> None:
    with pytest.raises(InvalidSpec, match=re.escape(f"spec.loadTest.schedule: {cron!r} is not a cron schedule")):
        slot_at("2030-01-01T00:00:00Z", cron=cron)


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/15 0-6,22 1 JAN-MAR MON#1", "0 0 L * *"])
def test_schema_and_library_agree_on_good_schedules(cron: str) -> None:
    slot_at("2030-01-01T00:00:00Z", cron=cron)
    assert re.fullmatch(CRON_PATTERN, cron)


@pytest.mark.parametrize("cron", ["", "* * * *", "0 0 0 * * *", "0  3 * * *", "@daily", "0 3 * * *\n"])
def test_schema_refuses_what_has_not_five_fields(cron: str) -> None:
    assert re.search(CRON_PATTERN.replace("$", r"\Z"), cron) is None
