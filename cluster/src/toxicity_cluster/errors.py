"""The errors of the embedded cluster. `__main__` prints their text and exits with 1."""

from __future__ import annotations


class ClusterError(Exception):
    """An operation on the cluster failed; the text says what failed and what to do."""


class Refusal(ClusterError):
    """The machine or the arguments do not allow the operation; the text names the remedy."""


class CommandFailed(ClusterError):
    """A command could not run or exited non-zero; the text has the end of its stderr."""
