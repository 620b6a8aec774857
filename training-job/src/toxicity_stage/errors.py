"""Errors of the stages: those that only a change of the input cures, and those that a retry may cure."""

from __future__ import annotations

import re
from collections.abc import Sequence

CRASHED = "TrainingCrashed"

DETAIL_LIMIT = 160
LISTED = 8


class InputError(ValueError):
    """Invalid input, which a retry does not cure.

    `reason` is a CamelCase word for programs; the message says what to change.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        """Keeps the reason when the error crosses a process: by default pickle passes the message alone."""
        return type(self), (self.reason, str(self))


class DatasetError(InputError):
    """The data set cannot be used."""


class ModelError(InputError):
    """The model folder, or a setting that concerns the model, cannot be used."""


class RankFailure(RuntimeError):
    """The failure of one of several training processes, as it wrote it for the process that launched it."""

    def __init__(self, reason: str, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code


class DownloadError(RuntimeError):
    """A download that failed although the input is not known to be wrong: a retry may succeed."""


def detail_of(error: BaseException) -> str:
    """The message of a library's error in one line of at most DETAIL_LIMIT characters; its type if it has none."""
    return " ".join(str(error).split())[:DETAIL_LIMIT] or type(error).__name__


_DATASET = re.compile(r"\bdataset(?=:|\.(?:textColumn|labelColumn|huggingFace|kaggle)\b)")


def about(message: str, field: str) -> str:
    """A message about `dataset` for another field of the spec that has the same fields."""
    return _DATASET.sub(lambda _: field, message)


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """The first `most` names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
