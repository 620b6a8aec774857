"""Leader election by the Lease and the clock of each process."""

from __future__ import annotations

from typing import Any

import pytest

from toxicity_operator.errors import ClusterError
from toxicity_operator.runtime.leadership import Elector, LeadershipLost
from toxicity_operator.settings import LeaseSettings

SETTINGS = LeaseSettings("toxicity-system", "toxicity-operator", "one", 15, 10, 2)
OTHERS = LeaseSettings("toxicity-system", "toxicity-operator", "two", 15, 10, 2)


class Clock:
    """A manual clock in seconds, one per process."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Store:
    """A Lease with optimistic locking, whose next requests may fail, before or after they take effect."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.writes = 0
        self.fails: list[tuple[str, int]] = []

    def read(self) -> dict[str, Any] | None:
        self._fail("read")
        return self.lease

    def write(self, found: Any, holder: str, seconds: int) -> dict[str, Any]:
        self._fail("write")
        if found is None and self.lease is not None:
            raise ClusterError("exists already", 409)
        if found is not None and self.lease is None:
            raise ClusterError("not found", 404)
        if found is not None and self.lease is not None and found["metadata"] != self.lease["metadata"]:
            raise ClusterError("changed meanwhile", 409)
        self.writes += 1
        spec = {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": str(self.writes)}
        self.lease = {"metadata": {"resourceVersion": str(self.writes)}, "spec": spec}
        self._fail("answer")
        return self.lease

    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])

    def _fail(self, when: str) -> None:
        if self.fails and self.fails[0][0] == when:
            raise ClusterError("injected", self.fails.pop(0)[1])


class Pair:
    """Two processes with one Lease. Their clocks differ, and `wait` advances both."""

    def __init__(self) -> None:
        self.store = Store()
        self.clocks = Clock(100.0), Clock(50_000.0)
        self.one = Elector(self.store, SETTINGS, self.clocks[0])
        self.two = Elector(self.store, OTHERS, self.clocks[1])

    def wait(self, seconds: float) -> None:
        for clock in self.clocks:
            clock.now += seconds


def test_first_leads_and_the_other_waits_while_it_renews() -> None:
    pair = Pair()
    assert (pair.one.attempt(), pair.two.attempt()) == (True, False)
    for _ in range(50):
        pair.wait(2)
        assert (pair.one.attempt(), pair.two.attempt()) == (True, False)
    assert pair.store.holder() == "one"


def test_lease_that_is_not_renewed_is_taken_after_its_duration_as_the_other_saw_it() -> None:
    pair = Pair()
    pair.one.attempt()
    pair.wait(14)
    assert not pair.two.attempt(), "it sees the Lease for the first time"
    pair.wait(14.9)
    assert not pair.two.attempt()
    pair.wait(0.1)
    assert pair.two.attempt()
    with pytest.raises(LeadershipLost, match="two holds the Lease"):
        pair.one.attempt()


def test_leader_ends_before_another_can_take_over() -> None:
    pair = Pair()
    pair.one.attempt()
    pair.two.attempt()
    pair.store.fails = [("write", 0)] * 5
    for _ in range(4):
        pair.wait(2)
        with pytest.raises(ClusterError):
            pair.one.attempt()
        pair.one.check_deadline()
        assert not pair.two.attempt()
    pair.wait(2)
    with pytest.raises(LeadershipLost, match="10 s"):
        pair.one.check_deadline()
    assert not pair.two.attempt()


def test_renewal_counts_from_before_its_request() -> None:
    pair = Pair()
    slow = pair.store.write

    def hanging(found: Any, holder: str, seconds: int) -> dict[str, Any]:
        pair.wait(9)
        return slow(found, holder, seconds)

    pair.store.write = hanging  # type: ignore[method-assign]
    pair.one.attempt()
    pair.wait(1)
    with pytest.raises(LeadershipLost):
        pair.one.check_deadline()


def test_lost_answer_to_a_renewal_is_found_out() -> None:
    pair = Pair()
    pair.one.attempt()
    pair.store.fails = [("answer", 0)]
    with pytest.raises(ClusterError):
        pair.one.attempt()
    assert pair.one.attempt()
    assert pair.store.holder() == "one"


def test_lease_that_is_edited_or_deleted_by_hand_is_kept() -> None:
    pair = Pair()
    pair.one.attempt()
    assert pair.store.lease is not None
    pair.store.lease = {**pair.store.lease, "metadata": {"resourceVersion": "1000"}}
    assert pair.one.attempt()
    pair.store.lease = None
    assert pair.one.attempt()
    assert pair.store.holder() == "one"


def test_of_two_that_write_at_once_one_leads() -> None:
    pair = Pair()
    write = pair.store.write

    def overtaken(found: Any, holder: str, seconds: int) -> dict[str, Any]:
        pair.store.write = write  # type: ignore[method-assign]
        assert pair.two.attempt()
        return write(found, holder, seconds)

    pair.store.write = overtaken  # type: ignore[method-assign]
    assert not pair.one.attempt()
    assert (pair.one.leads, pair.two.leads) == (False, True)


def test_lease_that_is_given_up_is_taken_at_once() -> None:
    pair = Pair()
    pair.one.attempt()
    pair.two.attempt()
    pair.one.release()
    assert (pair.one.leads, pair.two.attempt()) == (False, True)


def test_one_that_stands_by_gives_nothing_up() -> None:
    pair = Pair()
    pair.one.attempt()
    pair.two.attempt()
    pair.two.release()
    assert pair.store.holder() == "one"


def test_duration_that_the_holder_stated_is_waited_for() -> None:
    pair = Pair()
    pair.store.write(None, "slower", 60)
    assert not pair.two.attempt()
    pair.wait(59)
    assert not pair.two.attempt()
    pair.wait(1)
    assert pair.two.attempt()
