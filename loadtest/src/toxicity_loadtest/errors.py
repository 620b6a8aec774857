"""Errors that end a load test early, with the reason and exit code of the stage result.

A crash is reported by the exception's type and frames, without its message. The message of a client's exception can
quote the request's headers and with them the API token.
"""

from __future__ import annotations

import logging
import traceback
from types import TracebackType
from typing import Literal

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT
from toxicity_loadtest.records import Window

logger = logging.getLogger(__name__)


class LoadTestError(Exception):
    """Base class of the expected failures. The message is copied to the status.

    `window` has the records of the window in which the failure happened.
    """

    reason = "LoadTestFailed"
    exit_code = EXIT_FAILED
    state: Literal["Failed", "Partial"] = "Failed"

    def __init__(self, message: str, window: Window | None = None) -> None:
        super().__init__(message)
        self.window = window


class CorpusError(LoadTestError):
    """The texts cannot be read. A retry does not help."""

    reason = "InvalidTexts"
    exit_code = EXIT_INVALID_INPUT


class TraceError(LoadTestError):
    """The recorded arrivals cannot be read. A retry does not help."""

    reason = "InvalidTrace"
    exit_code = EXIT_INVALID_INPUT


class TokenError(LoadTestError):
    """The API token cannot be sent. A retry does not help. The message does not contain the token."""

    reason = "InvalidConfig"
    exit_code = EXIT_INVALID_INPUT


class NotReadyError(LoadTestError):
    """The service did not become ready in time."""

    reason = "ServiceNotReady"


class OutageError(LoadTestError):
    """The service was unavailable for longer than maxOutageSeconds."""

    reason = "ServiceUnavailable"


class NoSuccessError(LoadTestError):
    """All requests failed, so there is nothing to measure."""

    reason = "NoSuccess"


class GeneratorError(LoadTestError):
    """A user of the generator crashed, so its figures would be wrong."""

    reason = "GeneratorCrashed"


class WorkersMissingError(LoadTestError):
    """Not all workers connected to the master."""

    reason = "WorkersMissing"


class WorkerLostError(LoadTestError):
    """A worker was lost with its records. The previous windows are kept."""

    reason = "WorkerLost"
    state = "Partial"


class MasterLostError(LoadTestError):
    """The connection from a worker to the master was lost."""

    reason = "MasterLost"


class ArtifactsError(LoadTestError):
    """The artifacts cannot be written."""

    reason = "ArtifactsNotWritten"


class StorageError(LoadTestError):
    """The object store does not answer, refuses access, or lacks the texts."""

    def __init__(self, message: str, reason: str, exit_code: int) -> None:
        super().__init__(message)
        self.reason, self.exit_code = reason, exit_code


class PublishError(LoadTestError):
    """The status cannot be written."""

    reason = "StatusNotWritten"


class Terminated(LoadTestError):
    """The process got SIGTERM before the load test was complete."""

    reason = "Terminated"


def describe_crash(error: BaseException) -> str:
    """Describe a crash for the status and the result document."""
    return f"{type(error).__name__}: see the traceback in the pod's log"


def log_crash(event: str, error: BaseException) -> None:
    """Log the exception and its causes, each with its frames."""
    cause: BaseException | None = error
    while cause is not None:
        log_traceback(event, type(cause), cause.__traceback__)
        cause = cause.__cause__ or cause.__context__


def log_traceback(event: str, kind: type[BaseException], trace: TracebackType | None) -> None:
    """Log the exception's type and its frames, without its message."""
    logger.error("%s error=%s\n%s", event, kind.__name__, "".join(traceback.format_tb(trace)).rstrip())
