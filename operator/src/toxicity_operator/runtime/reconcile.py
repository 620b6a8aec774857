"""observe > plan > apply > observe > status: the only function that knows the order.

It may be called at any time, by any trigger, any number of times: it reads what is there and closes the gap.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from toxicity_api.progress import Progress, read_progress
from toxicity_api.status import ToxicityModelStatus
from toxicity_api.types import Raw
from toxicity_operator.chain import NO_SLOT, World, build_chain, with_sources
from toxicity_operator.decide.events import Event, derive_events
from toxicity_operator.decide.outdated import is_behind, is_moved, stages_to_read
from toxicity_operator.decide.plan import plan
from toxicity_operator.decide.records import read_records
from toxicity_operator.decide.schedule import due_slot, looks_from, schedule_in_force
from toxicity_operator.decide.situation import Situation
from toxicity_operator.decide.status import derive_invalid, derive_status, own_part
from toxicity_operator.errors import ClusterError, InvalidSpec
from toxicity_operator.model import Identity, Model, read_identity, read_model, read_status
from toxicity_operator.observe.jobs import JobState
from toxicity_operator.observe.ownership import own_objects
from toxicity_operator.observe.state import Observed, from_objects
from toxicity_operator.runtime.execute import Children, execute
from toxicity_operator.runtime.turns import Turns
from toxicity_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)


LOG_LINES = 40


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


@dataclass(frozen=True)
class Outcome:
    """How one reconcile ended. `trains`: a training runs, which has news more often than the cluster has events."""

    wrote_status: bool = False
    failure: ClusterError | None = None
    gone: bool = False
    trains: bool = False
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Look:
    """What a pass works with: the cluster, the operator's settings, and whose turn it is to move to them."""

    cluster: Cluster
    settings: OperatorSettings
    turns: Turns

    def situation(self, model: Model, objects: list[Raw], slot: str) -> Situation:
        """The resource as it is now, and as it is to be."""
        observed = from_objects(objects, self.cluster.missing_kinds())
        key = (model.namespace, model.name)
        found = self._situation(model, observed, slot, renews=self.turns.has(key))
        if self.settings.upgrades != "RollOut" or model.spec.paused:
            return found
        if is_behind(found):
            return self._situation(model, observed, slot, renews=True) if self.turns.take(key) else found
        if is_moved(found):
            self.turns.give(key)
        return found

    def _situation(self, model: Model, observed: Observed, slot: str, *, renews: bool) -> Situation:
        deployed = observed.deployment.serving_fingerprint if observed.deployment else None
        chain = build_chain(model, self.settings, World(slot, deployed, renews))
        stages = (chain.train, chain.quantize, chain.evaluate, chain.loadtest)
        chain = with_sources(chain, _versions(self.cluster, model, stages_to_read(model, stages)))
        progress = _progress(self.cluster, model.namespace, observed.jobs_by_name.get(chain.train.job_name))
        records = read_records(model, chain, observed, progress)
        return Situation(model, chain, records, observed, self.settings, renews)


def reconcile(
    cluster: Cluster, settings: OperatorSettings, namespace: str, name: str, now: str, turns: Turns | None = None
) -> Outcome:
    """One pass over one resource at the time `now` (RFC 3339). Raises ClusterError when it cannot even look."""
    look = Look(cluster, settings, turns or Turns(settings.upgrades_at_once))
    objects = cluster.list_children(namespace, name)
    raw = cluster.get_model(namespace, name)
    if raw is None or raw["metadata"].get("deletionTimestamp"):
        look.turns.give((namespace, name))
        return Outcome(gone=raw is None)
    identity = read_identity(raw)
    try:
        model = read_model(raw)
        slot = _slot(model, raw, now)
    except InvalidSpec as error:
        status = derive_invalid(identity, read_status(raw), str(error), now)
        return _write_status(cluster, identity, raw, status)
    situation = look.situation(model, own_objects(objects, identity), slot)
    failure, changed = execute(cluster, plan(situation), identity, situation.observed)
    if changed:
        seen = own_objects(cluster.list_children(namespace, name), identity)
        # read again, and last: the figures of a load test that ended meanwhile are in the resource
        raw = cluster.get_model(namespace, name)
        if raw is None:
            return Outcome(failure=failure, gone=True)
        situation = look.situation(replace(model, status=read_status(raw)), seen, slot)
    status = derive_status(situation, now, failure)
    job_name = situation.chain.train.job_name
    trains = any(job.name == job_name and job.running_pod for job in situation.observed.jobs)
    return replace(_write_status(cluster, identity, raw, status), failure=failure, trains=trains)


def _slot(model: Model, raw: Raw, now: str) -> str:
    """The moment of loadTest.schedule whose run is due or under way. Raises InvalidSpec on a bad schedule."""
    record, created = model.status.load_test_job, raw["metadata"].get("creationTimestamp", now)
    known = (record.slot if record else None) or NO_SLOT
    last_run = (record.started_at if record else None) or created
    running = record is not None and record.outcome == "Running"
    schedule = schedule_in_force(model.spec.load_test, model.status.load_test_schedule, now)
    return due_slot(model.spec.load_test.schedule, looks_from(last_run, schedule), now, known, running)


def _versions(cluster: Cluster, model: Model, wanted: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """The versions of what stages read, by component. What may not be read, or not now, is left out."""
    found: dict[str, dict[str, str]] = {}
    for component, sources in wanted.items():
        for source in sources:
            kind, _, name = source.partition("/")
            try:
                version = cluster.read_version(kind, model.namespace, name)
            except ClusterError as error:
                logger.warning("source_unreadable", extra={"source": source, "problem": str(error)})
                continue
            found.setdefault(component, {})[source] = version
    return found


def _progress(cluster: Cluster, namespace: str, job: JobState | None) -> Progress | None:
    """What the running training said last. A log that cannot be read fails nothing: the next pass reads it again."""
    if job is None or not job.running_pod:
        return None
    try:
        return read_progress(cluster.read_log_end(namespace, job.running_pod, job.component, LOG_LINES))
    except ClusterError as error:
        logger.warning("progress_unreadable", extra={"pod": job.running_pod, "problem": str(error)})
        return None


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
