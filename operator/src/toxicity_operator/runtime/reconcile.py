"""One reconciliation: observe, plan, execute, observe again, write the status.

It is level-triggered: it depends only on the current state, so it can run at any time and any number of times.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from toxicity_api.status import ToxicityModelStatus
from toxicity_api.types import Raw
from toxicity_operator.chain import NO_SLOT
from toxicity_operator.decide.events import Event, derive_events
from toxicity_operator.decide.plan import plan
from toxicity_operator.decide.schedule import counts_from, due_slot, schedule_in_force
from toxicity_operator.decide.status import derive_invalid, derive_status, own_part
from toxicity_operator.errors import ClusterError, InvalidSpec
from toxicity_operator.model import Identity, Model, read_identity, read_model, read_status
from toxicity_operator.observe.ownership import own_objects
from toxicity_operator.runtime.cluster import Cluster
from toxicity_operator.runtime.execute import execute
from toxicity_operator.runtime.rollout_limiter import RolloutLimiter
from toxicity_operator.runtime.snapshot_reader import SnapshotReader
from toxicity_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of one pass. `trains`: a training is running, whose progress causes no events.

    `is_settling`: an object is too new to tell what it waits for. Both call for another pass soon.
    """

    wrote_status: bool = False
    failure: ClusterError | None = None
    gone: bool = False
    trains: bool = False
    is_settling: bool = False
    events: tuple[Event, ...] = ()


def reconcile(
    cluster: Cluster,
    settings: OperatorSettings,
    namespace: str,
    name: str,
    now: str,
    limiter: RolloutLimiter | None = None,
) -> Outcome:
    """Reconcile one resource at the time `now` (RFC 3339). Raises ClusterError if the objects cannot be read."""
    reader = SnapshotReader(cluster, settings, limiter or RolloutLimiter(settings.upgrades_at_once), now)
    objects = cluster.list_children(namespace, name)
    raw = cluster.get_model(namespace, name)
    if raw is None or raw["metadata"].get("deletionTimestamp"):
        reader.limiter.release((namespace, name))
        return Outcome(gone=raw is None)
    identity = read_identity(raw)
    try:
        model = read_model(raw)
        slot = _slot(model, raw, now)
    except InvalidSpec as error:
        reader.limiter.release((namespace, name))
        status = derive_invalid(identity, read_status(raw), str(error), now)
        return _write_status(cluster, identity, raw, status)
    snapshot = reader.read(model, own_objects(objects, identity), slot)
    failure, changed = execute(cluster, plan(snapshot), identity, snapshot.observed)
    if changed:
        seen = own_objects(cluster.list_children(namespace, name), identity)
        # read the resource again after its children, for the results of a load test that has just finished
        raw = cluster.get_model(namespace, name)
        if raw is None:
            return Outcome(failure=failure, gone=True)
        snapshot = reader.read(replace(model, status=read_status(raw)), seen, slot)
    status = derive_status(snapshot, now, failure)
    job_name = snapshot.chain.train.job_name
    trains = any(job.name == job_name and job.running_pod for job in snapshot.observed.jobs)
    outcome = _write_status(cluster, identity, raw, status)
    return replace(outcome, failure=failure, trains=trains, is_settling=snapshot.observed.is_settling)


def _slot(model: Model, raw: Raw, now: str) -> str:
    """The slot of loadTest.schedule whose run is due or in progress. Raises InvalidSpec if the schedule is invalid."""
    record, created = model.status.load_test_job, raw["metadata"].get("creationTimestamp", now)
    known = (record.slot if record else None) or NO_SLOT
    last_run = (record.started_at if record else None) or created
    running = record is not None and record.outcome == "Running"
    schedule = schedule_in_force(model.spec.load_test, model.status.load_test_schedule, now)
    return due_slot(model.spec.load_test.schedule, counts_from(last_run, schedule), now, known, running)


def _write_status(cluster: Cluster, identity: Identity, raw: Raw, status: ToxicityModelStatus) -> Outcome:
    """Write the operator's part of the status if it has changed, then record the events."""
    old = read_status(raw)
    wanted = own_part(status)
    if wanted == own_part(old):
        return Outcome()
    cluster.apply_status(identity, wanted)
    events = tuple(derive_events(old, status))
    for event in events:
        cluster.record_event(identity, event)
    return Outcome(wrote_status=True, events=events)
