"""What of kopf is used: its watch of the resource, its health endpoint and its life cycle; the rest is switched off.

kopf keeps, for handlers of another kind than ours, a copy of every resource to compare the next event with, and the
last event of every resource for a while after it. With many resources that is most of its time and memory.
"""

from __future__ import annotations

from typing import Any

import kopf

CHUNK = 50
"""Resources that a list brings at once: as dictionaries each takes a hundred times what the mirror needs for it."""

WORKER_IDLE_SECONDS = 0.1


class NoDiffBase(kopf.DiffBaseStorage):
    """Compares nothing: low-level handlers get every event."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        pass


def configure_kopf(settings: kopf.OperatorSettings) -> None:
    """Sets what the operator needs otherwise than kopf has it."""
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.queueing.idle_timeout = WORKER_IDLE_SECONDS
    settings.watching.chunk_size = CHUNK
    settings.watching.server_timeout = 120
    settings.watching.client_timeout = 150
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
