"""The Lease of the leader election in the API server.

Every write contains the resourceVersion of the object it replaces, so one of two concurrent writes is rejected.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kubernetes import client

from toxicity_api.types import Raw
from toxicity_operator.kube.connection import Connection

API = "coordination.k8s.io/v1"
TIMEOUT_SECONDS = (2, 3)
"""Connect and read timeout. Several attempts fit into the renew deadline."""

MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"


class Lease(Connection):
    """One Lease. Every method raises ClusterError, with status 409 if another process has changed the Lease."""

    def __init__(self, api_client: client.ApiClient, namespace: str, name: str) -> None:
        super().__init__(api_client)
        self._metadata = {"namespace": namespace, "name": name}
        self._all = f"/apis/{API}/namespaces/{namespace}/leases"
        self._path = f"{self._all}/{name}"

    def read(self) -> Raw | None:
        """The Lease; None if it does not exist."""
        return self._get_or_none(self._path, _request_timeout=TIMEOUT_SECONDS)

    def write(self, found: Raw | None, holder: str, seconds: int) -> Raw:
        """Make `holder` the holder of the Lease for `seconds`, replacing the object `found` (None: create it).

        An empty holder releases it. The times in the Lease are informative; no process uses them, since clocks differ.
        """
        now = datetime.now(UTC).strftime(MOMENT)
        old: Raw = found["spec"] if found is not None else {}
        spec: dict[str, Any] = {**old, "leaseDurationSeconds": seconds, "renewTime": now, "holderIdentity": holder}
        if old.get("holderIdentity", "") != holder:
            changes = int(old.get("leaseTransitions") or 0) + (1 if found is not None and holder else 0)
            spec |= {"acquireTime": now, "leaseTransitions": changes}
        body = {"apiVersion": API, "kind": "Lease", "metadata": self._metadata, "spec": spec}
        if found is None:
            return self._write("post", self._all, body)
        return self._write("put", self._path, {**body, "metadata": found["metadata"]})

    def _write(self, method: str, path: str, body: Raw | None = None) -> Raw:
        return self._request(method, path, body, _request_timeout=TIMEOUT_SECONDS)
