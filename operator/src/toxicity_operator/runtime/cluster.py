"""What a pass needs of a cluster; `kube` has the API server's own and one on mirrors."""

from __future__ import annotations

from typing import Protocol

from toxicity_api.types import Raw
from toxicity_operator.decide.events import Event
from toxicity_operator.model import Identity


class Children(Protocol):
    """What is written, and read right before. Every method raises ClusterError when the request fails."""

    def create(self, body: Raw) -> object:
        """Makes the object; an error with status 409 where one of its name is there."""

    def read(self, body: Raw) -> Raw | None:
        """The live object that has the kind and name of `body`; None when there is none."""

    def apply(self, body: Raw, live: Raw) -> object:
        """Server-side apply over `live`, forced; an error with status 409 when that has changed."""

    def take_over(self, live: Raw, controller: Raw) -> Raw:
        """Adds the controller to the owners of `live`, which has none; 409 when that has changed."""

    def hold(self, body: Raw) -> object:
        """Server-side apply of an existing object with the field manager that holds replicas, not forced."""

    def overwrite(self, body: Raw) -> object:
        """JSON merge patch with the operator's field manager."""

    def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        """Deletes the object with this uid, its dependents in the background; gone already is fine."""


class Cluster(Children, Protocol):
    """What reconciling needs of a cluster. Every method raises ClusterError when the request fails."""

    def get_model(self, namespace: str, name: str) -> Raw | None:
        """The resource; None when it is gone."""

    def list_children(self, namespace: str, name: str) -> list[Raw]:
        """Every object with the model's label, each with its `kind`; pods last, so that they are the newest."""

    def missing_kinds(self) -> frozenset[str]:
        """Kinds of children that the API server does not serve: those of others, who have not installed them."""

    def read_version(self, kind: str, namespace: str, name: str) -> str:
        """A text that changes when the content of a ConfigMap or Secret does; `absent` when it is not there."""

    def apply_status(self, identity: Identity, status: Raw) -> object:
        """Server-side apply of the status with the operator's field manager."""

    def record_event(self, identity: Identity, event: Event) -> None:
        """Writes an event about the resource."""

    def read_log_end(self, namespace: str, pod: str, container: str, lines: int) -> list[str]:
        """The last lines of a running container's log."""

    def read_events(self, namespace: str, uid: str, limit: int) -> list[Raw]:
        """The Events about the object with the uid, in any order."""
