"""In-memory cache of child objects by the resource they belong to, used by `cached_cluster.py`."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from toxicity_api.types import Key, Raw
from toxicity_operator import names
from toxicity_operator.observe.ownership import controller_of

Place = tuple[str, str, str]
"""Kind, namespace and name of a child."""

COMPRESSION, WINDOW_BITS, COMPRESSOR_MEMORY = 1, 13, 6
"""Small zlib buffers for objects of a few KiB. The default buffers are a hundred times larger than such an object."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object and the resource it belongs to. Compressed JSON takes a tenth of the memory of dictionaries."""

    key: Key
    version: int
    packed: bytes

    @classmethod
    def of(cls, key: Key, item: Raw) -> Entry:
        # managedFields are larger than the rest of the object, and are needed only without a controller
        unread = {"managedFields"} if controller_of(item) else set()
        slim = {**item, "metadata": {k: v for k, v in item["metadata"].items() if k not in unread}}
        compressor = zlib.compressobj(COMPRESSION, zlib.DEFLATED, WINDOW_BITS, COMPRESSOR_MEMORY)
        return cls(key, version_number(item), compressor.compress(json.dumps(slim).encode()) + compressor.flush())

    def unpack(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(zlib.decompress(self.packed, WINDOW_BITS))
        return found


class ObjectCache:
    """Child objects of all kinds by the resource they belong to. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Place, Entry] = {}
        self._places: dict[Key, set[Place]] = {}
        self._seen_versions: dict[tuple[str, str | None], int] = {}

    def observe(self, item: Raw, *, gone: bool = False) -> set[Key]:
        """Store a watch event of an object with its `kind`. Return the changed resources; none for an old event."""
        with self._lock:
            self._saw_version(item["kind"], item["metadata"]["namespace"], version_number(item))
            return self._drop(_place(item), version_number(item)) if gone else self._take(item)

    def wrote(self, item: Raw) -> None:
        """Store the response to the operator's write, unless the watch of the kind has already seen a newer version.

        Otherwise an object that was deleted between the write and this call would stay in the cache.
        """
        with self._lock:
            kind, namespace = item["kind"], item["metadata"]["namespace"]
            seen = max(self._seen_versions.get((kind, scope), 0) for scope in (namespace, None))
            if version_number(item) > seen:
                self._take(item)

    def replace(
        self,
        kind: str,
        namespace: str | None,
        items: Iterable[Raw],
        version: int,
        mark: Callable[[set[Key]], object] = lambda keys: None,
    ) -> set[Key]:
        """Store a list of all objects of a kind, in one namespace or, if None, in all. Return the changed resources.

        `mark` is called with them before the change is visible. It must not access the cache.
        """
        # compressed one by one, since the list is read page by page
        listed = {_place(item): self._packed(item) for item in items}
        with self._lock:
            self._saw_version(kind, namespace, version)
            changed = {key for place, entry in listed.items() for key in self._put(place, entry)}
            lost = [p for p in self._entries if p[0] == kind and namespace in (None, p[1]) and p not in listed]
            changed.update(*(self._drop(place, version) for place in lost))
            mark(changed)
            return changed

    def children(self, key: Key) -> list[dict[str, Any]]:
        """All objects of a resource, pods last."""
        with self._lock:
            places = sorted(self._places.get(key, ()), key=lambda place: (place[0] == "Pod", place))
            entries = [self._entries[place] for place in places]
        return [entry.unpack() for entry in entries]

    def _packed(self, item: Raw) -> Entry:
        """The entry of an object; the existing one if the version is unchanged."""
        old = self._entries.get(_place(item))
        return (
            old if old is not None and old.version == version_number(item) else Entry.of(key_of_child(item), item)
        )

    def _saw_version(self, kind: str, namespace: str | None, version: int) -> None:
        self._seen_versions[kind, namespace] = max(self._seen_versions.get((kind, namespace), 0), version)

    def _take(self, item: Raw) -> set[Key]:
        old = self._entries.get(_place(item))
        if old is not None and old.version >= version_number(item):
            return set()  # checked before compressing: mostly events of the operator's own writes
        return self._put(_place(item), Entry.of(key_of_child(item), item))

    def _put(self, place: Place, new: Entry) -> set[Key]:
        old = self._entries.get(place)
        if old is not None and old.version >= new.version:
            return set()
        changed = self._drop(place, new.version) | {new.key}
        self._entries[place] = new
        self._places.setdefault(new.key, set()).add(place)
        return changed

    def _drop(self, place: Place, version: int) -> set[Key]:
        """Remove an object unless it is newer than `version`."""
        entry = self._entries.get(place)
        if entry is None or entry.version > version:
            return set()
        del self._entries[place]
        self._places[entry.key].discard(place)
        if not self._places[entry.key]:
            del self._places[entry.key]
        return {entry.key}


def version_number(item: Raw) -> int:
    """The resourceVersion as an integer. It increases: guaranteed since Kubernetes 1.35, and in practice before."""
    return int(item["metadata"]["resourceVersion"])


def _place(item: Raw) -> Place:
    return str(item["kind"]), str(item["metadata"]["namespace"]), str(item["metadata"]["name"])


def key_of_child(item: Raw) -> Key:
    """The resource that a child belongs to according to its label."""
    return str(item["metadata"]["namespace"]), str(item["metadata"]["labels"][names.MODEL_LABEL])
