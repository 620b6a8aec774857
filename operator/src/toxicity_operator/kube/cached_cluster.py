"""A Cluster that reads resources and children from a cache, which `watch.py` updates with one watch per kind.

The cache can lag behind the API server. This is safe for four reasons:

- *It never goes back.* An object is replaced only by a newer resourceVersion, which orders the versions of one kind.
  Responses to the operator's writes enter the cache, so a pass sees all earlier writes, and a slow watch does not undo
  them.
- *A write based on an old view does no harm.* A child that is not in the cache is created, which fails if it exists; it
  is then read. Every other write contains the uid of its object.
- *The resource is never older than the children that depend on it.* The resource is read from the API server, after its
  children, if a child was deleted or a load test finished since the last pass. So a deleted child is not created again
  for a deleted resource, and the load test's results are present when its end is seen. Other changes of a resource are
  the operator's own writes or cause an event.
- *A finished stage is seen with its pods.* The result document is in a pod, and the watch of pods may lag behind that
  of Jobs. When a finished Job without a succeeded pod is first seen, its pods are listed once from the API server.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from toxicity_api.types import Key, Raw
from toxicity_operator import names
from toxicity_operator.decide.events import Event
from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.client import KubernetesCluster
from toxicity_operator.kube.object_cache import Entry, ObjectCache, key_of_child, version_number
from toxicity_operator.model import Identity
from toxicity_operator.observe.containers import running_sidecars
from toxicity_operator.observe.jobs import finished_condition
from toxicity_operator.observe.objects import label


class CachedCluster:
    """The Cluster of `reconcile`, with children and mostly the resource from the cache.

    A resource of another class than `operator_class` is treated as if it did not exist.
    """

    def __init__(self, cluster: KubernetesCluster, operator_class: str = "") -> None:
        self._cluster = cluster
        self._class = operator_class
        self._objects = ObjectCache()
        self._lock = threading.Lock()
        self._models: dict[Key, Entry] = {}
        self._changed: set[Key] = set()
        self._ended: dict[Key, frozenset[str]] = {}
        self._missing: set[str] = set()

    # updates by the watches; each returns the resources to reconcile

    def start_with(self, kind: str, namespace: str | None, items: Iterable[Raw], version: int) -> None:
        """Store the first list of a kind. Resources are listed last, so none is older than its children."""
        self._set_missing(kind, False)
        self._objects.replace(kind, namespace, items, version)

    def replace(self, kind: str, namespace: str | None, items: Iterable[Raw], version: int) -> set[Key]:
        """Store a later list of all objects of a kind, in one namespace or, if None, in all."""
        changed = self._objects.replace(kind, namespace, items, version, self._mark)
        return changed | self._set_missing(kind, False)

    def miss(self, kind: str) -> set[Key]:
        """Note that the API server does not serve a kind. Return all resources if this is new, else none."""
        return self._set_missing(kind, True)

    def observe(self, item: Raw, *, gone: bool = False) -> set[Key]:
        """Store a watch event of a child."""
        if gone or _ends_load_test(item):
            # mark before the update: a pass that sees it must read the resource from the API server
            self._mark({key_of_child(item)})
        return self._objects.observe(item, gone=gone)

    def observe_model(self, item: Raw, *, gone: bool = False) -> set[Key]:
        """Store a watch event of a resource. The event of the operator's own write returns no resource."""
        key = _key_of_model(item)
        if gone or not self._is_ours(item):
            return self._mark({key}) if self.knows(key) else set()
        return {key} if self._remember(key, item) else set()

    def replace_models(self, namespace: str | None, items: Iterable[Raw], version: int) -> set[Key]:
        """Store the list of all resources, in one namespace or, if None, in all."""
        ours = ((_key_of_model(item), item) for item in items if self._is_ours(item))
        listed = {key: self._remember(key, item) for key, item in ours}
        with self._lock:
            lost = {
                key
                for key, entry in self._models.items()
                if namespace in (None, key[0]) and key not in listed and entry.version <= version
            }
            # drop marks of unknown resources, such as those of another class, which would never be removed
            self._changed = {key for key in self._changed if key in self._models} | lost
        return lost | {key for key, is_news in listed.items() if is_news}

    def knows(self, key: Key) -> bool:
        """Whether the resource is in the cache and of the operator's class."""
        with self._lock:
            return key in self._models

    def models(self) -> list[Key]:
        """All resources in the cache."""
        with self._lock:
            return list(self._models)

    # the Cluster protocol

    def get_model(self, namespace: str, name: str) -> Raw | None:
        """The cached resource. It is read from the API server if a change of a child requires that."""
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
        """The cached children. Pods are listed from the API server when a finished Job without a pod is first seen."""
        key = (namespace, name)
        children: list[Raw] = list(self._objects.children(key))
        with self._lock:
            entry, known = self._models.get(key), self._ended.get(key, frozenset())
        recorded = _recorded_jobs(entry.unpack()) if entry else frozenset()
        ended = frozenset(item["metadata"]["uid"] for item in children if _has_ended(item, recorded))
        if not ended <= known | _succeeded(children):
            pods = self._cluster.list_pods(namespace, name)
            for pod in pods:
                self._objects.wrote(pod)
            children = [*(item for item in children if item["kind"] != "Pod"), *pods]
        with self._lock:
            self._ended[key] = ended
        return children

    def missing_kinds(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._missing)

    def create(self, body: Raw) -> Raw:
        return self._wrote(body, self._cluster.create(body))

    def read(self, body: Raw) -> Raw | None:
        """Read the object from the API server, and cache it if it is a child of a resource."""
        found = self._cluster.read(body)
        if found is not None and names.MODEL_LABEL in found["metadata"].get("labels", {}):
            self._wrote(body, found)
        return found

    def apply(self, body: Raw, live: Raw) -> Raw:
        return self._wrote(body, self._cluster.apply(body, live))

    def take_over(self, live: Raw, controller: Raw) -> Raw:
        return self._wrote(live, self._cluster.take_over(live, controller))

    def hold(self, body: Raw) -> Raw:
        return self._wrote(body, self._cluster.hold(body))

    def overwrite(self, body: Raw) -> Raw:
        return self._wrote(body, self._cluster.overwrite(body))

    def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        self._cluster.delete(api_version, kind, namespace, name, uid)

    def read_version(self, kind: str, namespace: str, name: str) -> str:
        return self._cluster.read_version(kind, namespace, name)

    def apply_status(self, identity: Identity, status: Raw) -> Raw:
        """Write the status. The response is cached unless someone else has changed the resource."""
        key = (identity.namespace, identity.name)
        try:
            answer = self._cluster.apply_status(identity, status)
        except ClusterError:
            self._mark({key})  # it may have been written in spite of the error
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

    def read_events(self, namespace: str, uid: str, limit: int) -> list[Raw]:
        return self._cluster.read_events(namespace, uid, limit)

    def _wrote(self, body: Raw, answer: Raw) -> Raw:
        written = {**answer, "kind": body["kind"]}
        if _ends_load_test(written):
            self._mark({key_of_child(written)})
        self._objects.wrote(written)
        return written

    def _is_ours(self, model: Raw) -> bool:
        return (model.get("spec", {}).get("operatorClass") or "") == self._class

    def _set_missing(self, kind: str, missing: bool) -> set[Key]:
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
        """Cache the model. Return whether it is newer than the cached one."""
        with self._lock:
            old = self._models.get(key)
            if old is not None and old.version >= version_number(model):
                return False
            self._models[key] = Entry.of(key, model)
            return True

    def _forget(self, key: Key) -> None:
        with self._lock:
            self._models.pop(key, None)
            self._ended.pop(key, None)


