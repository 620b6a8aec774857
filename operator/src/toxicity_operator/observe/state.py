"""Builds the frozen view of a resource's children from raw objects. `decide` sees only this view. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.observe.autoscaler import AutoscalerState, read_autoscalers
from toxicity_operator.observe.deployment import DeploymentState, read_deployment, version_of
from toxicity_operator.observe.exposure import RouteState, read_routes
from toxicity_operator.observe.jobs import JobState, read_job
from toxicity_operator.observe.objects import NO_CONTEXT, ReadContext, has_ended, is_owned_by, label
from toxicity_operator.observe.ownership import GRANDCHILDREN, controller_of
from toxicity_operator.observe.pods import pending_claims


@dataclass(frozen=True)
class StagePod:
    """A pod of a stage Job that has not terminated. `is_deleted`: it has a deletionTimestamp."""

    name: str
    job_uid: str
    is_deleted: bool


@dataclass(frozen=True)
class Observed:
    """Everything that exists for one resource."""

    objects: Mapping[tuple[str, str], Raw]
    jobs: tuple[JobState, ...]
    deployment: DeploymentState | None
    autoscalers: Mapping[str, AutoscalerState] = field(default_factory=dict)
    """By kind. There is more than one only while the spec changes its metric."""

    routes: Mapping[str, RouteState] = field(default_factory=dict)
    """Ingress and HTTPRoute by kind. There is more than one only while the spec changes its kind."""

    templates: Mapping[str, Raw] = field(default_factory=dict)
    """Pod templates of the Deployment's revisions by version, without manual edits."""

    missing_kinds: frozenset[str] = frozenset()
    """Optional kinds that the API server does not serve."""

    running_pods: Mapping[str, tuple[StagePod, ...]] = field(default_factory=dict)
    """Pods of stage Jobs that have not terminated, by component, including pods of deleted Jobs."""

    events_uids: frozenset[str] = frozenset()
    """Uids of the objects whose Events are needed to explain their state."""

    is_settling: bool = False
    """Whether an object is too new to tell what it waits for, so that another pass soon may find more."""

    def blocking_pod(self, component: str, job_name: str) -> StagePod | None:
        """A running pod of another Job of the stage, which writes the same files as the Job of this name."""
        job = self.objects.get(("Job", job_name))
        uid = job["metadata"]["uid"] if job else None
        return next((pod for pod in self.running_pods.get(component, ()) if pod.job_uid != uid), None)

    def has(self, kind: str, name: str) -> bool:
        """Whether the child exists."""
        return (kind, name) in self.objects

    @cached_property
    def jobs_by_name(self) -> Mapping[str, JobState]:
        return {job.name: job for job in self.jobs}


def from_objects(
    objects: Iterable[Raw], missing_kinds: frozenset[str] = frozenset(), context: ReadContext = NO_CONTEXT
) -> Observed:
    """The view of raw objects of all kinds, each with its `kind`."""
    everything = list(objects)
    pods = [item for item in everything if item["kind"] == "Pod"]
    children = [item for item in everything if item["kind"] not in GRANDCHILDREN]
    claims = _unbound_claims(children, pods, context)
    context = replace(context, claims={name: context.events.get(uid, "") for name, uid in claims.items()})
    jobs = tuple(read_job(item, pods, context) for item in children if item["kind"] == "Job")
    deployments = [item for item in children if item["kind"] == "Deployment"]
    deployment = read_deployment(deployments[0], pods, context) if deployments else None
    waiting: list[JobState | DeploymentState] = [*jobs, *([deployment] if deployment else [])]
    return Observed(
        objects={(item["kind"], item["metadata"]["name"]): item for item in children},
        jobs=jobs,
        deployment=deployment,
        autoscalers=read_autoscalers(children),
        routes=read_routes(children),
        templates=_templates(everything, deployments[0]) if deployments else {},
        missing_kinds=missing_kinds,
        running_pods=_running_pods(everything),
        events_uids=frozenset(filter(None, (*(each.events_uid for each in waiting), *claims.values()))),
        is_settling=any(each.is_settling for each in waiting),
    )


def _unbound_claims(children: list[Raw], pods: list[Raw], context: ReadContext) -> dict[str, str]:
    """Unbound claims that an unscheduled pod has needed for PATIENCE_SECONDS: uids by name."""
    late = [pod for pod in pods if context.has_elapsed(pod["metadata"].get("creationTimestamp"))]
    needed = {name for pod in late for name in pending_claims(pod)}
    return {
        item["metadata"]["name"]: str(item["metadata"].get("uid", ""))
        for item in children
        if item["kind"] == "PersistentVolumeClaim"
        and item["metadata"]["name"] in needed
        and item.get("status", {}).get("phase") == "Pending"
    }


def _templates(objects: Iterable[Raw], deployment: Raw) -> dict[str, Raw]:
    """The pod template by version, without manual edits.

    A manual edit makes another revision with the same annotations, so the oldest revision of a version counts.
    Operators that predate the version annotation made several templates with the same annotations; of these the
    newest counts. Until the Deployment's revision exists, its own template counts.
    """
    revisions = [item for item in objects if item["kind"] == "ReplicaSet" and is_owned_by(item, deployment)]
    revisions.sort(key=lambda item: str(item["metadata"].get("creationTimestamp", "")))
    found: dict[str, Raw] = {}
    for revision in revisions:
        template = revision["spec"]["template"]
        annotations = template["metadata"].get("annotations", {})
        if names.VERSION not in annotations or version_of(annotations) not in found:
            found[version_of(annotations)] = template
    found.setdefault(version_of(deployment["metadata"].get("annotations", {})), deployment["spec"]["template"])
    return {version: template for version, template in found.items() if version}


def _running_pods(objects: Iterable[Raw]) -> dict[str, tuple[StagePod, ...]]:
    """The pods of stage Jobs that have not terminated, by component."""
    found: dict[str, tuple[StagePod, ...]] = {}
    for item in objects:
        controller = controller_of(item)
        if item["kind"] != "Pod" or has_ended(item) or controller is None or controller["kind"] != "Job":
            continue
        pod = StagePod(item["metadata"]["name"], str(controller["uid"]), "deletionTimestamp" in item["metadata"])
        component = label(item, names.COMPONENT_LABEL)
        found[component] = (*found.get(component, ()), pod)
    return found
