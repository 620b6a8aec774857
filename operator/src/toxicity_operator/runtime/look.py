"""What a pass reads of a resource and its children, put together for deciding."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from toxicity_api.progress import Progress, read_progress
from toxicity_api.types import Raw
from toxicity_operator.chain import World, build_chain, with_sources
from toxicity_operator.decide.outdated import is_behind, is_moved, stages_to_read
from toxicity_operator.decide.records import read_records
from toxicity_operator.decide.situation import Situation
from toxicity_operator.errors import ClusterError
from toxicity_operator.model import Model
from toxicity_operator.observe.events import event_words
from toxicity_operator.observe.jobs import JobState
from toxicity_operator.observe.objects import Moment
from toxicity_operator.observe.state import Observed, from_objects
from toxicity_operator.runtime.cluster import Cluster
from toxicity_operator.runtime.turns import Turns
from toxicity_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)

LOG_LINES = 40
EVENTS_LIMIT = 100
"""Of one object in the hour that Events are kept: more than there are, since equal ones are counted in one."""


@dataclass(frozen=True)
class Look:
    """How a pass sees a resource at the time `now` (RFC 3339). `turns`: whose turn it is to move to these settings."""

    cluster: Cluster
    settings: OperatorSettings
    turns: Turns
    now: str

    def situation(self, model: Model, objects: list[Raw], slot: str) -> Situation:
        """The resource as it is now, and as it is to be."""
        observed = _observe(self.cluster, model.namespace, objects, self.now)
        key = (model.namespace, model.name)
        if model.spec.paused:
            self.turns.give(key)
        found = self._situation(model, observed, slot, renews=self.turns.has(key))
        if self.settings.upgrades != "RollOut" or model.spec.paused:
            return found
        if is_behind(found):
            return self._situation(model, observed, slot, renews=True) if self.turns.take(key) else found
        if is_moved(found):
            self.turns.give(key)
        return found

    def _situation(self, model: Model, observed: Observed, slot: str, *, renews: bool) -> Situation:
        world, deployment = World(slot, renews=renews), observed.deployment
        if deployment is not None:
            world = replace(world, deployed=deployment.serving_fingerprint, image=deployment.image)
        chain = build_chain(model, self.settings, world)
        stages = (chain.train, chain.quantize, chain.evaluate, chain.loadtest)
        chain = with_sources(chain, _versions(self.cluster, model, stages_to_read(model, stages)))
        progress = _progress(self.cluster, model.namespace, observed.jobs_by_name.get(chain.train.job_name))
        records = read_records(model, chain, observed, progress)
        return Situation(model, chain, records, observed, self.settings, renews)


def _versions(cluster: Cluster, model: Model, wanted: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """The versions of what stages read, by component. What may not be read, or not now, is left out."""
    found: dict[str, dict[str, str]] = {}
    for component, sources in wanted.items():
        for source in sources:
            kind, _, name = source.partition("/")
            try:
                version = cluster.read_version(kind, model.namespace, name)
            except ClusterError as error:
                _tell_unreadable(model.namespace, source, str(error))
                continue
            found.setdefault(component, {})[source] = version
    return found


@lru_cache(maxsize=256)
def _tell_unreadable(namespace: str, source: str, problem: str) -> None:
    """Once for the same problem: without the right to get Secrets, which the chart can withhold, every pass has it."""
    logger.warning("source_unreadable", extra={"namespace": namespace, "source": source, "problem": problem})


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
