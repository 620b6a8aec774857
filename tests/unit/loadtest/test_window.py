from __future__ import annotations

from pathlib import Path

import pytest

from toxicity_loadtest.constant_server import request_size
from toxicity_loadtest.cpu import cpu_limit, usable_cores
from toxicity_loadtest.records import Outcome, WindowOrder
from toxicity_loadtest.service import OutageWatch
from toxicity_loadtest.spill import Records, SpillFile
from toxicity_loadtest.window import LEAD_SECONDS, OpenWindow


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def an_open_window(clock: Clock, **fields: object) -> OpenWindow:
    order = WindowOrder.model_validate({"number": 7, "name": "1-100", "rps": 4.0, "seconds": 1.0} | fields)
    return OpenWindow(order, [("a",), ("b",)], Records(SpillFile()), clock)


def test_slots_are_handed_out_in_order_with_the_texts_in_a_circle() -> None:
    clock = Clock()
    window = an_open_window(clock)
    assert [window.next_slot() for _ in range(5)] == [(0, ("a",)), (1, ("b",)), (2, ("a",)), (3, ("b",)), None]
    assert [window.order.scheduled(slot) for slot in range(4)] == [0.0, 0.25, 0.5, 0.75]
    assert window.elapsed() == pytest.approx(-LEAD_SECONDS)


def test_part_of_a_window_has_every_second_slot() -> None:
    window = an_open_window(Clock(), part=1, parts=2)
    assert [window.next_slot() for _ in range(3)] == [(1, ("a",)), (3, ("b",)), None]


def test_slot_that_nobody_was_free_for_is_omitted() -> None:
    clock = Clock()
    window = an_open_window(clock)
    assert window.next_slot() == (0, ("a",)) and window.admit(0, waited=False)
    assert window.next_slot() == (1, ("b",))
    clock.now += LEAD_SECONDS + 1.0
    assert not window.admit(1, waited=True), "the window ended while it waited for a user"
    assert window.missing == 1
    record = window.add(0, 0.0, 0.01, 1.0, Outcome.OK, 200)
    result = window.result(0.5)
    assert (list(result.records), result.omitted, result.cpu_share) == ([record], [0.25, 0.5, 0.75], 0.5)


def test_slot_for_which_a_user_was_free_is_sent_even_if_the_generator_is_late() -> None:
    clock = Clock()
    window = an_open_window(clock)
    clock.now += LEAD_SECONDS + 1.5
    assert window.next_slot() == (0, ("a",)) and window.admit(0, waited=False)
    record = window.add(0, 0.0, 1.5, 1.6, Outcome.OK, 200)
    assert (record.intended_start, record.start) == (0.0, 1.5), "1.5 s are the generator's lag"


def test_open_requests_are_counted_at_their_peak() -> None:
    window = an_open_window(Clock())
    for slot in (0, 1, 2):
        assert window.admit(slot, waited=False)
        if slot == 1:
            window.add(0, 0.0, 0.0, 0.1, Outcome.OK, 200)
    assert window.result(0.5).open_peak == 2
    assert an_open_window(Clock()).result(0.5).open_peak == 0


def test_cpu_is_kept_in_milliseconds_since_the_window_began() -> None:
    clock = Clock()
    window = an_open_window(clock)
    window.add_cpu(0.5)
    clock.now += LEAD_SECONDS + 0.12345
    window.add_cpu(0.123456)
    assert window.result(0.5).cpu == ((-LEAD_SECONDS, 0.5), (0.123, 0.1235))


def test_schedule_begins_shortly_after_the_window_is_opened() -> None:
    assert -0.5 < an_open_window(Clock()).elapsed() < 0


def test_window_is_over_at_the_end_of_its_time() -> None:
    clock = Clock()
    window = an_open_window(clock, seconds=2.0)
    window.begin = clock.now
    clock.now += 1.75
    assert not window.is_over
    clock.now += 0.25
    assert window.is_over


def test_lateness_begins_when_a_user_was_free() -> None:
    window = an_open_window(Clock())
    assert window.add(1, 0.1, 0.26, 0.3, Outcome.OK, 200).intended_start == 0.25
    assert window.add(2, 0.9, 0.91, 0.95, Outcome.OK, 200)[:4] == (2, 0.5, 0.9, 0.91)


