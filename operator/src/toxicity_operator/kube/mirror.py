"""What the operator knows of the cluster without asking: a mirror of the children, and a Cluster that reads from it.

`watch.py` feeds the mirror with one watch per kind; here is only memory. A view may be late. Why that is safe:

- *It never goes back.* An object gives way only to a newer one, by its resourceVersion, which orders the versions of
  one kind. What the operator writes enters the mirror with the API server's answer, so a pass sees all that the passes
  before it wrote, and a watch that is behind does not undo it.
- *A write from a late view does no harm.* Names are derived from fingerprints and applies are idempotent: a Job that
  is not seen yet is applied onto itself.
- *The resource is never older than its children where they depend on it.* It is asked for, after them, when one was
  deleted or a load test's Job ended since the last look: what was deleted is not made anew, and the load test's
  figures are there when its end is seen. All else in a resource is the operator's own writing, or an event of its own.
- *A stage's end is told with its pods.* The result document is in a pod, and the watch of pods may be behind that of
  Jobs: when a Job is first seen as finished and no pod of it has ended well, its pods are listed past the mirror, once.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from toxicity_api.types import Key, Raw
from toxicity_operator import names
from toxicity_operator.decide.events import Event
from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.client import KubernetesCluster
from toxicity_operator.model import Identity
from toxicity_operator.observe.state import finished_condition

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
        slim = {**item, "metadata": {k: v for k, v in item["metadata"].items() if k != "managedFields"}}
        compressor = zlib.compressobj(COMPRESSION, zlib.DEFLATED, WINDOW_BITS, COMPRESSOR_MEMORY)
        return cls(key, _version(item), compressor.compress(json.dumps(slim).encode()) + compressor.flush())

    def unpack(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(zlib.decompress(self.packed, WINDOW_BITS))
        return found


class Mirror:
    """Objects of every kind by the resource that they belong to. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Place, Entry] = {}
        self._places: dict[Key, set[Place]] = {}
        self._told: dict[tuple[str, str | None], int] = {}

    def observe(self, item: Raw, *, gone: bool = False) -> set[Key]:
        """Takes what a watch tells of an object, which has its `kind`. The resources changed; none by old news."""
        with self._lock:
            self._tell(item["kind"], item["metadata"]["namespace"], _version(item))
            return self._drop(_place(item), _version(item)) if gone else self._take(item)

    def wrote(self, item: Raw) -> None:
        """Takes the answer to the operator's own write, unless a watch has told of something later already.

        Without that condition an object that is deleted between the write and this call would stay for ever.
        """
        with self._lock:
            kind, namespace = item["kind"], item["metadata"]["namespace"]
            told = max(self._told.get((kind, scope), 0) for scope in (namespace, None))
            if _version(item) > told:
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
            self._tell(kind, namespace, version)
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
        return old if old is not None and old.version == _version(item) else Entry.of(_key(item), item)

    def _tell(self, kind: str, namespace: str | None, version: int) -> None:
        self._told[kind, namespace] = max(self._told.get((kind, namespace), 0), version)

    def _take(self, item: Raw) -> set[Key]:
        old = self._entries.get(_place(item))
        if old is not None and old.version >= _version(item):
            return set()  # before it is packed: mostly the echo of the operator's own writing
        return self._put(_place(item), Entry.of(_key(item), item))

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


