"""Errors that a person cures by changing the input; every module of the two model stages raises them."""

from __future__ import annotations

from collections.abc import Sequence

CRASHED = "TrainingCrashed"


class InputError(ValueError):
    """Input that no retry can cure: `reason` in CamelCase for programs, the message says what to change."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        """So that it comes out of a process as it was: pickle would give the constructor the message alone."""
        return type(self), (self.reason, str(self))


class RankFailure(RuntimeError):
    """What one of several training processes failed with, as it told the one that started it."""

    def __init__(self, reason: str, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code


class DownloadError(RuntimeError):
    """A download that failed although nothing is known to be wrong with the input: another attempt may succeed."""


DETAIL_LIMIT = 160
LISTED = 8


def detail_of(error: BaseException) -> str:
    """A client library's own words in one short line, its kind where it has none."""
    return " ".join(str(error).split())[:DETAIL_LIMIT] or type(error).__name__


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """The first `most` of the names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


class DatasetError(InputError):
    """The data set cannot be used as it is."""


class ModelError(InputError):
    """The model folder, or a setting that is about the model, cannot be used as it is."""
