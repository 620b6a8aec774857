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


@pytest.mark.parametrize(
    ("texts", "more", "admitted"),
    [(2, 1, True), (4, 1, True), (1, 3, True), (1, 4, False), (2, 2, True), (2, 3, False), (3, 2, False)],
)
def test_last_quarter_of_the_queue_is_for_requests_with_one_text(texts: int, more: int, admitted: bool) -> None:
    admission = Admission(1, 4, Gauge("depth", "Texts that wait.", registry=CollectorRegistry()))
    with ExitStack() as stack:
        stack.enter_context(admission.admitted(texts))
        if admitted:
            stack.enter_context(admission.admitted(more))
        else:
            with pytest.raises(OverloadedError, match=f"{more} more texts"):
                stack.enter_context(admission.admitted(more))


@pytest.mark.parametrize(("windows", "admitted"), [(0, True), (3, True), (4, False)])
def test_windows_are_let_in_up_to_all_places_beside_those_of_others(windows: int, admitted: bool) -> None:
    admission, _ = queue()
    with admission.admitted(1) as first:
        first(2)
        with admission.admitted(1) as second:
            if admitted:
                second(windows)
                assert admission.depth == 4 + windows - RUNNING
            else:
                with pytest.raises(OverloadedError, match="2 texts wait, and 4 more windows"):
                    second(windows)
        assert admission.depth == 3 - RUNNING


def test_long_text_is_let_in_while_no_other_is_and_takes_no_places_of_texts() -> None:
    admission, _ = queue()
    with admission.admitted(1) as short, admission.admitted(1) as long, admission.admitted(1) as other:
        short(0)
        long(31)
        with pytest.raises(OverloadedError, match="1 more windows"):
            other(1)
        with admission.admitted(1), admission.admitted(1):
            assert admission.depth == 34
    with admission.admitted(1) as long:
        long(31)
        assert admission.depth == 30


def test_idle_service_takes_any_batch_and_no_other_beside_it() -> None:
    admission, _ = queue()
    with admission.admitted(50) as alone:
        alone(0)
        assert admission.depth == 48
        with pytest.raises(OverloadedError, match="48 texts wait, and 1 more texts"), admission.admitted(1):
            pass
    with admission.admitted(50):
        assert admission.depth == 48


def test_request_may_have_as_many_windows_as_one_text_in_a_small_service() -> None:
    assert queue()[0].max_extra == 32
    large = Admission(64, 256, Gauge("depth", "Texts that wait.", registry=CollectorRegistry()))
    assert large.max_extra == 320


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
