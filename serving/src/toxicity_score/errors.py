"""Errors that end a run. What was written stays, and the next run with the same arguments continues."""

from __future__ import annotations

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT


class ScoreError(RuntimeError):
    """The run cannot go on. The message names the option and the remedy."""

    exit_code = EXIT_FAILED


class InvalidRunError(ScoreError):
    """An argument, the input or the token is wrong, so a retry does not help."""

    exit_code = EXIT_INVALID_INPUT