class CachedCluster:
    """The Cluster of `reconcile` on mirrors: children from memory, and mostly the resource too.

    A resource of another class than `operator_class` is for it as if it did not exist.
    """

    def __init__(self, cluster: KubernetesCluster, operator_class: str = "") -> None:
        self._cluster = cluster
        self._class = operator_class
        self._mirror = Mirror()
        self._lock = threading.Lock()
        self._models: dict[Key, Entry] = {}
        self._changed: set[Key] = set()
        self._ended: dict[Key, frozenset[str]] = {}
        self._missing: set[str] = set()

    # what the watches tell; each returns the resources that need a look

    def start_with(self, kind: str, namespace: str | None, items: Iterable[Raw], version: int) -> None:
        """Takes the first list of a kind. The resources are listed after it, so none is older than its children."""
        self._tell_missing(kind, False)
        self._mirror.replace(kind, namespace, items, version)

    def replace(self, kind: str, namespace: str | None, items: Iterable[Raw], version: int) -> set[Key]:
        """Takes a later list of all objects of a kind, in a namespace or (None) everywhere."""
        changed = self._mirror.replace(kind, namespace, items, version, self._mark)
        return changed | self._tell_missing(kind, False)

    def miss(self, kind: str) -> set[Key]:
        """Takes that the cluster does not serve a kind. Every resource when that is news, else none."""
        return self._tell_missing(kind, True)

    def observe(self, item: Raw, *, gone: bool = False) -> set[Key]:
        """Takes an event of a child."""
        if gone or _ends_load_test(item):
            # first: a pass that sees the end asks for the figures, one that misses the child whether it is wanted
            self._mark({_key(item)})
        return self._mirror.observe(item, gone=gone)

    def observe_model(self, item: Raw, *, gone: bool = False) -> set[Key]:
        """Takes an event of a resource; none by the echo of the operator's own writing."""
        key = _key_of_model(item)
        if gone or not self._is_ours(item):
            return self._mark({key}) if self.knows(key) else set()
        return {key} if self._remember(key, item) else set()

    def replace_models(self, namespace: str | None, items: Iterable[Raw], version: int) -> set[Key]:
        """Takes the list of all resources, in a namespace or (None) everywhere."""
        ours = ((_key_of_model(item), item) for item in items if self._is_ours(item))
        listed = {key: self._remember(key, item) for key, item in ours}
        with self._lock:
            lost = {
                key
                for key, entry in self._models.items()
                if namespace in (None, key[0]) and key not in listed and entry.version <= version
            }
            # marks of what never became known, such as a deleted child of another class, would stay for ever
            self._changed = {key for key in self._changed if key in self._models} | lost
        return lost | {key for key, is_news in listed.items() if is_news}

    def knows(self, key: Key) -> bool:
        """Whether the resource is one of ours that exists, as far as is known."""
        with self._lock:
            return key in self._models

    def models(self) -> list[Key]:
        """Every resource that is known."""
        with self._lock:
            return list(self._models)

    # the Cluster protocol

    def get_model(self, namespace: str, name: str) -> Raw | None:
        """The resource as remembered; asked for when what happened to a child since the last time calls for it."""
        key = (namespace, name)
        with self._lock:
            entry = None if key in self._changed else self._models.get(key)
            self._changed.discard(key)
        if entry is not None:
            return entry.unpack()
        try:
            found = self._cluster.get_model(namespace, name)
        except ClusterError:
            self._mark({key})
            raise
        if found is None or not self._is_ours(found):
            self._forget(key)
            return None
        self._remember(key, found)
        return found

    def list_children(self, namespace: str, name: str) -> list[Raw]:
        """The mirror's view; with the pods as they are now when a Job is first seen as finished before any of them."""
        key = (namespace, name)
        children: list[Raw] = list(self._mirror.children(key))
        with self._lock:
            entry, known = self._models.get(key), self._ended.get(key, frozenset())
        recorded = _recorded_jobs(entry.unpack()) if entry else frozenset()
        ended = frozenset(item["metadata"]["uid"] for item in children if _has_ended(item, recorded))
        if not ended <= known | _succeeded(children):
            pods = self._cluster.list_pods(namespace, name)
            for pod in pods:
                self._mirror.wrote(pod)
            children = [*(item for item in children if item["kind"] != "Pod"), *pods]
        with self._lock:
            self._ended[key] = ended
        return children

    def missing_kinds(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._missing)

    def apply(self, body: Raw) -> Raw:
        return self._wrote(body, self._cluster.apply(body))

    def hold(self, body: Raw) -> Raw:
        return self._wrote(body, self._cluster.hold(body))

    def overwrite(self, body: Raw) -> Raw:
        return self._wrote(body, self._cluster.overwrite(body))

    def delete(self, api_version: str, kind: str, namespace: str, name: str) -> None:
        self._cluster.delete(api_version, kind, namespace, name)

    def apply_status(self, identity: Identity, status: Raw) -> Raw:
        """Writes, and remembers the answer unless others have written too: their change is still to be looked at."""
        key = (identity.namespace, identity.name)
        try:
            answer = self._cluster.apply_status(identity, status)
        except ClusterError:
            self._mark({key})  # it may have been written all the same
            raise
        with self._lock:
            entry = self._models.get(key)
        if entry is not None and _others_part(entry.unpack()) == _others_part(answer):
            self._remember(key, answer)
        else:
            self._mark({key})
        return answer

    def record_event(self, identity: Identity, event: Event) -> None:
        self._cluster.record_event(identity, event)

    def read_log_end(self, namespace: str, pod: str, container: str, lines: int) -> list[str]:
        return self._cluster.read_log_end(namespace, pod, container, lines)

    def _wrote(self, body: Raw, answer: Raw) -> Raw:
        written = {**answer, "kind": body["kind"]}
        if _ends_load_test(written):
            self._mark({_key(written)})
        self._mirror.wrote(written)
        return written

    def _is_ours(self, model: Raw) -> bool:
        return (model.get("spec", {}).get("operatorClass") or "") == self._class

    def _tell_missing(self, kind: str, missing: bool) -> set[Key]:
        with self._lock:
            if missing == (kind in self._missing):
                return set()
            (self._missing.add if missing else self._missing.discard)(kind)
            return set(self._models)

    def _mark(self, keys: set[Key]) -> set[Key]:
        with self._lock:
            self._changed |= keys
        return keys

    def _remember(self, key: Key, model: Raw) -> bool:
        """Whether the model is newer than what was known."""
        with self._lock:
            old = self._models.get(key)
            if old is not None and old.version >= _version(model):
                return False
            self._models[key] = Entry.of(key, model)
            return True

    def _forget(self, key: Key) -> None:
        with self._lock:
            self._models.pop(key, None)
            self._ended.pop(key, None)


