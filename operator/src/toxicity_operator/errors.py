"""The operator's errors. Callers of `kube` do not need the exceptions of the Kubernetes client."""

from __future__ import annotations

from toxicity_api.conditions import Reason

TRANSIENT_STATUSES = frozenset({0, 409, 410, 429, 500, 502, 503, 504})

NOT_FOUND, CONFLICT = 404, 409


class OperatorError(Exception):
    """Base class of the errors that the operator expects."""


class InvalidSpec(OperatorError):
    """The spec passed the CRD schema but is invalid. A retry does not help."""


class ClusterError(OperatorError):
    """A request to the API server failed. `status` is the HTTP status, 0 if there was no response."""

    reason = Reason.APPLY_FAILED
    """Reason of the condition Ready after a pass that failed with this error."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NotOurs(ClusterError):
    """An object with the name of a child belongs to someone else."""

    reason = Reason.NOT_OURS

    def __init__(self, message: str) -> None:
        super().__init__(message, CONFLICT)


class PredecessorRemains(ClusterError):
    """The garbage collector has not yet deleted an object of an earlier resource of this name."""

    reason = Reason.WAITING

    def __init__(self, kind: str, name: str) -> None:
        message = (
            f"waiting for the garbage collector to delete {kind} {name} of the previous resource of this name"
        )
        super().__init__(message, CONFLICT)


def is_transient(error: ClusterError) -> bool:
    """Whether the same request may succeed later without a change by a user."""
    return error.status in TRANSIENT_STATUSES and not isinstance(error, NotOurs)
