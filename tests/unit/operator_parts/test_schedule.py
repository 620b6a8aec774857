from __future__ import annotations

import re

import pytest

from toxicity_api.spec.loadtest import CRON_PATTERN
from toxicity_operator.errors import InvalidSpec
from toxicity_operator.schedule import NO_SLOT, due_slot

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


def test_schedule_that_is_set_or_changed_looks_ahead() -> None:
    ran = "2030-04-02T11:00:00Z"
    assert slot_at("2030-04-02T12:00:00Z", since=ran) == NO_SLOT
    assert (
        slot_at("2030-04-02T12:00:00Z", "2030-04-02T02:30:00Z", since=ran, cron="0 0 1 1 *")
        == "2030-04-02T02:30:00Z"
    )


def test_moment_of_the_creation_itself_is_no_slot() -> None:
    assert slot_at("2030-03-30T12:00:30Z", cron="0 12 * * *") == NO_SLOT


def test_schedule_that_is_removed_starts_nothing() -> None:
    assert slot_at("2031-01-01T00:00:00Z", "2030-03-31T02:30:00Z", cron=None) == "2030-03-31T02:30:00Z"
    assert slot_at("2031-01-01T00:00:00Z", cron=None) == NO_SLOT


@pytest.mark.parametrize("cron", ["61 * * * *", "* * * *", "a b c d e", "0 0 31 2 *", "*/0 * * * *", ""])
def test_bad_schedule_is_refused_by_the_name_of_its_field(cron: str) -> None:
    with pytest.raises(InvalidSpec, match=re.escape(f"spec.loadTest.schedule: {cron!r} is no cron schedule")):
        slot_at("2030-01-01T00:00:00Z", cron=cron)


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/15 0-6,22 1 JAN-MAR MON#1", "0 0 L * *"])
def test_schema_and_library_agree_on_good_schedules(cron: str) -> None:
    slot_at("2030-01-01T00:00:00Z", cron=cron)
    assert re.fullmatch(CRON_PATTERN, cron)


@pytest.mark.parametrize("cron", ["", "* * * *", "0 0 0 * * *", "0  3 * * *", "@daily", "0 3 * * *\n"])
def test_schema_refuses_what_has_not_five_fields(cron: str) -> None:
    assert re.search(CRON_PATTERN.replace("$", r"\Z"), cron) is None
