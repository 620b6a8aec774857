"""Why a load test ends early. Each kind carries the reason and exit code that the stage result shows."""

from __future__ import annotations

import logging
import traceback
from types import TracebackType
from typing import Literal

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT
from toxicity_loadtest.records import Window

logger = logging.getLogger(__name__)


class LoadTestError(Exception):
    """Base of the expected failures; the message is written for the person who reads the status.

    `window` is what was measured of the window in which it happened, for the list of every request.
    """

    reason = "LoadTestFailed"
    exit_code = EXIT_FAILED
    state: Literal["Failed", "Partial"] = "Failed"

    def __init__(self, message: str, window: Window | None = None) -> None:
        super().__init__(message)
        self.window = window


class CorpusError(LoadTestError):
    """The texts cannot be read; no retry cures it."""

    reason = "InvalidTexts"
    exit_code = EXIT_INVALID_INPUT


class TokenError(LoadTestError):
    """The API token cannot be sent; no retry cures it. The message never quotes it."""

    reason = "InvalidConfig"
    exit_code = EXIT_INVALID_INPUT


class NotReadyError(LoadTestError):
    """The service did not become ready in time."""

    reason = "ServiceNotReady"


class OutageError(LoadTestError):
    """The service stopped being available, for longer than the spec bears."""

    reason = "ServiceUnavailable"


class NoSuccessError(LoadTestError):
    """Every single request failed, so that there is nothing to measure."""

    reason = "NoSuccess"


class GeneratorError(LoadTestError):
    """A user of the generator crashed, so that its figures would be wrong."""

    reason = "GeneratorCrashed"


class WorkersMissingError(LoadTestError):
    """Not all workers reported for work."""

    reason = "WorkersMissing"


class WorkerLostError(LoadTestError):
    """A worker went away with its records; what was measured before stays."""

    reason = "WorkerLost"
    state = "Partial"


class MasterLostError(LoadTestError):
    """The master went away; a worker has nobody to report to."""

    reason = "MasterLost"


class ArtifactsError(LoadTestError):
    """The files could not be written."""

    reason = "ArtifactsNotWritten"


class PublishError(LoadTestError):
    """The status could not be written."""

    reason = "StatusNotWritten"


class Terminated(LoadTestError):
    """The process was asked to end before the load test was complete."""

    reason = "Terminated"


def describe_crash(error: BaseException) -> str:
    """For the status and the result document."""
    return f"{type(error).__name__}; the pod's log says where"


def log_crash(event: str, error: BaseException) -> None:
    """The exception and those that caused it, each with its frames."""
    cause: BaseException | None = error
    while cause is not None:
        log_traceback(event, type(cause), cause.__traceback__)
        cause = cause.__cause__ or cause.__context__


def log_traceback(event: str, kind: type[BaseException], trace: TracebackType | None) -> None:
    """Log the exception's type and its frames, without its message."""
    logger.error("%s error=%s\n%s", event, kind.__name__, "".join(traceback.format_tb(trace)).rstrip())
