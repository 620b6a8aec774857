"""Whether a child still is what was applied, and how to restore one that cannot be applied over. Pure.

What the API server adds and what other managers own (an autoscaler's `replicas`, an injected container) is not
compared: only what a manifest says must be found in the live object.

Server-side apply merges: what others added to a list or map stays, and together with ours it can be invalid, such as
two ports of one name. Then our own part replaces theirs, which keeps what the cluster gave the object, such as its
address. Jobs and volumes are never changed, nor is what belongs to somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toxicity_api.quantities import canonical
from toxicity_api.types import Raw
from toxicity_operator.manifests.common import Manifest, of_existing

ATOMIC_LISTS = frozenset({"rules", "subjects", "tolerations", "metrics", "triggers"})
"""Lists of objects that belong to one manager as a whole: an entry more is a change."""

QUANTITIES = frozenset({"requests", "limits"})
"""Maps whose values the API server writes in its own form: `0.5` becomes `500m`."""

WRITE_ONCE = frozenset({"Job", "PersistentVolumeClaim"})
"""Kinds whose content cannot be changed: a changed Job is another Job, and the volume is made once."""

MADE_ANEW = frozenset({"RoleBinding"})
"""Kinds with a field that cannot be changed once somebody else has made the object, and whose loss nobody notices."""

WHOLE_MAPS = frozenset({"strategy"})
"""Maps that make sense only as a whole."""

INVALID = 422


def first_drift(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> str | None:
    """The dotted path of the first field of the manifest `wanted` that `live` has otherwise; None when all agree."""
    return _differs(wanted, live, "", ())


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
    if len(keys) > 1 and keys[-2] in QUANTITIES:
        return live is not None and canonical(str(wanted)) == canonical(str(live))
    return False


def overwriting(body: Manifest, live: Raw) -> Manifest:
    """A JSON merge patch of the `live` object: what `body` sets, with its lists as they are there and not longer."""
    fields = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
    return {**of_existing(body, live), **{key: _patch(key, value, live.get(key)) for key, value in fields.items()}}


def _patch(key: str, wanted: Any, live: Any) -> Any:
    if not isinstance(wanted, Mapping) or not isinstance(live, Mapping):
        return wanted
    patch = {name: _patch(name, value, live.get(name)) for name, value in wanted.items()}
    strange = (name for name in live if name not in wanted) if key in WHOLE_MAPS else ()
    return patch | dict.fromkeys(strange)
