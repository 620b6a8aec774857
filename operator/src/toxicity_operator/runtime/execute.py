"""Executes a plan. No other module writes children.

A missing child is created, which fails if another object has its name. An existing object is changed only if the
resource is its controller, and only in the state in which it was just read: the write contains its uid and
resourceVersion. See docs/adr/0008.
"""

from __future__ import annotations

import logging

from toxicity_api.base import API_GROUP, API_VERSION, KIND
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.decide.plan import Plan
from toxicity_operator.errors import CONFLICT, ClusterError, NotOurs, PredecessorRemains
from toxicity_operator.manifests.common import Manifest, of_existing, runs_with
from toxicity_operator.model import Identity
from toxicity_operator.observe.drift import CLAIM, INVALID, MADE_ANEW, WRITE_ONCE, can_grow, overwriting
from toxicity_operator.observe.ownership import Ownership, controller_of, ownership
from toxicity_operator.observe.state import Observed
from toxicity_operator.runtime.cluster import Children

logger = logging.getLogger(__name__)

MODEL_API = f"{API_GROUP}/{API_VERSION}"
ATTEMPTS = 3
"""Attempts to change an object that others change too, such as the Deployment controller."""


def execute(
    cluster: Children, todo: Plan, identity: Identity, observed: Observed
) -> tuple[ClusterError | None, bool]:
    """Execute the plan up to the first error. Return that error, or None, and whether anything was changed.

    The error is returned and not raised, because the status must be written in any case.
    """
    changed = False
    try:
        for orphan in todo.take_over:
            _take_over(cluster, orphan, identity)
            changed = True
        for body in todo.hold:
            cluster.hold(body)
        for target in todo.delete:
            cluster.delete(target.api_version, target.kind, identity.namespace, target.name, target.uid)
            logger.info("deleted", extra={"kind": target.kind, "child": target.name})
            changed = True
        for body in todo.apply:
            if not observed.has(body["kind"], body["metadata"]["name"]):
                _check_used(cluster, body, identity, observed)
            _check_account(cluster, body, identity)
            _write(cluster, body, identity, observed)
            logger.info("applied", extra={"kind": body["kind"], "child": body["metadata"]["name"]})
            changed = True
    except ClusterError as error:
        return error, changed
    return None, changed


def _take_over(cluster: Children, orphan: Raw, identity: Identity) -> None:
    """Make the resource the controller of an object that an earlier resource of its name left.

    Raises NotOurs if someone else has become its controller, so the rest of the plan is not executed.
    """
    live = cluster.read(orphan)
    whose = Ownership.OURS if live is None else ownership(live, identity)
    if live is not None and whose is Ownership.FOREIGN:
        raise NotOurs(_not_ours(orphan["kind"], orphan["metadata"]["name"], live))
    if live is not None and whose is Ownership.ORPHAN:
        logger.info("taken_over", extra={"kind": orphan["kind"], "child": orphan["metadata"]["name"]})
        _become_controller(cluster, live, identity)


def _become_controller(cluster: Children, live: Raw, identity: Identity) -> Raw:
    """Make the resource the controller of `live`. Raises ClusterError if the resource no longer exists.

    The cached resource may be the one that was just deleted and left the orphan. With its owner reference the garbage
    collector would delete the object. The resource is therefore read again after the orphan.
    """
    place = {"name": identity.name, "namespace": identity.namespace}
    model = cluster.read({"apiVersion": MODEL_API, "kind": KIND, "metadata": place})
    metadata = model["metadata"] if model else {}
    if metadata.get("uid") != identity.uid or metadata.get("deletionTimestamp"):
        problem = f"ToxicityModel {identity.name} no longer exists, so it cannot own {live['metadata']['name']}"
        raise ClusterError(problem, CONFLICT)
    return cluster.take_over(live, identity.owner_reference())


def _write(cluster: Children, body: Manifest, identity: Identity, observed: Observed) -> None:
    """Create the child, or change the existing object to match the manifest."""
    if not observed.has(body["kind"], body["metadata"]["name"]):
        try:
            cluster.create(body)
            return
        except ClusterError as error:
            if error.status != CONFLICT:
                raise
        if body["kind"] == "Deployment":
            _require_unseen_deployment(cluster, body, identity)
    for attempt in range(ATTEMPTS):
        live = cluster.read(body)
        if live is None:
            cluster.create(body)  # it was deleted after it was observed
            return
        _require_observed_replicas(body, live, observed)
        try:
            _change(cluster, body, _owned(cluster, body, live, identity))
            return
        except ClusterError as error:
            if error.status != CONFLICT or isinstance(error, NotOurs) or attempt == ATTEMPTS - 1:
                raise


def _require_unseen_deployment(cluster: Children, body: Manifest, identity: Identity) -> None:
    """Raise ClusterError if the Deployment exists although it was not observed, so that the next pass plans with it.

    The manifest of a Deployment depends on the deployed version, which operator upgrades keep.
    """
    live = cluster.read(body)
    if live is not None:
        _owned(cluster, body, live, identity)
        raise ClusterError(
            f"Deployment {body['metadata']['name']} was not in the cache; the operator retries", CONFLICT
        )


