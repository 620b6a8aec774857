"""Moves field ownership in `managedFields` from the operator's updates to its applies. Pure.

The first write of a child is a create, since only a create fails if another object has the name. The API server records
creates and merge patches as updates. Server-side apply removes an omitted field only if no other entry owns it, and the
operator's own update is such an entry. Before the first apply, its fields are therefore moved to the apply entry.
`kubectl apply --server-side` does the same with the fields of client-side apply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toxicity_api.types import Raw
from toxicity_operator import names


def applied_fields(entries: Sequence[Raw]) -> list[Raw] | None:
    """`managedFields` with the operator's updates merged into its apply; None if there is nothing to change.

    Entries of another API version are kept, because their fields may have other names.
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
    """The union of two `fieldsV1` trees."""
    both = {key: _union(one[key], other[key]) for key in one.keys() & other.keys()}
    return {**one, **other, **both}
