"""The Lease by which the operator's processes agree on who acts, as the API server keeps it.

Every write carries the resourceVersion of what it replaces, so of two processes that write at once one is refused.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kubernetes import client

from toxicity_api.types import Raw
from toxicity_operator.kube.connection import Connection

API = "coordination.k8s.io/v1"
TIMEOUT_SECONDS = (2, 3)
"""To connect and to read; several attempts fit into the time in which a Lease must be renewed."""

MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"


class Lease(Connection):
    """One Lease. Every method raises ClusterError; with status 409 when someone else has written meanwhile."""

    def __init__(self, api_client: client.ApiClient, namespace: str, name: str) -> None:
        super().__init__(api_client)
        self._metadata = {"namespace": namespace, "name": name}
        self._all = f"/apis/{API}/namespaces/{namespace}/leases"
        self._path = f"{self._all}/{name}"

    def read(self) -> Raw | None:
        """The Lease; None when there is none yet."""
        return self._get_or_none(self._path, _request_timeout=TIMEOUT_SECONDS)

    def write(self, found: Raw | None, holder: str, seconds: int) -> Raw:
        """Makes `holder` the one who has the Lease, from now on for `seconds`, in place of what was `found`.

        An empty holder gives it up. Nobody reckons with the times in it, since clocks differ: they are for people.
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
