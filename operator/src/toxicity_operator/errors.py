"""The operator's error tree; no caller of the cluster imports a client's exceptions."""

from __future__ import annotations

from toxicity_api.conditions import Reason

TRANSIENT_STATUSES = frozenset({0, 409, 410, 429, 500, 502, 503, 504})

NOT_FOUND, CONFLICT = 404, 409


class OperatorError(Exception):
    """Base of the errors that the operator expects."""


class InvalidSpec(OperatorError):
    """The schema let the resource pass but the models do not; no retry cures it."""


class ClusterError(OperatorError):
    """A request to the API server failed; `status` is the HTTP status, 0 without an answer."""

    reason = Reason.APPLY_FAILED
    """What the condition Ready says when a pass failed by this."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NotOurs(ClusterError):
    """An object that bears the name of a child belongs to somebody else."""

    reason = Reason.NOT_OURS

    def __init__(self, message: str) -> None:
        super().__init__(message, CONFLICT)


class PredecessorRemains(ClusterError):
    """An object of an earlier resource of this name is still to be removed by the garbage collector."""

    reason = Reason.WAITING

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"waits until {kind} {name} of the previous resource of this name is removed", CONFLICT)


def is_transient(error: ClusterError) -> bool:
    """Whether the same request may succeed later without anybody changing anything."""
    return error.status in TRANSIENT_STATUSES and not isinstance(error, NotOurs)
