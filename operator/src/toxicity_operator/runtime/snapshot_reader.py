"""Reads a resource and its children into the Snapshot from which a pass decides."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from toxicity_api.progress import Progress, read_progress
from toxicity_api.types import Raw
from toxicity_operator.chain import ClusterFacts, build_chain, with_sources
from toxicity_operator.decide.outdated import is_behind, is_moving, stages_to_read
from toxicity_operator.decide.records import read_records
from toxicity_operator.decide.snapshot import Snapshot
from toxicity_operator.errors import ClusterError
from toxicity_operator.model import Model
from toxicity_operator.observe.event_messages import event_message
from toxicity_operator.observe.jobs import JobState
from toxicity_operator.observe.objects import ReadContext
from toxicity_operator.observe.state import Observed, from_objects
from toxicity_operator.runtime.cluster import Cluster
from toxicity_operator.runtime.rollout_limiter import RolloutLimiter
from toxicity_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)

LOG_LINES = 40
EVENTS_LIMIT = 100
"""Page size for the Events of one object. There are fewer: they expire after an hour, and equal ones are merged."""


@dataclass(frozen=True)
class SnapshotReader:
    """Reads Snapshots at the time `now` (RFC 3339). `limiter` limits how many resources are upgraded at once."""

    cluster: Cluster
    settings: OperatorSettings
    limiter: RolloutLimiter
    now: str

    def read(self, model: Model, objects: list[Raw], slot: str) -> Snapshot:
        """The snapshot of a resource. It may acquire or release the resource's permit to upgrade."""
        observed = _observe(self.cluster, model.namespace, objects, self.now)
        key = (model.namespace, model.name)
        may_move = self.settings.upgrades == "RollOut" and not model.spec.paused
        found = self._read(model, observed, slot, may_upgrade=may_move and self.limiter.holds(key))
        if may_move and is_behind(found) and self.limiter.acquire(key):
            return self._read(model, observed, slot, may_upgrade=True)
        if not (may_move and is_moving(found)):
            self.limiter.release(key)
        return found

    def _read(self, model: Model, observed: Observed, slot: str, *, may_upgrade: bool) -> Snapshot:
        facts, deployment = ClusterFacts(slot, may_upgrade=may_upgrade), observed.deployment
        if deployment is not None:
            facts = replace(facts, deployed=deployment.serving_fingerprint, image=deployment.image)
        chain = build_chain(model, self.settings, facts)
        stages = (chain.train, chain.quantize, chain.evaluate, chain.loadtest)
        chain = with_sources(chain, _versions(self.cluster, model, stages_to_read(model, stages)))
        progress = _progress(self.cluster, model.namespace, observed.jobs_by_name.get(chain.train.job_name))
        records = read_records(model, chain, observed, progress)
        claim = _named_claim(self.cluster, model)
        return Snapshot(model, chain, records, observed, self.settings, claim, may_upgrade)


def _named_claim(cluster: Cluster, model: Model) -> Raw | None:
    """The claim that the spec names, whose access modes decide where the pods can run. Raises ClusterError."""
    name = model.spec.storage.claim_name
    if name is None:
        return None
    return cluster.read(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": model.namespace},
        }
    )


def _versions(cluster: Cluster, model: Model, wanted: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """The versions of the `wanted` ConfigMaps and Secrets, by component. Those that cannot be read are left out."""
    found: dict[str, dict[str, str]] = {}
    for component, sources in wanted.items():
        for source in sources:
            kind, _, name = source.partition("/")
            try:
                version = cluster.read_version(kind, model.namespace, name)
            except ClusterError as error:
                _log_unreadable(model.namespace, source, str(error))
                continue
            found.setdefault(component, {})[source] = version
    return found


@lru_cache(maxsize=256)
def _log_unreadable(namespace: str, source: str, problem: str) -> None:
    """Log the same problem once. Without the optional permission to get Secrets it occurs in every pass."""
    logger.warning("source_unreadable", extra={"namespace": namespace, "source": source, "problem": problem})


def _observe(cluster: Cluster, namespace: str, objects: list[Raw], now: str) -> Observed:
    """The view of the objects. Events are read only for objects whose state nothing else explains."""
    missing = cluster.missing_kinds()
    observed = from_objects(objects, missing, ReadContext(now))
    if not observed.events_uids:
        return observed
    events = {uid: _event_message(cluster, namespace, uid) for uid in sorted(observed.events_uids)}
    return from_objects(objects, missing, ReadContext(now, events))


def _event_message(cluster: Cluster, namespace: str, uid: str) -> str:
    """The message of the Events about an object; empty if they cannot be read, and the next pass tries again."""
    try:
        return event_message(cluster.read_events(namespace, uid, EVENTS_LIMIT))
    except ClusterError as error:
        logger.warning("events_unreadable", extra={"uid": uid, "problem": str(error)})
        return ""


def _progress(cluster: Cluster, namespace: str, job: JobState | None) -> Progress | None:
    """The last progress in the log of the running training; None if there is none or the log cannot be read."""
    if job is None or not job.running_pod:
        return None
    try:
        return read_progress(cluster.read_log_end(namespace, job.running_pod, job.component, LOG_LINES))
    except ClusterError as error:
        logger.warning("progress_unreadable", extra={"pod": job.running_pod, "problem": str(error)})
        return None
