"""The interface to the cluster that reconciliation uses. `kube` implements it with requests and with a cache."""

from __future__ import annotations

from typing import Protocol

from toxicity_api.types import Raw
from toxicity_operator.decide.events import Event
from toxicity_operator.model import Identity


class Children(Protocol):
    """Writes of children, and the reads before them. Every method raises ClusterError if the request fails."""

    def create(self, body: Raw) -> object:
        """Create the object. The error has status 409 if an object of that name exists."""

    def read(self, body: Raw) -> Raw | None:
        """The live object with the kind and name of `body`; None if there is none."""

    def apply(self, body: Raw, live: Raw) -> object:
        """Apply `body` to `live` with a forced server-side apply. The error has status 409 if `live` has changed."""

    def take_over(self, live: Raw, controller: Raw) -> Raw:
        """Add the controller to the owner references of `live`. The error has status 409 if `live` has changed."""

    def hold(self, body: Raw) -> object:
        """Apply an existing object, not forced, with the field manager that keeps `replicas`."""

    def overwrite(self, body: Raw) -> object:
        """Patch the object with a JSON merge patch and the operator's field manager."""

    def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this uid, and its dependents in the background. A missing object is not an error."""


class Cluster(Children, Protocol):
    """All requests of a reconciliation. Every method raises ClusterError if the request fails."""

    def get_model(self, namespace: str, name: str) -> Raw | None:
        """The resource; None if it does not exist."""

    def list_children(self, namespace: str, name: str) -> list[Raw]:
        """All objects with the model's label, each with its `kind`. Pods come last, so they are the newest."""

    def missing_kinds(self) -> frozenset[str]:
        """Optional kinds of children, such as KEDA's, that the API server does not serve."""

    def read_version(self, kind: str, namespace: str, name: str) -> str:
        """A text that changes with the content of a ConfigMap or Secret; `absent` if it does not exist."""

    def apply_status(self, identity: Identity, status: Raw) -> object:
        """Apply the status with the operator's field manager."""

    def record_event(self, identity: Identity, event: Event) -> None:
        """Create a Kubernetes Event about the resource."""

    def read_log_end(self, namespace: str, pod: str, container: str, lines: int) -> list[str]:
        """The last lines of a running container's log."""

    def read_events(self, namespace: str, uid: str, limit: int) -> list[Raw]:
        """The Events about the object with the uid, in any order."""
