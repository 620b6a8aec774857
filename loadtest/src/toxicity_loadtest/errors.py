"""Why a load test ends without figures. Each kind carries the reason and exit code that the stage result shows."""

from __future__ import annotations

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT


class LoadTestError(Exception):
    """Base of the expected failures; the message is written for the person who reads the status."""

    reason = "LoadTestFailed"
    exit_code = EXIT_FAILED


class CorpusError(LoadTestError):
    """The texts cannot be read; no retry cures it."""

    reason = "InvalidTexts"
    exit_code = EXIT_INVALID_INPUT


class NotReadyError(LoadTestError):
    """The service did not become ready in time."""

    reason = "ServiceNotReady"


class NoSuccessError(LoadTestError):
    """Every single request failed, so that there is nothing to measure."""

    reason = "NoSuccess"


class GeneratorError(LoadTestError):
    """A user of the generator crashed, so that its figures would be wrong."""

    reason = "GeneratorCrashed"


class PublishError(LoadTestError):
    """The status could not be written."""

    reason = "StatusNotWritten"


class Terminated(LoadTestError):
    """The process was asked to end before the load test was complete."""

    reason = "Terminated"
