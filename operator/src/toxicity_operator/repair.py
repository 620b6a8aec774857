"""What to do with a child that an edit by hand has made impossible to apply. Pure.

Server-side apply merges: what others added to a list or map stays, and together with ours it can be invalid, such as
two ports of one name. Then our own part is put in the place of theirs, which keeps the object with all that it has
from the cluster, its address for one. Jobs and volumes are never touched, nor is what belongs to somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toxicity_operator.manifests.common import Manifest, of_existing

Raw = Mapping[str, Any]

WRITE_ONCE = frozenset({"Job", "PersistentVolumeClaim"})
"""Kinds whose content cannot be changed: a changed Job is another Job, and the volume is made once."""

MADE_ANEW = frozenset({"RoleBinding"})
"""Kinds with a field that cannot be changed once somebody else has made the object, and whose loss nobody notices."""

WHOLE_MAPS = frozenset({"strategy"})
"""Maps that make sense only as a whole."""

INVALID = 422


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
