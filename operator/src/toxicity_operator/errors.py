"""The operator's error tree; no caller of the cluster imports a client's exceptions."""

from __future__ import annotations

TRANSIENT_STATUSES = frozenset({0, 409, 410, 429, 500, 502, 503, 504})


class OperatorError(Exception):
    """Base of the errors that the operator expects."""


class InvalidSpec(OperatorError):
    """The schema let the resource pass but the models do not; no retry cures it."""


class ClusterError(OperatorError):
    """A request to the API server failed; `status` is the HTTP status, 0 without an answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def is_transient(error: ClusterError) -> bool:
    """Whether the same request may succeed later without anybody changing anything."""
    return error.status in TRANSIENT_STATUSES
