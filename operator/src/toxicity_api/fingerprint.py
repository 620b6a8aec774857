"""Fingerprints of the inputs of a result. The operator's stages and the experiments use the same hash.

Fields equal to their default are left out, so that a new field of a later version changes no fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set

from toxicity_api.base import Document
from toxicity_api.quantities import canonical

FINGERPRINT_LENGTH = 12

WITHOUT_INFLUENCE = frozenset(
    {
        "resources",
        "node_selector",
        "tolerations",
        "pod",
        "backoff_limit",
        "active_deadline_seconds",
        "checkpoint_steps",
        "tracking",
    }
)
"""Fields of a stage that affect only where and how long it runs and who is told. No fingerprint includes them.

An environment variable in `pod` can change a result. It is left out too, because almost all of them, such as a proxy,
do not. A new `runId` repeats the stage.
"""


QUANTITIES = frozenset({"requests", "limits"})
"""Maps of quantities, which have several notations."""


def fingerprint(parts: Mapping[str, object]) -> str:
    """Hash JSON-ready parts. The order of keys does not matter."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_LENGTH]


def content(document: Document, exclude: Set[str] = frozenset()) -> dict[str, object]:
    """Return the non-default fields of a document as JSON-ready data, with quantities in canonical form."""
    found: dict[str, object] = document.model_dump(
        mode="json", by_alias=True, exclude=set(exclude), exclude_defaults=True
    )
    return {key: _canonical(key, value) for key, value in found.items()}


def _canonical(key: str, value: object) -> object:
    if not isinstance(value, dict):
        return value
    if key in QUANTITIES:
        return {name: canonical(str(amount)) for name, amount in value.items()}
    return {name: _canonical(name, part) for name, part in value.items()}
