"""observe > plan > apply > observe > status: the only function that knows the order.

It may be called at any time, by any trigger, any number of times: it reads what is there and closes the gap.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from toxicity_api.progress import Progress, read_progress
from toxicity_api.status import ToxicityModelStatus
from toxicity_api.types import Raw
from toxicity_operator.chain import NO_SLOT, Chain, build_chain
from toxicity_operator.decide.events import Event, derive_events
from toxicity_operator.decide.plan import Plan, plan
from toxicity_operator.decide.records import read_records
from toxicity_operator.decide.schedule import due_slot, looks_from, schedule_in_force
from toxicity_operator.decide.stages import Situation
from toxicity_operator.decide.status import derive_invalid, derive_status, own_part
from toxicity_operator.errors import ClusterError, InvalidSpec
from toxicity_operator.manifests.common import Manifest
from toxicity_operator.model import Identity, Model, read_identity, read_model, read_status
from toxicity_operator.observe.autoscaler import is_made_by_keda
from toxicity_operator.observe.drift import INVALID, MADE_ANEW, WRITE_ONCE, overwriting
from toxicity_operator.observe.events import event_words
from toxicity_operator.observe.jobs import JobState
from toxicity_operator.observe.objects import Moment
from toxicity_operator.observe.state import GRANDCHILDREN, Observed, from_objects
from toxicity_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)


LOG_LINES = 40
EVENTS_LIMIT = 100
"""Of one object in the hour that Events are kept: more than there are, since equal ones are counted in one."""


class Cluster(Protocol):
    """What reconciling needs of a cluster. Every method raises ClusterError when the request fails."""

    def get_model(self, namespace: str, name: str) -> Raw | None:
        """The resource; None when it is gone."""

    def list_children(self, namespace: str, name: str) -> list[Raw]:
        """Every object with the model's label, each with its `kind`; pods last, so that they are the newest."""

    def missing_kinds(self) -> frozenset[str]:
        """Kinds of children that the API server does not serve: those of others, who have not installed them."""

    def apply(self, body: Raw) -> object:
        """Server-side apply with the operator's field manager, forced."""

    def hold(self, body: Raw) -> object:
        """Server-side apply of an existing object with the field manager that holds replicas, not forced."""

    def overwrite(self, body: Raw) -> object:
        """JSON merge patch with the operator's field manager."""

    def delete(self, api_version: str, kind: str, namespace: str, name: str) -> None:
        """Deletes with its dependents in the background; gone already is fine."""

    def apply_status(self, identity: Identity, status: Raw) -> object:
        """Server-side apply of the status with the operator's field manager."""

    def record_event(self, identity: Identity, event: Event) -> None:
        """Writes an event about the resource."""

    def read_log_end(self, namespace: str, pod: str, container: str, lines: int) -> list[str]:
        """The last lines of a running container's log."""

    def read_events(self, namespace: str, uid: str, limit: int) -> list[Raw]:
        """The Events about the object with the uid, in any order."""


@dataclass(frozen=True)
class Outcome:
    """How one reconcile ended. `trains`: a training runs, which has news more often than the cluster has events.

    `settles`: something waits that is too new to say for what.
    """

    wrote_status: bool = False
    failure: ClusterError | None = None
    gone: bool = False
    trains: bool = False
    settles: bool = False
    events: tuple[Event, ...] = ()


def reconcile(cluster: Cluster, settings: OperatorSettings, namespace: str, name: str, now: str) -> Outcome:
    """One pass over one resource at the time `now` (RFC 3339). Raises ClusterError when it cannot even look."""
    objects = cluster.list_children(namespace, name)
    raw = cluster.get_model(namespace, name)
    if raw is None or raw["metadata"].get("deletionTimestamp"):
        return Outcome(gone=raw is None)
    identity = read_identity(raw)
    try:
        model = read_model(raw)
        chain = build_chain(model, settings, _slot(model, raw, now))
    except InvalidSpec as error:
        status = derive_invalid(identity, read_status(raw), str(error), now)
        return _write_status(cluster, identity, raw, status)
    situation = _situation(cluster, model, chain, _own(objects, identity), settings, now)
    failure, changed = _execute(cluster, plan(situation), identity, situation.observed)
    if changed:
        seen = _own(cluster.list_children(namespace, name), identity)
        # read again, and last: the figures of a load test that ended meanwhile are in the resource
        raw = cluster.get_model(namespace, name)
        if raw is None:
            return Outcome(failure=failure, gone=True)
        model = replace(model, status=read_status(raw))
        situation = _situation(cluster, model, chain, seen, settings, now)
    status = derive_status(situation, now, str(failure) if failure else None)
    trains = any(job.name == chain.train.job_name and job.running_pod for job in situation.observed.jobs)
    outcome = _write_status(cluster, identity, raw, status)
    return replace(outcome, failure=failure, trains=trains, settles=situation.observed.settles)


