"""observe > plan > apply > observe > status: the only function that knows the order.

It may be called at any time, by any trigger, any number of times: it reads what is there and closes the gap.
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
    """How one reconcile ended. `trains`: a training runs, which has news more often than the cluster has events.

    `settles`: something waits that is too new to say for what.
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
    """One pass over one resource at the time `now` (RFC 3339). Raises ClusterError when it cannot even look."""
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
        # read again, and last: the figures of a load test that ended meanwhile are in the resource
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
    """The moment of loadTest.schedule whose run is due or under way. Raises InvalidSpec on a bad schedule."""
    record, created = model.status.load_test_job, raw["metadata"].get("creationTimestamp", now)
    known = (record.slot if record else None) or NO_SLOT
    last_run = (record.started_at if record else None) or created
    running = record is not None and record.outcome == "Running"
    schedule = schedule_in_force(model.spec.load_test, model.status.load_test_schedule, now)
    return due_slot(model.spec.load_test.schedule, counts_from(last_run, schedule), now, known, running)


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
