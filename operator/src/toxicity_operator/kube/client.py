"""The Cluster protocol of `runtime/cluster.py`, implemented with requests to the API server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kubernetes import client
from urllib3.exceptions import HTTPError

from toxicity_api.base import API_GROUP, API_VERSION, KIND, PLURAL
from toxicity_api.fingerprint import fingerprint
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.decide.events import Event
from toxicity_operator.errors import CONFLICT, NOT_FOUND, ClusterError
from toxicity_operator.kube.connection import TIMEOUT_SECONDS, Connection
from toxicity_operator.kube.managed_fields import applied_fields
from toxicity_operator.model import Identity

LOG_TIMEOUT_SECONDS = (5, 5)
"""Short, since an unresponsive node would block the pass, and urllib3 retries three times."""

LOG_LIMIT_BYTES = 65536
"""Large enough for the requested lines. A log above the limit is cut at its end, which has the newest lines."""

PAGE_SIZE = 100
"""Objects per page of a list. Each page is compressed before the next one is read, to save memory."""

MODEL_PAGE_SIZE = 50
"""Resources per page. They are larger than their children."""

WATCH_SECONDS = 120
"""Duration of a watch before it is opened again, which bounds the time until a dead connection is noticed."""

APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
MODEL_API = f"{API_GROUP}/{API_VERSION}"
EVENT_MESSAGE_LIMIT = 1000

CHILD_KINDS: tuple[tuple[str, str, str], ...] = (
    ("batch/v1", "Job", "jobs"),
    ("apps/v1", "Deployment", "deployments"),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("keda.sh/v1alpha1", "ScaledObject", "scaledobjects"),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("v1", "Service", "services"),
    ("networking.k8s.io/v1", "Ingress", "ingresses"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("rbac.authorization.k8s.io/v1", "Role", "roles"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("v1", "Pod", "pods"),
)
"""Pods come last, so that the pods of a finished Job are at least as new as the Job."""

FOLLOWED_KINDS = (*CHILD_KINDS, (MODEL_API, KIND, PLURAL))
"""Resources come after their children, so that no resource is older than a child."""

OPTIONAL_KINDS = frozenset({"ScaledObject", "HTTPRoute"})
"""Third-party kinds, which the API server may or may not serve, and may start to serve at any time."""

METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
ABSENT = "absent"
"""Version of a ConfigMap or Secret that does not exist."""

SOURCE_PLURALS = {"ConfigMap": "configmaps", "Secret": "secrets"}

PLURALS = {(api, kind): plural for api, kind, plural in FOLLOWED_KINDS}


class WatchEvent(NamedTuple):
    """A watch event: ADDED, MODIFIED, DELETED or BOOKMARK. A bookmark's object has only a resourceVersion."""

    type: str
    item: Raw


