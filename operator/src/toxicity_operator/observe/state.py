"""A frozen view of a resource's children, read from raw objects once; the deciding code sees only this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.observe.autoscaler import AutoscalerState, read_autoscalers
from toxicity_operator.observe.deployment import DeploymentState, read_deployment
from toxicity_operator.observe.jobs import JobState, read_job
from toxicity_operator.observe.objects import UNKNOWN_MOMENT, Moment, is_owned_by
from toxicity_operator.observe.pods import pending_claims

GRANDCHILDREN = ("Pod", "ReplicaSet")
"""Kinds that the Job and Deployment controllers make, not the operator."""


@dataclass(frozen=True)
class Observed:
    """Everything that exists for one resource."""

    objects: Mapping[tuple[str, str], Raw]
    jobs: tuple[JobState, ...]
    deployment: DeploymentState | None
    autoscalers: Mapping[str, AutoscalerState] = field(default_factory=dict)
    """By kind; more than one only while the spec's metric is exchanged."""

    templates: Mapping[str, Raw] = field(default_factory=dict)
    """Pod templates of the Deployment's revisions by serving fingerprint."""

    missing_kinds: frozenset[str] = frozenset()
    """Kinds that the cluster does not serve."""

    asks: frozenset[str] = frozenset()
    """Uids of the objects that wait for what only Events tell."""

    settles: bool = False
    """Whether something waits that is too new to say for what: a look soon after this one may say more."""

    def has(self, kind: str, name: str) -> bool:
        """Whether the child exists."""
        return (kind, name) in self.objects

    @cached_property
    def jobs_by_name(self) -> Mapping[str, JobState]:
        return {job.name: job for job in self.jobs}


def from_objects(
    objects: Iterable[Raw], missing_kinds: frozenset[str] = frozenset(), moment: Moment = UNKNOWN_MOMENT
) -> Observed:
    """The view of raw objects (Jobs, the Deployment, their pods and revisions, the rest), each with its `kind`."""
    everything = list(objects)
    pods = [item for item in everything if item["kind"] == "Pod"]
    children = [item for item in everything if item["kind"] not in GRANDCHILDREN]
    claims = _unbound_claims(children, pods, moment)
    moment = replace(moment, claims={name: moment.events.get(uid, "") for name, uid in claims.items()})
    jobs = tuple(read_job(item, pods, moment) for item in children if item["kind"] == "Job")
    deployments = [item for item in children if item["kind"] == "Deployment"]
    deployment = read_deployment(deployments[0], pods, moment) if deployments else None
    waiting: list[JobState | DeploymentState] = [*jobs, *([deployment] if deployment else [])]
    return Observed(
        objects={(item["kind"], item["metadata"]["name"]): item for item in children},
        jobs=jobs,
        deployment=deployment,
        autoscalers=read_autoscalers(children),
        templates=_templates(everything, deployments[0]) if deployments else {},
        missing_kinds=missing_kinds,
        asks=frozenset(filter(None, (*(each.asks for each in waiting), *claims.values()))),
        settles=any(each.settles for each in waiting),
    )


def _unbound_claims(children: list[Raw], pods: list[Raw], moment: Moment) -> dict[str, str]:
    """The claims that are not bound while a pod which is not placed has long needed them, as uids by name."""
    late = [pod for pod in pods if moment.is_past(pod["metadata"].get("creationTimestamp"))]
    needed = {name for pod in late for name in pending_claims(pod)}
    return {
        item["metadata"]["name"]: str(item["metadata"].get("uid", ""))
        for item in children
        if item["kind"] == "PersistentVolumeClaim"
        and item["metadata"]["name"] in needed
        and item.get("status", {}).get("phase") == "Pending"
    }


def _templates(objects: Iterable[Raw], deployment: Raw) -> dict[str, Raw]:
    revisions = [item for item in objects if item["kind"] == "ReplicaSet" and is_owned_by(item, deployment)]
    templates = [revision["spec"]["template"] for revision in revisions]
    found = {
        str(template["metadata"].get("annotations", {}).get(names.SERVING_FINGERPRINT, "")): template
        for template in templates
    }
    return {fingerprint: template for fingerprint, template in found.items() if fingerprint}
