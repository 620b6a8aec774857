"""storage.nodeCache is refused where it has no meaning, with a message that names the field and the remedy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from toxicity_api.spec.model import StorageSpec

STORE = {"url": "s3://models/team"}


def storage(**fields: Any) -> StorageSpec:
    return StorageSpec.model_validate(fields)


@pytest.mark.parametrize(
    ("size", "expected"), [("50Gi", 50 * 2**30), ("1.5G", 1_500_000_000), (5_000_000_000, 5_000_000_000)]
)
def test_size_is_read_in_any_notation(size: str | int, expected: int) -> None:
    cache = storage(objectStore=STORE, nodeCache={"claimName": "node-models", "size": size}).node_cache
    assert cache is not None and cache.size_bytes == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nodeCache": {"claimName": "node-models"}}, "nodeCache is used only with storage.objectStore"),
        ({"objectStore": STORE, "nodeCache": {"size": "5Gi"}}, "nodeCache.claimName"),
        ({"objectStore": STORE, "nodeCache": {"claimName": ""}}, "nodeCache.claimName"),
        (
            {"objectStore": STORE, "nodeCache": {"claimName": "a", "size": "0Gi"}},
            "nodeCache.size must be more than 0",
        ),
        (
            {"objectStore": STORE, "nodeCache": {"claimName": "a", "size": "-1"}},
            "nodeCache.size must be more than 0",
        ),
        ({"objectStore": STORE, "nodeCache": {"claimName": "a", "size": "large"}}, "'large' is not a quantity"),
    ],
)
def test_cache_without_a_store_a_claim_or_a_size_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        storage(**fields)