def _key_of_model(item: Raw) -> Key:
    return str(item["metadata"]["namespace"]), str(item["metadata"]["name"])


def _has_ended(item: Raw, recorded: frozenset[str]) -> bool:
    """Whether this is a finished Job whose result is not in the status yet."""
    if item["kind"] != "Job" or item["metadata"]["name"] in recorded:
        return False
    return finished_condition(item.get("status", {})) is not None


def _ends_load_test(item: Raw) -> bool:
    """Whether a load test's Job has finished, or its stage container has while a sidecar keeps the pod running."""
    if label(item, names.COMPONENT_LABEL) != names.LOADTEST:
        return False
    return _has_ended(item, frozenset()) or (item["kind"] == "Pod" and bool(running_sidecars(item)))


def _succeeded(items: Iterable[Raw]) -> frozenset[str]:
    """The uids of the owners of succeeded pods, whose result is complete."""
    ended = [
        item for item in items if item["kind"] == "Pod" and item.get("status", {}).get("phase") == "Succeeded"
    ]
    return frozenset(owner["uid"] for pod in ended for owner in pod["metadata"].get("ownerReferences", []))


def _recorded_jobs(model: Raw) -> frozenset[str]:
    """Names of the Jobs whose result is in the status."""
    records = [
        part for part in model.get("status", {}).values() if isinstance(part, Mapping) and "jobName" in part
    ]
    return frozenset(str(record["jobName"]) for record in records if record.get("outcome") != "Running")


def _others_part(model: Raw) -> tuple[object, ...]:
    """The parts of a resource that the operator does not write."""
    metadata = model["metadata"]
    return (
        metadata["uid"],
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        model.get("status", {}).get("loadTest"),
    )