def _version(item: Raw) -> int:
    """The resourceVersion; an integer that grows, since Kubernetes 1.35 by contract and before that in fact."""
    return int(item["metadata"]["resourceVersion"])


def _place(item: Raw) -> Place:
    return str(item["kind"]), str(item["metadata"]["namespace"]), str(item["metadata"]["name"])


def _key_of_model(item: Raw) -> Key:
    return str(item["metadata"]["namespace"]), str(item["metadata"]["name"])


def _key(item: Raw) -> Key:
    """The resource that a child belongs to, by its label."""
    return str(item["metadata"]["namespace"]), str(item["metadata"]["labels"][names.MODEL_LABEL])


def _has_ended(item: Raw, recorded: frozenset[str]) -> bool:
    """Whether this is a finished Job whose end is not in the status yet."""
    if item["kind"] != "Job" or item["metadata"]["name"] in recorded:
        return False
    return finished_condition(item.get("status", {})) is not None


def _ends_load_test(item: Raw) -> bool:
    return _label(item, names.COMPONENT_LABEL) == names.LOADTEST and _has_ended(item, frozenset())


def _succeeded(items: Iterable[Raw]) -> frozenset[str]:
    """The uids of the owners of pods that ended well: such a pod has said all that it will."""
    ended = [
        item for item in items if item["kind"] == "Pod" and item.get("status", {}).get("phase") == "Succeeded"
    ]
    return frozenset(owner["uid"] for pod in ended for owner in pod["metadata"].get("ownerReferences", []))


def _label(item: Raw, key: str) -> str:
    return str(item["metadata"].get("labels", {}).get(key, ""))


def _recorded_jobs(model: Raw) -> frozenset[str]:
    """Names of the Jobs whose end is in the status."""
    records = [
        part for part in model.get("status", {}).values() if isinstance(part, Mapping) and "jobName" in part
    ]
    return frozenset(str(record["jobName"]) for record in records if record.get("outcome") != "Running")


def _others_part(model: Raw) -> tuple[object, ...]:
    """All of a resource that the operator does not write."""
    metadata = model["metadata"]
    return (
        metadata["uid"],
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        model.get("status", {}).get("loadTest"),
    )
