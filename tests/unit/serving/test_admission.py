"""The bounded queue as such: who is let in at its bound, and that every place is given back."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Gauge

from toxicity_serving.admission import Admission, OverloadedError

RUNNING, WAITING = 2, 3


def queue() -> tuple[Admission, CollectorRegistry]:
    registry = CollectorRegistry()
    return Admission(RUNNING, WAITING, Gauge("depth", "Texts that wait.", registry=registry)), registry


@pytest.mark.parametrize(("held", "more", "admitted"), [(1, 4, True), (1, 5, False), (4, 1, True), (5, 1, False)])
def test_texts_are_let_in_up_to_all_places(held: int, more: int, admitted: bool) -> None:
    admission, _ = queue()
    with ExitStack() as stack:
        stack.enter_context(admission.admitted(held))(0)
        if admitted:
            stack.enter_context(admission.admitted(more))
            assert admission.depth == held + more - RUNNING
        else:
            with pytest.raises(OverloadedError, match=f"{more} more texts exceed the limit of 3"):
                stack.enter_context(admission.admitted(more))
    assert admission.depth == 0


@pytest.mark.parametrize(("windows", "admitted"), [(0, True), (3, True), (4, False)])
def test_windows_are_let_in_up_to_all_places_beside_a_request_in_the_engine(windows: int, admitted: bool) -> None:
    admission, _ = queue()
    with admission.admitted(1) as first:
        first(0)
        with admission.admitted(1) as second:
            if admitted:
                second(windows)
                assert admission.depth == max(0, 2 + windows - RUNNING)
            else:
                with pytest.raises(OverloadedError, match="the queue is full: 0 texts wait, and 4 more windows"):
                    second(windows)
        assert admission.depth == 0
        with admission.admitted(4):
            assert admission.depth == 3, "whatever the second one had is free"


def test_idle_service_takes_any_request_and_no_other_beside_it() -> None:
    admission, _ = queue()
    with admission.admitted(50) as alone:
        alone(50)
        assert admission.depth == 98
        with pytest.raises(OverloadedError, match="98 texts wait, and 1 more texts"), admission.admitted(1):
            pass
    with admission.admitted(50):
        assert admission.depth == 48


def test_request_that_has_left_the_engine_is_not_in_the_way_of_a_long_one() -> None:
    admission, _ = queue()
    with admission.admitted(1) as short:
        short(0)
    with admission.admitted(1) as long:
        long(31)
        assert admission.depth == 30


def test_gauge_shows_the_depth_at_every_moment() -> None:
    admission, registry = queue()
    assert registry.get_sample_value("depth") == 0
    with admission.admitted(2) as add:
        assert registry.get_sample_value("depth") == 0
        add(3)
        assert registry.get_sample_value("depth") == 3
    assert registry.get_sample_value("depth") == 0


def test_places_are_free_after_an_error_within_the_block() -> None:
    admission, registry = queue()
    with pytest.raises(ZeroDivisionError), admission.admitted(5) as add:
        add(2)
        raise ZeroDivisionError
    assert admission.depth == 0
    with admission.admitted(1) as add, admission.admitted(4):
        add(0)
        assert registry.get_sample_value("depth") == 3


def test_request_that_never_reached_the_engine_is_not_counted_out_of_it() -> None:
    admission, _ = queue()
    with admission.admitted(1):
        pass  # its tokenizing failed
    with admission.admitted(1) as long:
        long(31)
        assert admission.depth == 30
