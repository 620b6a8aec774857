"""Compares a child with its manifest, and builds the patch for a child that server-side apply cannot repair. Pure.

Only fields of the manifest are compared. Defaults of the API server and fields of other managers, such as an
autoscaler's `replicas` or an injected container, are ignored.

Server-side apply merges lists and maps, so entries added by others stay. Together with the manifest they can be
invalid, for example two ports of one name. A merge patch then replaces these lists and keeps fields that the cluster
assigned, such as the Service's address. Jobs, volume claims and foreign objects are never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toxicity_api.quantities import canonical, quantity
from toxicity_api.types import Raw
from toxicity_operator.manifests.common import Manifest, of_existing

ATOMIC_LISTS = frozenset(
    {
        "rules", "subjects", "tolerations", "metrics", "triggers",
        "paths", "tls", "parentRefs", "matches", "backendRefs",
    }
)  # fmt: skip
"""Atomic lists of objects: an additional entry counts as drift."""

QUANTITIES = frozenset({"requests", "limits"})
"""Maps of quantities, which are compared by value: the API server stores `0.5` as `500m`."""

QUANTITY_FIELDS = frozenset({"sizeLimit"})
"""Fields with one quantity."""

CLAIM = "PersistentVolumeClaim"
WRITE_ONCE = frozenset({"Job", CLAIM})
"""Kinds that are created and never changed, except that a claim can grow. A changed Job has another name."""

MADE_ANEW = frozenset({"RoleBinding"})
"""Kinds with an immutable field (roleRef) that are safe to delete and create again."""

WHOLE_MAPS = frozenset({"strategy"})
"""Maps that a merge patch must replace as a whole."""

INVALID = 422


def first_drift(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> str | None:
    """The dotted path of the first field of the manifest `wanted` that differs in `live`; None if none differs."""
    return _differs(wanted, live, "", ())


def can_grow(body: Manifest, live: Raw) -> bool:
    """Whether the claim `body` requests more than the `live` one, which is bound. A claim is never made smaller."""
    if live.get("status", {}).get("phase") != "Bound":
        return False  # the API server refuses the change of an unbound claim
    wanted, present = (item["spec"]["resources"]["requests"]["storage"] for item in (body, live))
    return quantity(str(wanted)) > quantity(str(present))


def _differs(wanted: Any, live: Any, path: str, keys: tuple[str, ...]) -> str | None:
    if wanted in ({}, [], None, "") and live in ({}, [], None, ""):
        return None
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return path
        found = (
            _differs(value, live.get(key), f"{path}.{key}".lstrip("."), (*keys, key))
            for key, value in wanted.items()
        )
        return next((place for place in found if place), None)
    if isinstance(wanted, list):
        return None if isinstance(live, list) and _list_agrees(wanted, live, keys) else path
    return None if _scalar_agrees(wanted, live, keys) else path


def _list_agrees(wanted: list[Any], live: list[Any], keys: tuple[str, ...]) -> bool:
    if not all(isinstance(item, Mapping) for item in wanted) or keys[-1] in ATOMIC_LISTS:
        pairs = zip(wanted, live, strict=False)
        return len(wanted) == len(live) and not any(_differs(one, other, "item", keys) for one, other in pairs)
    return all(any(_differs(item, other, "item", keys) is None for other in live) for item in wanted)


def _scalar_agrees(wanted: Any, live: Any, keys: tuple[str, ...]) -> bool:
    if wanted == live:
        return True
    if (len(keys) > 1 and keys[-2] in QUANTITIES) or (keys and keys[-1] in QUANTITY_FIELDS):
        return live is not None and canonical(str(wanted)) == canonical(str(live))
    return False


def overwriting(body: Manifest, live: Raw) -> Manifest:
    """A JSON merge patch of the `live` object that sets the fields of `body` and replaces lists as a whole."""
    fields = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
    return {**of_existing(body, live), **{key: _patch(key, value, live.get(key)) for key, value in fields.items()}}


def _patch(key: str, wanted: Any, live: Any) -> Any:
    if not isinstance(wanted, Mapping) or not isinstance(live, Mapping):
        return wanted
    patch = {name: _patch(name, value, live.get(name)) for name, value in wanted.items()}
    strange = (name for name in live if name not in wanted) if key in WHOLE_MAPS else ()
    return patch | dict.fromkeys(strange)
