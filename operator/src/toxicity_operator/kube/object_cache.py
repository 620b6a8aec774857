"""Objects of every kind in memory, by the resource that they belong to; `cached.py` reads from it."""

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
"""For objects of a few KiB: the compressor's own buffers would be a hundred times the object, at every event."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object and the resource that it belongs to. As compressed JSON: a tenth of what dictionaries take."""

    key: Key
    version: int
    packed: bytes

    @classmethod
    def of(cls, key: Key, item: Raw) -> Entry:
        # who wrote what is asked only of an object without a controller, and takes more room than all the rest
        unread = {"managedFields"} if controller_of(item) else set()
        slim = {**item, "metadata": {k: v for k, v in item["metadata"].items() if k not in unread}}
        compressor = zlib.compressobj(COMPRESSION, zlib.DEFLATED, WINDOW_BITS, COMPRESSOR_MEMORY)
        return cls(key, version_number(item), compressor.compress(json.dumps(slim).encode()) + compressor.flush())

    def unpack(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(zlib.decompress(self.packed, WINDOW_BITS))
        return found


class ObjectCache:
    """Objects of every kind by the resource that they belong to. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Place, Entry] = {}
        self._places: dict[Key, set[Place]] = {}
        self._seen_versions: dict[tuple[str, str | None], int] = {}

    def observe(self, item: Raw, *, gone: bool = False) -> set[Key]:
        """Takes what a watch tells of an object, which has its `kind`. The resources changed; none by old news."""
        with self._lock:
            self._saw_version(item["kind"], item["metadata"]["namespace"], version_number(item))
            return self._drop(_place(item), version_number(item)) if gone else self._take(item)

    def wrote(self, item: Raw) -> None:
        """Takes the answer to the operator's own write, unless a watch has told of something later already.

        Without that condition an object that is deleted between the write and this call would stay for ever.
        """
        with self._lock:
            kind, namespace = item["kind"], item["metadata"]["namespace"]
            told = max(self._seen_versions.get((kind, scope), 0) for scope in (namespace, None))
            if version_number(item) > told:
                self._take(item)

    def replace(
        self,
        kind: str,
        namespace: str | None,
        items: Iterable[Raw],
        version: int,
        mark: Callable[[set[Key]], object] = lambda keys: None,
    ) -> set[Key]:
        """Takes the list of all objects of a kind, in a namespace or (None) everywhere. The resources changed.

        `mark` is told them before anyone can see the change; it must not ask the mirror.
        """
        # packed one by one, since the list may come page by page
        listed = {_place(item): self._packed(item) for item in items}
        with self._lock:
            self._saw_version(kind, namespace, version)
            changed = {key for place, entry in listed.items() for key in self._put(place, entry)}
            lost = [p for p in self._entries if p[0] == kind and namespace in (None, p[1]) and p not in listed]
            changed.update(*(self._drop(place, version) for place in lost))
            mark(changed)
            return changed

    def children(self, key: Key) -> list[dict[str, Any]]:
        """Every object of a resource; pods last, as the Cluster protocol has them."""
        with self._lock:
            places = sorted(self._places.get(key, ()), key=lambda place: (place[0] == "Pod", place))
            entries = [self._entries[place] for place in places]
        return [entry.unpack() for entry in entries]

    def _packed(self, item: Raw) -> Entry:
        """The entry of an object; the one that is there already where nothing has changed."""
        old = self._entries.get(_place(item))
        return (
            old if old is not None and old.version == version_number(item) else Entry.of(key_of_child(item), item)
        )

    def _saw_version(self, kind: str, namespace: str | None, version: int) -> None:
        self._seen_versions[kind, namespace] = max(self._seen_versions.get((kind, namespace), 0), version)

    def _take(self, item: Raw) -> set[Key]:
        old = self._entries.get(_place(item))
        if old is not None and old.version >= version_number(item):
            return set()  # before it is packed: mostly the echo of the operator's own writing
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
        """Forgets an object unless it is newer than `version`."""
        entry = self._entries.get(place)
        if entry is None or entry.version > version:
            return set()
        del self._entries[place]
        self._places[entry.key].discard(place)
        if not self._places[entry.key]:
            del self._places[entry.key]
        return {entry.key}


def version_number(item: Raw) -> int:
    """The resourceVersion; an integer that grows, since Kubernetes 1.35 by contract and before that in fact."""
    return int(item["metadata"]["resourceVersion"])


def _place(item: Raw) -> Place:
    return str(item["kind"]), str(item["metadata"]["namespace"]), str(item["metadata"]["name"])


def key_of_child(item: Raw) -> Key:
    """The resource that a child belongs to, by its label."""
    return str(item["metadata"]["namespace"]), str(item["metadata"]["labels"][names.MODEL_LABEL])