def _require_observed_replicas(body: Manifest, live: Raw, observed: Observed) -> None:
    """Raise ClusterError if the manifest sets `replicas` and the number has changed since it was observed.

    Another operator may already have scaled the Deployment up after a stage, and its autoscaler may have set the number
    since then.
    """
    seen = observed.objects.get((body["kind"], body["metadata"]["name"]))
    if body["kind"] != "Deployment" or "replicas" not in body["spec"] or seen is None:
        return
    if live["spec"].get("replicas") != seen["spec"].get("replicas"):
        raise ClusterError(
            f"the replicas of Deployment {body['metadata']['name']} have changed; the operator retries", CONFLICT
        )


def _check_used(cluster: Children, body: Manifest, identity: Identity, observed: Observed) -> None:
    """Raise NotOurs if an observed claim or ServiceAccount of the pods belongs to someone else by now."""
    for kind, name in runs_with(body):
        if not observed.has(kind, name):
            continue  # this pass created it, or the spec names it explicitly
        live = cluster.read({"apiVersion": "v1", "kind": kind, "metadata": {**body["metadata"], "name": name}})
        if live is not None and ownership(live, identity) is Ownership.FOREIGN:
            raise NotOurs(_not_ours(kind, name, live))


def _check_account(cluster: Children, body: Manifest, identity: Identity) -> None:
    """Raise NotOurs if the pods would run with a ServiceAccount that another ToxicityModel controls."""
    for kind, name in runs_with(body):
        if kind != "ServiceAccount" or name == names.loadtest_account_name(identity.name):
            continue
        live = cluster.read({"apiVersion": "v1", "kind": kind, "metadata": {**body["metadata"], "name": name}})
        controller = None if live is None else controller_of(live)
        if controller is not None and controller["kind"] == KIND and controller["uid"] != identity.uid:
            raise NotOurs(
                f"ServiceAccount {name} belongs to ToxicityModel {controller['name']}, so no other resource uses it;"
                " set pod.serviceAccountName to another account"
            )


def _owned(cluster: Children, body: Manifest, live: Raw, identity: Identity) -> Raw:
    """Return `live` if it belongs to the resource. Raises NotOurs or PredecessorRemains if it does not."""
    whose = ownership(live, identity)
    kind, name = body["kind"], body["metadata"]["name"]
    if whose is Ownership.FOREIGN:
        raise NotOurs(_not_ours(kind, name, live))
    if whose is Ownership.PREDECESSOR or live["metadata"].get("deletionTimestamp"):
        raise PredecessorRemains(kind, name)
    if whose is Ownership.ORPHAN and "ownerReferences" in body["metadata"]:
        return _become_controller(cluster, live, identity)
    return live


def _not_ours(kind: str, name: str, live: Raw) -> str:
    controller = controller_of(live)
    owner = (
        f"belongs to {controller['kind']} {controller['name']}"
        if controller
        else "was not created by the operator"
    )
    # the ToxicityModel must be created again, since spec.storage is immutable
    is_claim = kind == "PersistentVolumeClaim"
    use = f", or with storage.claimName: {name} to use the claim" if is_claim else ""
    return (
        f"{kind} {name} {owner}, so the operator does not use or change it; rename or delete it, or create the"
        f" ToxicityModel again under another name{use}"
    )


def _change(cluster: Children, body: Manifest, live: Raw) -> None:
    """Apply an existing child. If a manual edit makes the apply invalid, overwrite the edited fields first."""
    kind, name = body["kind"], body["metadata"]["name"]
    if kind in WRITE_ONCE:
        _label(cluster, body, live)
        if kind == CLAIM and can_grow(body, live):
            _grow(cluster, body, live)
        return
    try:
        cluster.apply(body, live)
    except ClusterError as error:
        if error.status != INVALID:
            raise
        logger.warning("overwritten", extra={"kind": kind, "child": name, "problem": str(error)})
        metadata = live["metadata"]
        if kind in MADE_ANEW:
            cluster.delete(body["apiVersion"], kind, metadata["namespace"], name, metadata["uid"])
            cluster.create(body)
            return
        cluster.overwrite(overwriting(body, live))
        again = cluster.read(body)
        if again is not None:
            cluster.apply(body, again)


def _grow(cluster: Children, body: Manifest, live: Raw) -> None:
    """Request more storage for a claim. Raises ClusterError with the remedy if its storage class does not allow it."""
    size = body["spec"]["resources"]["requests"]["storage"]
    try:
        cluster.overwrite({**of_existing(body, live), "spec": {"resources": {"requests": {"storage": size}}}})
    except ClusterError as error:
        remedy = "storage.size cannot grow: set allowVolumeExpansion: true in the storage class of the claim"
        raise ClusterError(f"{remedy} ({error})", error.status) from error


def _label(cluster: Children, body: Manifest, live: Raw) -> None:
    """Restore the labels by which the operator finds the object."""
    labels = body["metadata"]["labels"]
    if not labels.items() <= live["metadata"].get("labels", {}).items():
        change = of_existing(body, live)
        cluster.overwrite({**change, "metadata": {**change["metadata"], "labels": labels}})
