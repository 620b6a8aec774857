"""Decides what to write and what to delete, from the spec, the records and the world as it was seen. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_operator import names
from toxicity_operator.drift import first_drift
from toxicity_operator.manifests.common import Manifest, seal
from toxicity_operator.observed import Observed
from toxicity_operator.stages import Situation, walk

WRITE_ONCE = frozenset({"Job", "PersistentVolumeClaim"})
"""Kinds whose content cannot be changed: a changed Job is another Job, and the volume is made once."""


@dataclass(frozen=True)
class Target:
    """One object to delete."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True)
class Plan:
    """Deletes come before applies; `waiting_for` tells people what is not there yet."""

    apply: tuple[Manifest, ...] = ()
    delete: tuple[Target, ...] = ()
    waiting_for: str | None = None


def plan(situation: Situation) -> Plan:
    """What is missing or out of date, and what is in the way. Empty when the world is as wanted, and while paused."""
    if situation.model.spec.paused:
        return Plan(waiting_for="spec.paused to be false")
    step = walk(situation)
    sealed = (seal(body) for body in step.wanted)
    due = tuple(body for body in sealed if _is_due(body, situation.observed))
    return Plan(due, tuple(_obsolete(situation)), step.waiting_for)


def _is_due(body: Manifest, observed: Observed) -> bool:
    kind, name = body["kind"], body["metadata"]["name"]
    if kind in WRITE_ONCE:
        return not observed.has(kind, name)
    live = observed.objects.get((kind, name))
    # the hash stands in an annotation, and so is compared as well: what a manifest no longer has is a change too
    return live is None or first_drift(body, live) is not None


def _obsolete(situation: Situation) -> list[Target]:
    """Jobs that run for nothing (an earlier spec, a refused model), and an autoscaler nobody asks for.

    Finished Jobs have their TTL.
    """
    chain = situation.chain
    wanted = chain.job_names()
    if situation.verdict.accepted is False:
        wanted -= {stage.job_name for stage in (chain.quantize, chain.evaluate) if stage}
    running = [job.name for job in situation.observed.jobs if job.outcome == "Running" and job.name not in wanted]
    targets = [Target("batch/v1", "Job", name) for name in running]
    scaler = names.serving_name(situation.model.name)
    is_wanted = situation.model.spec.serving.autoscaling is not None
    if not is_wanted and situation.observed.has("HorizontalPodAutoscaler", scaler):
        targets.append(Target("autoscaling/v2", "HorizontalPodAutoscaler", scaler))
    return targets
