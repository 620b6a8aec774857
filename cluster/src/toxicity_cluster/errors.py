"""The errors of the embedded cluster; `__main__` prints their text as one sentence and exits non-zero."""

from __future__ import annotations


class ClusterError(Exception):
    """Something about the cluster failed; the text says what, and what to do about it."""


class Refusal(ClusterError):
    """This machine cannot run the cluster as it is; the text names the one remedy."""


class CommandFailed(ClusterError):
    """A command exited non-zero; the text holds the end of what it wrote to stderr."""
