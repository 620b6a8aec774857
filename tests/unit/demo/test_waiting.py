"""Waiting for the cluster: a failed request is retried, and the deadline's error has the last result."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from toxicity_cluster.demo_kubectl import DeadlineExceeded, wait_until
from toxicity_cluster.errors import ClusterError, CommandFailed


def answering(*answers: str | ClusterError) -> Callable[[], str]:
    """A condition that returns these answers in turn, then repeats the last one."""
    left = list(answers)

    def ask() -> str:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    return ask


def test_a_command_that_fails_meanwhile_is_no_end() -> None:
    condition = answering("", CommandFailed("TLS handshake timeout"), "", "here")
    assert wait_until("it", condition, 5.0, 0.001) == "here"


def test_what_was_seen_last_is_told_at_the_deadline() -> None:
    with pytest.raises(DeadlineExceeded, match=r"it: not within 0 s .*connection refused"):
        wait_until("it", answering("", CommandFailed("connection refused")), 0.05, 0.001)


def test_what_no_waiting_cures_ends_it_at_once() -> None:
    with pytest.raises(ClusterError, match="the model has failed"):
        wait_until("it", answering("", ClusterError("the model has failed"), "here"), 5.0, 0.001)
