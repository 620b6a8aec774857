"""An in-memory API server behind the real client, which replaces urllib3.

It implements what the operator depends on: server-side apply with `managedFields`, the status subresource,
resourceVersion, generation, uids and preconditions, immutable Jobs, a single controller, and label selectors.
`test_real_server.py` checks that schedules have the same result as on a real API server.
"""

from __future__ import annotations

import copy
import functools
import io
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from urllib3 import HTTPResponse

Path = tuple[str, ...]
Manager = tuple[str, str, str]
"""Field manager, operation (Apply or Update) and subresource."""

Json = dict[str, Any]
"""A stored object; unlike toxicity_api.types.Raw it can be changed."""

KEYED_LISTS = {
    "containers": ("name",), "initContainers": ("name",), "env": ("name",), "volumes": ("name",),
    "volumeMounts": ("mountPath",), "ports": ("containerPort", "port"), "conditions": ("type",),
    "ownerReferences": ("uid",), "buckets": ("name",),
}  # fmt: skip
"""Lists that server-side apply merges by a key: the first of these fields that an item has."""

IDENTITY = ("name", "namespace", "uid", "resourceVersion")
SYSTEM_FIELDS = {(key,) for key in (*IDENTITY, "creationTimestamp", "generation")}
"""Of metadata."""

IMMUTABLE = {"jobs": "batch/v1", "persistentvolumeclaims": "v1"}
DEFAULTS: Mapping[str, Json] = {"deployments": {"spec": {"replicas": 1}}}


