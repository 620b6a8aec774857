"""Errors of the object store, each with a reason for programs and a message that names the field and the remedy."""

from __future__ import annotations

import errno

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a full file system and of an exceeded quota of it."""

FIELD = "spec.storage.objectStore"
DETAIL_LIMIT = 200


class StoreError(RuntimeError):
    """An operation failed. `is_permanent` says that a retry does not cure it."""

    is_permanent = False

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def exit_code(self) -> int:
        """The exit code of a container that fails with this error."""
        return EXIT_INVALID_INPUT if self.is_permanent else EXIT_FAILED


class StoreRefused(StoreError):
    """The settings are wrong: credentials, bucket, endpoint or certificates."""

    is_permanent = True


class ArtifactMissing(StoreError):
    """The store has no complete artifact of that name."""

    is_permanent = True


class ArtifactDamaged(StoreError):
    """A file of the artifact is missing or differs from its checksum."""

    is_permanent = True


class StoreUnavailable(StoreError):
    """The server did not answer, or failed, until the retries were used up."""


class ScratchFull(StoreError):
    """The pod's scratch space cannot hold the artifact."""

    is_permanent = True