def _slot(model: Model, raw: Raw, now: str) -> str:
    """The moment of loadTest.schedule whose run is due or under way. Raises InvalidSpec on a bad schedule."""
    record, created = model.status.load_test_job, raw["metadata"].get("creationTimestamp", now)
    known = (record.slot if record else None) or NO_SLOT
    last_run = (record.started_at if record else None) or created
    running = record is not None and record.outcome == "Running"
    schedule = schedule_in_force(model.spec.load_test, model.status.load_test_schedule, now)
    return due_slot(model.spec.load_test.schedule, looks_from(last_run, schedule), now, known, running)


def _own(objects: Iterable[Raw], identity: Identity) -> list[Raw]:
    """The resource's own objects: a namesake of before may have left some. Grandchildren have other owners."""

    def is_own(item: Raw) -> bool:
        owners = item["metadata"].get("ownerReferences", [])
        if item["kind"] in GRANDCHILDREN or is_made_by_keda(item):
            return True
        if item["kind"] == "PersistentVolumeClaim" and not owners:
            return True  # artifacts that storage.reclaim has kept, for whoever bears the name
        return any(owner["uid"] == identity.uid for owner in owners)

    return [item for item in objects if is_own(item)]


def _situation(
    cluster: Cluster, model: Model, chain: Chain, objects: list[Raw], settings: OperatorSettings, now: str
) -> Situation:
    observed = _observe(cluster, model.namespace, objects, now)
    progress = _progress(cluster, model.namespace, observed.jobs_by_name.get(chain.train.job_name))
    return Situation(model, chain, read_records(model, chain, observed, progress), observed, settings)


def _observe(cluster: Cluster, namespace: str, objects: list[Raw], now: str) -> Observed:
    """The view of the objects, with the words of Events about what waits for something that nothing else tells."""
    missing = cluster.missing_kinds()
    observed = from_objects(objects, missing, Moment(now))
    if not observed.asks:
        return observed
    events = {uid: _event_words(cluster, namespace, uid) for uid in sorted(observed.asks)}
    return from_objects(objects, missing, Moment(now, events))


def _event_words(cluster: Cluster, namespace: str, uid: str) -> str:
    """What the Events about an object say. When they cannot be read nothing fails: the next pass asks again."""
    try:
        return event_words(cluster.read_events(namespace, uid, EVENTS_LIMIT))
    except ClusterError as error:
        logger.warning("events_unreadable", extra={"uid": uid, "problem": str(error)})
        return ""


def _progress(cluster: Cluster, namespace: str, job: JobState | None) -> Progress | None:
    """What the running training said last. A log that cannot be read fails nothing: the next pass reads it again."""
    if job is None or not job.running_pod:
        return None
    try:
        return read_progress(cluster.read_log_end(namespace, job.running_pod, job.component, LOG_LINES))
    except ClusterError as error:
        logger.warning("progress_unreadable", extra={"pod": job.running_pod, "problem": str(error)})
        return None


def _execute(
    cluster: Cluster, todo: Plan, identity: Identity, observed: Observed
) -> tuple[ClusterError | None, bool]:
    """Carries the plan out up to the first failure, which is returned: the status must be written all the same."""
    changed = False
    try:
        for body in todo.hold:
            cluster.hold(body)
        for target in todo.delete:
            cluster.delete(target.api_version, target.kind, identity.namespace, target.name)
            logger.info("deleted", extra={"kind": target.kind, "child": target.name})
            changed = True
        for body in todo.apply:
            _apply(cluster, body, observed)
            logger.info("applied", extra={"kind": body["kind"], "child": body["metadata"]["name"]})
            changed = True
    except ClusterError as error:
        return error, changed
    return None, changed


def _apply(cluster: Cluster, body: Manifest, observed: Observed) -> None:
    """Applies a child; where an edit by hand stands in the way, what was edited is overwritten first."""
    kind, name = body["kind"], body["metadata"]["name"]
    live = observed.objects.get((kind, name))
    try:
        cluster.apply(body)
    except ClusterError as error:
        if error.status != INVALID or live is None or kind in WRITE_ONCE:
            raise
        logger.warning("overwritten", extra={"kind": kind, "child": name, "problem": str(error)})
        if kind in MADE_ANEW:
            cluster.delete(body["apiVersion"], kind, body["metadata"]["namespace"], name)
        else:
            cluster.overwrite(overwriting(body, live))
        cluster.apply(body)


def _write_status(cluster: Cluster, identity: Identity, raw: Raw, status: ToxicityModelStatus) -> Outcome:
    """Writes the operator's part of the status when it differs from what is there, then tells the events."""
    old = read_status(raw)
    wanted = own_part(status)
    if wanted == own_part(old):
        return Outcome()
    cluster.apply_status(identity, wanted)
    events = tuple(derive_events(old, status))
    for event in events:
        cluster.record_event(identity, event)
    return Outcome(wrote_status=True, events=events)