def test_window_is_over_when_all_requests_have_ended_and_the_time_is_up() -> None:
    clock = Clock()
    window = an_open_window(clock)
    assert window.admit(0, waited=False) and window.admit(1, waited=False)
    window.add(0, 0.0, 0.0, 0.1, Outcome.OK, 200)
    clock.now += LEAD_SECONDS + 2.0
    assert not window.is_over
    window.add(1, 0.0, 0.0, 0.1, Outcome.OK, 200)
    assert window.is_over
    window.late = 1
    assert not window.is_over, "a slot still waits for a user"
    early = an_open_window(clock)
    assert not early.is_over
    early.close()
    assert early.is_over and early.next_slot() is None and not early.admit(0, waited=False)


@pytest.mark.parametrize(("rps", "seconds", "slots"), [(10, 30, 300), (0.3, 10, 3), (0.35, 10, 4), (0.01, 10, 1)])
def test_slots_of_a_window_are_those_that_begin_in_it(rps: float, seconds: float, slots: int) -> None:
    order = WindowOrder(number=1, name="x", rps=rps, seconds=seconds)
    assert order.slots == slots
    assert order.scheduled(slots - 1) < seconds <= slots / rps + 1e-6


@pytest.mark.parametrize(
    ("outcome", "code", "is_away"),
    [
        (Outcome.TIMEOUT, 0, True),
        (Outcome.CONNECTION, 0, True),
        (Outcome.HTTP_ERROR, 503, True),
        (Outcome.HTTP_ERROR, 429, False),
        (Outcome.HTTP_ERROR, 500, False),
        (Outcome.INVALID_ANSWER, 200, False),
    ],
)
def test_outage_is_when_nobody_answers(outcome: Outcome, code: int, is_away: bool) -> None:
    watch = OutageWatch(10.0)
    watch.note(0.0, 0.1, Outcome.OK, 200)
    watch.note(5.0, 6.0, outcome, code)
    assert watch.is_too_long(15.1) is is_away
    assert not watch.is_too_long(15.0)


def test_outage_is_counted_from_its_first_request_and_ends_with_an_answer() -> None:
    watch = OutageWatch(10.0)
    for start in (5.0, 8.0, 14.0):
        watch.note(start, start + 0.1, Outcome.CONNECTION, 0)
    assert watch.seconds(20.0) == 15.0
    watch.note(16.0, 17.0, Outcome.OK, 200)
    assert (watch.seconds(100.0), watch.is_too_long(100.0)) == (0.0, False)


def test_time_out_is_no_outage_while_others_are_answered() -> None:
    watch = OutageWatch(10.0)
    watch.note(28.0, 29.0, Outcome.OK, 200)
    watch.note(0.0, 30.0, Outcome.TIMEOUT, 0)
    assert watch.seconds(31.0) == 2.0


@pytest.mark.parametrize(
    ("files", "limit", "usable"),
    [
        ({"cpu.max": "50000 100000\n"}, 0.5, 0.5),
        ({"cpu.max": "200000 100000\n"}, 2.0, 1.0),
        ({"cpu.max": "max 100000\n"}, None, 1.0),
        ({"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.25, 0.25),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, 1.0),
        ({}, None, 1.0),
    ],
)
def test_usable_cpu_is_one_core_or_the_limit(
    tmp_path: Path, files: dict[str, str], limit: float | None, usable: float
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert (cpu_limit(tmp_path), usable_cores(tmp_path)) == (limit, usable)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", None),
        (b"GET / HTTP/1.1\r\n", None),
        (b"GET / HTTP/1.1\r\n\r\n", 18),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", None),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\nX: y\r\n\r\nabcPOST", 47),
    ],
)
def test_constant_server_waits_for_a_whole_request(data: bytes, size: int | None) -> None:
    assert request_size(data) == size


def test_slots_that_are_left_when_a_window_is_ended_are_not_omitted() -> None:
    """The run was ended; the service was not too slow for them."""
    window = an_open_window(Clock())
    assert window.admit(0, waited=False)
    record = window.add(0, 0.0, 0.01, 0.2, Outcome.OK, 200)
    window.close()
    result = window.result(0.25)
    assert (list(result.records), result.omitted) == ([record], [])
    ended = an_open_window(Clock())
    ended.next_slot()
    assert ended.result(0.25).omitted == [0.25, 0.5, 0.75], "one that is not closed has left them out"
