"""A frozen view of a resource's children, read from raw objects once; the deciding code sees only this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.observe.autoscaler import AutoscalerState, read_autoscalers
from toxicity_operator.observe.deployment import DeploymentState, read_deployment
from toxicity_operator.observe.jobs import JobState, read_job
from toxicity_operator.observe.objects import is_owned_by
from toxicity_operator.observe.ownership import GRANDCHILDREN


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

    def has(self, kind: str, name: str) -> bool:
        """Whether the child exists."""
        return (kind, name) in self.objects

    @cached_property
    def jobs_by_name(self) -> Mapping[str, JobState]:
        return {job.name: job for job in self.jobs}


def from_objects(objects: Iterable[Raw], missing_kinds: frozenset[str] = frozenset()) -> Observed:
    """The view of raw objects (Jobs, the Deployment, their pods and revisions, the rest), each with its `kind`."""
    everything = list(objects)
    pods = [item for item in everything if item["kind"] == "Pod"]
    children = [item for item in everything if item["kind"] not in GRANDCHILDREN]
    jobs = tuple(read_job(item, pods) for item in children if item["kind"] == "Job")
    deployments = [item for item in children if item["kind"] == "Deployment"]
    return Observed(
        objects={(item["kind"], item["metadata"]["name"]): item for item in children},
        jobs=jobs,
        deployment=read_deployment(deployments[0], pods) if deployments else None,
        autoscalers=read_autoscalers(children),
        templates=_templates(everything, deployments[0]) if deployments else {},
        missing_kinds=missing_kinds,
    )


def _templates(objects: Iterable[Raw], deployment: Raw) -> dict[str, Raw]:
    revisions = [item for item in objects if item["kind"] == "ReplicaSet" and is_owned_by(item, deployment)]
    templates = [revision["spec"]["template"] for revision in revisions]
    found = {
        str(template["metadata"].get("annotations", {}).get(names.SERVING_FINGERPRINT, "")): template
        for template in templates
    }
    return {fingerprint: template for fingerprint, template in found.items() if fingerprint}