@dataclass
class Stored:
    """A live object with the paths that each field manager owns."""

    live: Json
    owned: dict[Manager, set[Path]] = field(default_factory=dict)

    @functools.cached_property
    def answer(self) -> str:
        """The JSON that the API server returns. A write stores a new instance, so the answer is made once."""
        entries = [
            {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": tree(paths)}
            | ({"subresource": subresource} if subresource else {})
            for (manager, operation, subresource), paths in self.owned.items()
            if paths
        ]
        return json.dumps({**self.live, "metadata": {**self.live["metadata"], "managedFields": entries}})


class MemoryApi:
    """Replaces the client's `pool_manager`."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str], Stored] = {}
        self._versions = itertools.count(1)
        self._version = 0

    def request(
        self, method: str, url: str, body: str | None = None, headers: Mapping[str, str] | None = None, **_: object
    ) -> HTTPResponse:
        """Handle one request. A failed request changes nothing."""
        parts = urlsplit(url)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        content = json.loads(body) if body else None
        media = {key.lower(): value for key, value in (headers or {}).items()}.get("content-type", "")
        status, answer = self._answer(method, parts.path, query, content, media)
        return http_answer(status, answer)

    def _answer(self, method: str, path: str, query: Mapping[str, str], body: Any, media: str) -> tuple[int, str]:
        if "/namespaces/" not in path:
            return 200, json.dumps({"kind": "APIResourceList"})  # every kind is served
        collection, name, subresource = split_path(path)
        if not name:
            manager = query.get("fieldManager", "person")
            return (
                (200, self._list(collection, query))
                if method == "GET"
                else self._create(collection, body, manager)
            )
        stored = self._objects.get((collection, name))
        if method == "PATCH" and media.startswith("application/apply-patch"):
            forced = query.get("force") in ("true", "True")
            return self._apply(collection, name, subresource, body, query["fieldManager"], forced)
        if stored is None:
            return 404, failure(f"{name} not found", "NotFound")
        if method == "GET":
            return 200, stored.answer
        if media.startswith("application/json-patch"):
            return self._set_managed_fields(collection, name, stored, body)
        uid = ((body or {}).get("preconditions") or {}).get("uid")
        if uid not in (None, stored.live["metadata"]["uid"]):
            return 409, failure("Precondition failed: UID in precondition differs", "Conflict")
        if method == "DELETE":
            self._next_version()
            del self._objects[collection, name]
            return 200, json.dumps({"kind": "Status", "status": "Success"})
        if not is_as_named(stored.live, body):
            return 409, failure("the object has been modified", "Conflict")
        new = merged(stored.live, {"status": body.get("status")} if subresource else without_identity(body))
        manager = (query.get("fieldManager", "person"), "Update", subresource)
        return self._store(collection, name, new, stored, manager=manager)

    def _set_managed_fields(
        self, collection: str, name: str, stored: Stored, patch: list[Json]
    ) -> tuple[int, str]:
        """Apply the only supported JSON patch: a test of the resourceVersion, then new managedFields."""
        version, fields = patch
        assert (version["op"], version["path"]) == ("test", "/metadata/resourceVersion")
        assert (fields["op"], fields["path"]) == ("replace", "/metadata/managedFields")
        if version["value"] != stored.live["metadata"]["resourceVersion"]:
            return 422, failure("test operation failed", "Invalid")
        owned = {
            (entry["manager"], entry["operation"], entry.get("subresource", "")): set(branches(entry["fieldsV1"]))
            for entry in fields["value"]
        }
        metadata = {**stored.live["metadata"], "resourceVersion": str(self._next_version())}
        self._objects[collection, name] = Stored({**stored.live, "metadata": metadata}, owned)
        return 200, self._objects[collection, name].answer

    def _list(self, collection: str, query: Mapping[str, str]) -> str:
        key, _, value = query.get("labelSelector", "").partition("=")
        about = query.get("fieldSelector", "").removeprefix("involvedObject.uid=")
        found = [
            stored.answer
            for (where, _), stored in sorted(self._objects.items())
            if where == collection
            and (not key or selected(stored.live, key, value))
            and about in ("", stored.live.get("involvedObject", {}).get("uid"))
        ]
        return f'{{"metadata": {{"resourceVersion": "{self._version}"}}, "items": [{", ".join(found)}]}}'

    def _create(self, collection: str, body: Json, manager: str) -> tuple[int, str]:
        metadata = body["metadata"]
        name = metadata.get("name") or f"{metadata['generateName']}{self._version + 1}"
        if (collection, name) in self._objects:
            return 409, failure(f"{name} already exists", "AlreadyExists")
        live = without_status(body)
        status, answer = self._store(collection, name, live, None, manager=(manager, "Update", ""))
        return (201 if status == 200 else status), answer

    def _apply(
        self, collection: str, name: str, subresource: str, body: Json, manager: str, forced: bool
    ) -> tuple[int, str]:
        stored = self._objects.get((collection, name))
        wanted = {"status": body["status"]} if subresource else applied_part(body)
        if stored is None:
            if subresource:
                return 404, failure(f"{name} not found", "NotFound")
            if body["metadata"].get("uid") or body["metadata"].get("resourceVersion"):
                return 409, failure("uid mismatch: no existing object was found", "Conflict")
            stored_or_new = Stored(
                {key: body[key] for key in ("apiVersion", "kind")} | {"metadata": {"name": name}}
            )
        else:
            stored_or_new = Stored(copy.deepcopy(stored.live), copy.deepcopy(stored.owned))
            if not is_as_named(stored.live, body):
                return 409, failure("Precondition failed: UID in precondition differs", "Conflict")
        whose = (manager, "Apply", subresource)
        before = stored_or_new.owned.get(whose, set())
        now = set(leaves(wanted))
        others = [paths for who, paths in stored_or_new.owned.items() if who != whose]
        live = copy.deepcopy(stored_or_new.live)
        shared = now & set[Path]().union(*others)
        disputed = shared and shared & changed_leaves(live, overlaid(live, wanted))
        if disputed and not forced:
            return 409, failure(f"conflicts with others about {disputed}", "Conflict")
        for path in sorted(before - now, key=len):
            if not any(path in paths for paths in others):
                remove(live, path)
        for paths in others:
            paths -= disputed
        stored_or_new.owned[whose] = now
        put(live, wanted)
        status, answer = self._store(collection, name, live, stored_or_new, manager=None, is_new=stored is None)
        return (201 if stored is None and status == 200 else status), answer

    def _store(
        self, collection: str, name: str, live: Json, stored: Stored | None, *,
        manager: Manager | None, is_new: bool = False,
    ) -> tuple[int, str]:  # fmt: skip
        """Store the object if it is valid and differs. `manager` becomes the owner of the changed fields."""
        plural, is_new = collection.rpartition("/")[2], is_new or stored is None
        old = {} if is_new or stored is None else self._objects[collection, name].live
        problem = invalid(plural, old or live, live)
        if problem:
            return 422, failure(f"{name} is invalid: {problem}", "Invalid")
        kept = stored or Stored(live)
        put_missing(live, DEFAULTS.get(plural, {}))
        if is_new:
            self._begin(live, collection, name)
        elif live == old:
            self._objects[collection, name] = Stored(old, kept.owned)
            return 200, self._objects[collection, name].answer
        elif live.get("spec") != old.get("spec"):
            live["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if manager is not None:
            take_over(kept.owned, manager, changed_leaves(old, live))
        live["metadata"]["resourceVersion"] = str(self._next_version())
        self._objects[collection, name] = Stored(live, kept.owned)
        return 200, self._objects[collection, name].answer

    def _begin(self, live: Json, collection: str, name: str) -> None:
        version = self._version + 1
        namespace = collection.split("/namespaces/")[1].split("/")[0]
        facts = {"name": name, "namespace": namespace, "uid": f"uid-{version}", "generation": 1}
        # as late as it is: the operator tells what has waited for long
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        live["metadata"] = {**live["metadata"], **facts, "creationTimestamp": created}

    def _next_version(self) -> int:
        self._version = next(self._versions)
        return self._version


def http_answer(status: int, body: str) -> HTTPResponse:
    """A urllib3 response."""
    return HTTPResponse(
        body=io.BytesIO(body.encode()), status=status, reason=str(status), preload_content=False,
        headers={"Content-Type": "application/json"},
    )  # fmt: skip


def failure(message: str, reason: str) -> str:
    return json.dumps({"kind": "Status", "status": "Failure", "message": message, "reason": reason})


def split_path(path: str) -> tuple[str, str, str]:
    """Collection, name and subresource of a namespaced path; a missing part is empty."""
    before, _, after = path.partition("/namespaces/")
    namespace, plural, *rest = after.split("/")
    return f"{before}/namespaces/{namespace}/{plural}", *[*rest, "", ""][:2]  # type: ignore[return-value]


def selected(item: Json, key: str, value: str) -> bool:
    labels = item["metadata"].get("labels", {})
    return key in labels and value in ("", labels[key])


def applied_part(body: Json) -> Json:
    """The fields that an apply sets: neither the identity nor the status, which is a subresource."""
    metadata = {k: v for k, v in body["metadata"].items() if k not in IDENTITY}
    rest = {k: v for k, v in body.items() if k not in ("apiVersion", "kind", "metadata", "status")}
    return {"metadata": metadata, **rest}


def without_status(body: Json) -> Json:
    return {key: copy.deepcopy(value) for key, value in body.items() if key != "status"}


def without_identity(body: Json) -> Json:
    """The fields that a merge patch sets, without those that identify the object."""
    metadata = {key: value for key, value in body.get("metadata", {}).items() if key not in IDENTITY}
    return {**without_status(body), "metadata": metadata}


def is_as_named(live: Json, body: Json) -> bool:
    """Whether the object has the uid and the resourceVersion of a write."""
    named = body.get("metadata", {})
    return all(named.get(key) in (None, live["metadata"][key]) for key in ("uid", "resourceVersion"))


def merged(old: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def list_key(name: str, items: list[Any]) -> str | None:
    """The merge key of a list; None for an atomic list."""
    fields = KEYED_LISTS.get(name, ())
    return next((f for f in fields if items and all(isinstance(i, dict) and f in i for i in items)), None)


def leaves(body: Any) -> Iterator[Path]:
    """The paths of all fields that an apply of `body` owns."""
    return (path for path, _ in values(body))


def values(body: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The fields that an apply of `body` owns, with their values. An item of a keyed list is a field, too."""
    if isinstance(body, dict) and body:
        for key, value in body.items():
            yield from values(value, (*path, key))
        return
    key = list_key(path[-1], body) if isinstance(body, list) else None
    if key is None:
        if path:
            yield path, body
        return
    for item in body:
        place = (*path, f"[{item[key]}]")
        yield place, item
        yield from values(item, place)


def tree(paths: set[Path]) -> Json:
    """Paths in the format of `fieldsV1`, except for the keys of list items. A leaf is an empty map."""
    found: Json = {}
    for path in paths:
        node = found
        for name in path:
            node = node.setdefault(name if name.startswith("[") else f"f:{name}", {})
        node["."] = {}
    return found


def branches(fields: Json, path: Path = ()) -> Iterator[Path]:
    """The paths of `tree`."""
    for name, below in fields.items():
        if name == ".":
            yield path
        else:
            yield from branches(below, (*path, name.removeprefix("f:")))


def put(live: Json, wanted: Json) -> None:
    """Set the values of `wanted` in `live`. Maps and keyed lists are merged, in the order of `wanted`."""
    for name, value in wanted.items():
        there = live.get(name)
        key = list_key(name, value) if isinstance(value, list) else None
        if isinstance(value, dict) and isinstance(there, dict):
            put(there, value)
        elif key is not None and isinstance(there, list):
            for item in value:
                old = next((entry for entry in there if entry.get(key) == item[key]), None)
                if old is None:
                    there.append(copy.deepcopy(item))
                else:
                    put(old, item)
            order = [item[key] for item in value]
            there.sort(key=lambda entry: order.index(entry[key]) if entry.get(key) in order else len(order))
        else:
            live[name] = copy.deepcopy(value)


def overlaid(live: Json, wanted: Json) -> Json:
    """A copy of `live` with the values of `wanted`."""
    found = copy.deepcopy(live)
    put(found, wanted)
    return found


def put_missing(live: Json, defaults: Json) -> None:
    for name, value in defaults.items():
        if isinstance(value, dict):
            put_missing(live.setdefault(name, {}), value)
        else:
            live.setdefault(name, value)


def remove(live: Any, path: Path) -> None:
    """Remove the value at a path, if it exists, and the maps that become empty."""
    chain = [live]
    for name in path[:-1]:
        chain.append(step(chain[-1], name))
    if chain[-1] is None:
        return
    for holder, name in zip(reversed(chain), reversed(path), strict=True):
        if isinstance(holder, list):
            holder[:] = [item for item in holder if not is_item(item, name)]
        elif isinstance(holder, dict):
            holder.pop(name, None)
        if holder:
            return


def step(live: Any, name: str) -> Any:
    if isinstance(live, list):
        return next((item for item in live if is_item(item, name)), None)
    return live.get(name) if isinstance(live, dict) else None


def is_item(item: Any, name: str) -> bool:
    return isinstance(item, dict) and name[1:-1] in (str(value) for value in item.values())


def changed_leaves(old: Json, new: Json) -> set[Path]:
    """The paths of changed, new and removed values."""
    before, after = dict(values(old)), dict(values(new))
    return {
        path
        for path in before.keys() | after.keys()
        if path not in before or path not in after or before[path] != after[path]
    }


def take_over(owned: dict[Manager, set[Path]], manager: Manager, paths: set[Path]) -> None:
    """Make the manager of an update the only owner of the changed paths. Identity fields have no owner."""
    paths = {path for path in paths if path[0] not in ("apiVersion", "kind") and path[1:] not in SYSTEM_FIELDS}
    for other in owned.values():
        other -= paths
    owned.setdefault(manager, set()).update(paths)


def invalid(plural: str, old: Json, new: Json) -> str | None:
    """Raise the error with which the API server rejects a change."""
    if plural in IMMUTABLE and old.get("spec") != new.get("spec"):
        return "spec: field is immutable"
    port_names = [port.get("name") for port in new.get("spec", {}).get("ports", [])]
    if plural == "services" and len(port_names) != len(set(port_names)):
        return "spec.ports: Duplicate value"
    strategy = new.get("spec", {}).get("strategy", {})
    if plural == "deployments" and strategy.get("type") == "Recreate" and strategy.get("rollingUpdate"):
        return "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
    if plural == "rolebindings" and old.get("roleRef") != new.get("roleRef"):
        return "roleRef: cannot change roleRef"
    if sum(bool(owner.get("controller")) for owner in new["metadata"].get("ownerReferences", [])) > 1:
        return "metadata.ownerReferences: Only one reference can have Controller set to true"
    return None
