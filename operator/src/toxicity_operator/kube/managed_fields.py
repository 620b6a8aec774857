"""Who owns which field of an object, as the API server records it in `managedFields`. Pure.

The first write of a child is a create, since only that fails where another object bears the name. The API server
records a create, like a merge patch, as an update. Server-side apply removes a field that it no longer sets only where
nobody else owns it, and the operator's own update counts as somebody else. So before the first apply the update's
fields are handed to the apply, as `kubectl apply --server-side` does with those of client-side apply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toxicity_api.types import Raw
from toxicity_operator import names


def applied_fields(entries: Sequence[Raw]) -> list[Raw] | None:
    """`managedFields` with the operator's updates counted as applied; None when there is nothing to change.

    Entries of another API version are left alone: their fields may have other names.
    """
    updates = [entry for entry in entries if _is_ours(entry, "Update")]
    if not updates:
        return None
    ours = [entry for entry in entries if _is_ours(entry, "Apply")]
    merged = {**updates[-1], **(ours[0] if ours else {}), "operation": "Apply"}
    for entry in (*ours, *updates):
        if entry["apiVersion"] == merged["apiVersion"]:
            merged["fieldsV1"] = _union(merged["fieldsV1"], entry["fieldsV1"])
    handed = [entry for entry in (*ours, *updates) if entry["apiVersion"] == merged["apiVersion"]]
    return [*(entry for entry in entries if entry not in handed), merged]


def _is_ours(entry: Raw, operation: str) -> bool:
    of_status = bool(entry.get("subresource"))
    return entry.get("manager") == names.FIELD_MANAGER and entry["operation"] == operation and not of_status


def _union(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both sets of fields; each is a tree of the path elements of `fieldsV1`."""
    both = {key: _union(one[key], other[key]) for key in one.keys() & other.keys()}
    return {**one, **other, **both}