class KubernetesCluster(Connection):
    """Blocking requests with timeouts. Call it from a thread."""

    def __init__(self, api_client: client.ApiClient) -> None:
        super().__init__(api_client)
        self._digests: dict[str, tuple[str, str]] = {}

    def require_api(self, namespaces: Sequence[str]) -> None:
        """Raise ClusterError if the API server does not serve ToxicityModels yet.

        The resources are listed, because a new CRD is visible for a while before its objects can be read.
        """
        for namespace in namespaces or (None,):
            self._request("get", _path(MODEL_API, KIND, namespace), limit=1)

    def get_model(self, namespace: str, name: str) -> Raw | None:
        return self._get_or_none(_path(MODEL_API, KIND, namespace, name))

    def list_children(self, namespace: str, name: str) -> list[Raw]:
        selector = f"{names.MODEL_LABEL}={name}"
        children: list[Raw] = []
        for api_version, kind, _ in CHILD_KINDS:
            try:
                answer = self._request("get", _path(api_version, kind, namespace), label_selector=selector)
            except ClusterError as error:
                if is_missing(kind, error):
                    continue
                raise
            children += [{**item, "apiVersion": api_version, "kind": kind} for item in answer["items"]]
        return children

    def missing_kinds(self) -> frozenset[str]:
        return frozenset(
            kind for version, kind, _ in CHILD_KINDS if kind in OPTIONAL_KINDS and not self._serves(version)
        )

    def list_pods(self, namespace: str, name: str) -> list[Raw]:
        """The pods of a resource."""
        selector = f"{names.MODEL_LABEL}={name}"
        answer = self._request("get", _path("v1", "Pod", namespace), label_selector=selector)
        return [{**item, "apiVersion": "v1", "kind": "Pod"} for item in answer["items"]]

    def list_kind(self, api_version: str, kind: str, namespace: str | None) -> tuple[Iterator[Raw], int]:
        """All children of a kind, or all resources, and the resourceVersion from which to watch.

        `namespace` None means all namespaces. The iterator reads page by page and may raise ClusterError.
        """
        path = _path(api_version, kind, namespace)
        options: dict[str, Any] = {"label_selector": names.MODEL_LABEL, "limit": PAGE_SIZE}
        if kind == KIND:
            options = {"limit": MODEL_PAGE_SIZE}
        first = self._request("get", path, **options)

        def items(page: Raw) -> Iterator[Raw]:
            while True:
                yield from ({**item, "apiVersion": api_version, "kind": kind} for item in page["items"])
                following = page["metadata"].get("continue")
                if not following:
                    return
                page = self._request("get", path, **options, _continue=following)

        return items(first), int(first["metadata"]["resourceVersion"])

    @contextmanager
    def watch_kind(
        self, api_version: str, kind: str, namespace: str | None, version: int, seconds: int = WATCH_SECONDS
    ) -> Iterator[Iterator[WatchEvent]]:
        """Watch the objects of `list_kind` for changes after `version`, until the API server ends it after `seconds`.

        Raises ClusterError. Status 410 means that `version` has expired and the kind must be listed again.
        """
        query = [("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", seconds)]
        query += [("resourceVersion", version)]
        if kind != KIND:
            query += [("labelSelector", names.MODEL_LABEL)]
        path, timeout = _path(api_version, kind, namespace), (TIMEOUT_SECONDS[0], seconds + 30)
        answer = self._open("get", path, query_params=query, _request_timeout=timeout)
        try:
            yield _watch_events(answer, path, {"apiVersion": api_version, "kind": kind})
        finally:
            answer.close()

    def create(self, body: Raw) -> Raw:
        """Create the object. Raises ClusterError with status 409 if any object of that name exists."""
        metadata = body["metadata"]
        path = _path(body["apiVersion"], body["kind"], metadata["namespace"])
        return self._request("post", path, body, field_manager=names.FIELD_MANAGER)

    def read(self, body: Raw) -> Raw | None:
        """The live object with the kind and name of `body`; None if there is none."""
        found = self._get_or_none(_path_of(body))
        return None if found is None else {**found, "apiVersion": body["apiVersion"], "kind": body["kind"]}

    def apply(self, body: Raw, live: Raw) -> Raw:
        """Apply `body` to `live` with a forced server-side apply and the operator's field manager.

        Raises ClusterError with status 409 if the object has changed since `live` was read.
        """
        live = self._with_applied_fields(live)
        condition = {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
        return self._apply(_path_of(body), {**body, "metadata": {**body["metadata"], **condition}})

    def take_over(self, live: Raw, controller: Raw) -> Raw:
        """Add the controller to the owner references of `live`. The error has status 409 if `live` has changed."""
        metadata = {key: live["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        metadata["ownerReferences"] = [*live["metadata"].get("ownerReferences", []), controller]
        return self.overwrite({"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata})

    def hold(self, body: Raw) -> Raw:
        options = {"field_manager": names.REPLICAS_MANAGER, "content_type": APPLY}
        return self._request("patch", _path_of(body), body, **options)

    def overwrite(self, body: Raw) -> Raw:
        options = {"field_manager": names.FIELD_MANAGER, "content_type": MERGE}
        return self._request("patch", _path_of(body), body, **options)

    def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this uid, and its dependents in the background. A missing object is not an error."""
        path = _path(api_version, kind, namespace, name)
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            self._request("delete", path, {**options, "propagationPolicy": "Background"})
        except ClusterError as error:
            # 409: the uid differs, so the object was already deleted and replaced by another one
            if error.status not in (NOT_FOUND, CONFLICT):
                raise

    def read_version(self, kind: str, namespace: str, name: str) -> str:
        """A hash of a ConfigMap's content, or the uid and resourceVersion of a Secret, whose content is not read."""
        path = f"/api/v1/namespaces/{namespace}/{SOURCE_PLURALS[kind]}/{name}"
        partial = self._get_or_none(path, header_params={"Accept": METADATA_ONLY})
        if partial is None:
            return ABSENT
        version = f"{partial['metadata']['uid']}/{partial['metadata']['resourceVersion']}"
        if kind == "Secret":
            return version
        known, digest = self._digests.get(path, ("", ""))
        if known != version:
            found = self._get_or_none(path)
            if found is None:
                return ABSENT
            digest = fingerprint({key: found.get(key) for key in ("data", "binaryData")})
            self._digests[path] = (version, digest)
        return digest

    def apply_status(self, identity: Identity, status: Raw) -> Raw:
        metadata = {"name": identity.name, "namespace": identity.namespace, "uid": identity.uid}
        body = {"apiVersion": MODEL_API, "kind": KIND, "metadata": metadata, "status": status}
        return self._apply(_path(MODEL_API, KIND, identity.namespace, identity.name) + "/status", body)

    def record_event(self, identity: Identity, event: Event) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{identity.name}.", "namespace": identity.namespace},
            "involvedObject": {**identity.reference(), "namespace": identity.namespace},
            "type": event.type,
            "reason": event.reason,
            "message": event.message[:EVENT_MESSAGE_LIMIT],
            "source": {"component": names.FIELD_MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._send("post", f"/api/v1/namespaces/{identity.namespace}/events", body)

    def read_log_end(self, namespace: str, pod: str, container: str, lines: int) -> list[str]:
        query = [("container", container), ("tailLines", lines), ("limitBytes", LOG_LIMIT_BYTES)]
        path = _path("v1", "Pod", namespace, pod) + "/log"
        log = self._send("get", path, query_params=query, _request_timeout=LOG_TIMEOUT_SECONDS)
        return log.decode(errors="replace").splitlines()

    def read_events(self, namespace: str, uid: str, limit: int) -> list[Raw]:
        path = f"/api/v1/namespaces/{namespace}/events"
        found: list[Raw] = self._request("get", path, field_selector=f"involvedObject.uid={uid}", limit=limit)[
            "items"
        ]
        return found

    def _serves(self, api_version: str) -> bool:
        return self._get_or_none(f"/apis/{api_version}") is not None

    def _with_applied_fields(self, live: Raw) -> Raw:
        """Make `managedFields` of `live` count the operator's creates and patches as applied. Return the new object.

        Otherwise a later apply that omits a field would not remove it, because the create still owns it.
        """
        fields = applied_fields(live["metadata"].get("managedFields", []))
        if fields is None:
            return live
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": fields},
        ]
        return self._request("patch", _path_of(live), patch, content_type=JSON_PATCH)

    def _apply(self, path: str, body: Raw) -> Raw:
        options = {"field_manager": names.FIELD_MANAGER, "force_conflicts": True, "content_type": APPLY}
        return self._request("patch", path, body, **options)


def is_missing(kind: str, error: ClusterError) -> bool:
    """Whether the error of a list means that the API server does not serve this optional kind."""
    return kind in OPTIONAL_KINDS and error.status == NOT_FOUND


def _watch_events(answer: Any, path: str, kind: Mapping[str, str]) -> Iterator[WatchEvent]:
    """The events of a watch response, one per line. Raises ClusterError if the watch breaks."""
    try:
        for line in answer:
            event = json.loads(line)
            item = {**event["object"], **kind}
            if event["type"] == "ERROR":
                raise ClusterError(
                    f"watch {path}: {event['object'].get('message')}", event["object"].get("code", 0)
                )
            yield WatchEvent(event["type"], item)
    except (HTTPError, ValueError) as error:
        raise ClusterError(f"watch {path}: {error}", 0) from error


def _path_of(body: Raw) -> str:
    metadata = body["metadata"]
    return _path(body["apiVersion"], body["kind"], metadata["namespace"], metadata["name"])


def _path(api_version: str, kind: str, namespace: str | None, name: str | None = None) -> str:
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    scope = f"/namespaces/{namespace}" if namespace is not None else ""
    path = f"{root}{scope}/{PLURALS[api_version, kind]}"
    return path if name is None else f"{path}/{name}"
