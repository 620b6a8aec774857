"""Carries out a plan: the only place that writes children.

A child that is not there is created, which fails where another object has its name. What is there is changed only when
the resource is its controller, and only as it was read a moment ago: the write names its uid and resourceVersion.
"""

from __future__ import annotations

import logging

from toxicity_api.base import API_GROUP, API_VERSION, KIND
from toxicity_api.types import Raw
from toxicity_operator.decide.plan import Plan
from toxicity_operator.errors import CONFLICT, ClusterError, NotOurs, PredecessorRemains
from toxicity_operator.manifests.common import Manifest, of_existing, runs_with
from toxicity_operator.model import Identity
from toxicity_operator.observe.drift import INVALID, MADE_ANEW, WRITE_ONCE, overwriting
from toxicity_operator.observe.ownership import Ownership, controller_of, ownership
from toxicity_operator.observe.state import Observed
from toxicity_operator.runtime.cluster import Children

logger = logging.getLogger(__name__)

MODEL_API = f"{API_GROUP}/{API_VERSION}"
ATTEMPTS = 3
"""Of a change whose object others change at the same time, as the Deployment controller does with its status."""


def execute(
    cluster: Children, todo: Plan, identity: Identity, observed: Observed
) -> tuple[ClusterError | None, bool]:
    """Carries the plan out up to the first failure, which is returned: the status must be written all the same.

    The second value says whether anything was changed.
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
            is_there = observed.has(body["kind"], body["metadata"]["name"])
            if not is_there:
                _check_used(cluster, body, identity, observed)
            _write(cluster, body, identity, is_there=is_there)
            logger.info("applied", extra={"kind": body["kind"], "child": body["metadata"]["name"]})
            changed = True
    except ClusterError as error:
        return error, changed
    return None, changed


def _take_over(cluster: Children, orphan: Raw, identity: Identity) -> None:
    """Makes the resource the controller of an object that an earlier resource of its name left.

    Raises NotOurs when somebody else has become that, so that nothing else of the plan reaches the object.
    """
    live = cluster.read(orphan)
    whose = Ownership.OURS if live is None else ownership(live, identity)
    if live is not None and whose is Ownership.FOREIGN:
        raise NotOurs(_not_ours(orphan["kind"], orphan["metadata"]["name"], live))
    if live is not None and whose is Ownership.ORPHAN:
        logger.info("taken_over", extra={"kind": orphan["kind"], "child": orphan["metadata"]["name"]})
        _become_controller(cluster, live, identity)


def _become_controller(cluster: Children, live: Raw, identity: Identity) -> Raw:
    """Makes the resource the controller of `live`, if the resource is still there.

    The one that is remembered may be the one that has just left the orphan: its reference would have the garbage
    collector remove the object. It is asked for after the orphan was read, so its deletion had begun by then.
    """
    place = {"name": identity.name, "namespace": identity.namespace}
    model = cluster.read({"apiVersion": MODEL_API, "kind": KIND, "metadata": place})
    metadata = model["metadata"] if model else {}
    if metadata.get("uid") != identity.uid or metadata.get("deletionTimestamp"):
        raise ClusterError(f"{identity.name} is not there any more to own {live['metadata']['name']}", CONFLICT)
    return cluster.take_over(live, identity.owner_reference())


def _write(cluster: Children, body: Manifest, identity: Identity, *, is_there: bool) -> None:
    """Makes the child, or brings what is there into line."""
    if not is_there:
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
            cluster.create(body)  # deleted since it was seen
            return
        try:
            _change(cluster, body, _owned(cluster, body, live, identity))
            return
        except ClusterError as error:
            if error.status != CONFLICT or isinstance(error, NotOurs) or attempt == ATTEMPTS - 1:
                raise


def _require_unseen_deployment(cluster: Children, body: Manifest, identity: Identity) -> None:
    """Raises ClusterError when the Deployment is there: with what was not seen it would be rolled out by a guess.

    What serves already is kept through upgrades of the operator, so what it is to be depends on what it is.
    """
    live = cluster.read(body)
    if live is not None:
        _owned(cluster, body, live, identity)
        raise ClusterError(
            f"Deployment {body['metadata']['name']} was not seen before: it is looked at anew", CONFLICT
        )


def _check_used(cluster: Children, body: Manifest, identity: Identity, observed: Observed) -> None:
    """Raises NotOurs when what new pods run with was seen as the resource's own and is another's by now."""
    for kind, name in runs_with(body):
        if not observed.has(kind, name):
            continue  # this pass has made it, or it is used on purpose
        live = cluster.read({"apiVersion": "v1", "kind": kind, "metadata": {**body["metadata"], "name": name}})
        if live is not None and ownership(live, identity) is Ownership.FOREIGN:
            raise NotOurs(_not_ours(kind, name, live))


def _owned(cluster: Children, body: Manifest, live: Raw, identity: Identity) -> Raw:
    """`live`, which is the resource's own. Raises NotOurs, or PredecessorRemains, when it is another's."""
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
    owner = f"belongs to {controller['kind']} {controller['name']}" if controller else "was made by somebody else"
    # anew, since storage cannot be changed
    is_claim = kind == "PersistentVolumeClaim"
    use = f", or with storage.claimName: {name} to use it on purpose" if is_claim else ""
    return (
        f"{kind} {name} {owner}, so it is neither used nor changed: rename or delete it, or make the ToxicityModel anew"
        f" under another name{use}"
    )


def _change(cluster: Children, body: Manifest, live: Raw) -> None:
    """Applies a child that is there; where an edit by hand stands in the way, what was edited is overwritten first."""
    kind, name = body["kind"], body["metadata"]["name"]
    if kind in WRITE_ONCE:
        _label(cluster, body, live)
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


def _label(cluster: Children, body: Manifest, live: Raw) -> None:
    """Gives an object back the labels by which it is found: without them it would never be seen, and be made anew."""
    labels = body["metadata"]["labels"]
    if not labels.items() <= live["metadata"].get("labels", {}).items():
        change = of_existing(body, live)
        cluster.overwrite({**change, "metadata": {**change["metadata"], "labels": labels}})
