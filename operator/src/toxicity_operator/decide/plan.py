"""Decides which objects to write and which to delete. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.decide.records import finished, stale_jobs
from toxicity_operator.decide.snapshot import Snapshot
from toxicity_operator.decide.stages import walk
from toxicity_operator.manifests.autoscaler import SCALERS
from toxicity_operator.manifests.common import Manifest, of_existing, seal
from toxicity_operator.manifests.expose import ROUTES, route_kind
from toxicity_operator.manifests.loadtest_job import build_loadtest_service
from toxicity_operator.observe.drift import CLAIM, WRITE_ONCE, can_grow, first_drift
from toxicity_operator.observe.ownership import controller_of
from toxicity_operator.observe.state import Observed


@dataclass(frozen=True)
class Target:
    """One object to delete."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class Plan:
    """The writes of one pass, executed in the order take_over, hold, delete, apply.

    `take_over`: objects left by an earlier resource of the same name. `hold`: the current `replicas` of a Deployment
    whose next apply omits the field, kept under a second field manager until an autoscaler sets it.
    """

    take_over: tuple[Raw, ...] = ()
    hold: tuple[Manifest, ...] = ()
    apply: tuple[Manifest, ...] = ()
    delete: tuple[Target, ...] = ()


def plan(snapshot: Snapshot) -> Plan:
    """The plan for missing, changed and obsolete objects. Empty if nothing differs, or if the resource is paused."""
    if snapshot.model.spec.paused:
        return Plan()
    step = walk(snapshot)
    sealed = (seal(body) for body in step.wanted)
    due = [body for body in sealed if _is_due(body, snapshot.observed)]
    # a claim grows last, since its storage class may not allow that
    due.sort(key=lambda body: body["kind"] == CLAIM and snapshot.observed.has(CLAIM, body["metadata"]["name"]))
    held = tuple(filter(None, (_held_replicas(body, snapshot.observed) for body in due)))
    return Plan(tuple(_orphans(snapshot)), held, tuple(due), tuple(_obsolete(snapshot)))


def _orphans(snapshot: Snapshot) -> list[Raw]:
    """Children without a controller, except a claim that must outlive the resource or is not its storage."""
    storage = snapshot.model.spec.storage
    is_left = storage.reclaim == "Retain" or not storage.makes_claim
    kept = ("PersistentVolumeClaim", names.claim_name(snapshot.model.name)) if is_left else None
    objects = snapshot.observed.objects.items()
    return [item for key, item in objects if key != kept and controller_of(item) is None]


def _held_replicas(body: Manifest, observed: Observed) -> Manifest | None:
    """The current `replicas` of a Deployment whose manifest omits the field, as the autoscaler's starting point.

    When the last field manager drops a field, the API server resets it to its default, which is one replica.
    """
    live = observed.objects.get((body["kind"], body["metadata"]["name"]))
    if body["kind"] != "Deployment" or "replicas" in body["spec"] or live is None:
        return None
    replicas = live["spec"].get("replicas", 0)
    if replicas == 0:
        return None  # autoscalers ignore a Deployment with 0 replicas
    return {**of_existing(body, live), "spec": {"replicas": replicas}}


def _is_due(body: Manifest, observed: Observed) -> bool:
    kind, name = body["kind"], body["metadata"]["name"]
    live = observed.objects.get((kind, name))
    if live is None:
        return True
    if kind in WRITE_ONCE:
        return kind == CLAIM and can_grow(body, live)
    if kind == "Deployment" and _is_of_earlier_operator(live):
        body = _unsealed(body)
    # the applied-hash annotation is compared too, so a field that the manifest no longer has counts as a change
    return first_drift(body, live) is not None


def _is_of_earlier_operator(live: Raw) -> bool:
    """Whether an operator that predates the version annotation made the Deployment.

    Its hash was computed differently. Writing only the new hash would make the Deployment look as if it rolled out.
    """
    return names.VERSION not in live["metadata"].get("annotations", {})


def _unsealed(body: Manifest) -> Manifest:
    annotations = {
        key: value for key, value in body["metadata"]["annotations"].items() if key != names.APPLIED_HASH
    }
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def _obsolete(snapshot: Snapshot) -> list[Target]:
    """Objects that the spec no longer needs: Jobs of an earlier spec or of a refused model, autoscalers, routes,
    RBAC.

    Finished Jobs are left to their TTL, except those whose name is needed for a new Job.
    """
    chain = snapshot.chain
    wanted = chain.job_names()
    if snapshot.verdict.accepted is False:
        wanted -= {stage.job_name for stage in (chain.quantize, chain.evaluate) if stage}
    running = [job.name for job in snapshot.observed.jobs if job.outcome == "Running" and job.name not in wanted]
    stale = stale_jobs(chain, snapshot.records, snapshot.observed)
    jobs = dict.fromkeys((*running, *stale, *_held_by_sidecar(snapshot)))
    unwanted = [("batch/v1", "Job", name) for name in jobs]
    unwanted += _obsolete_autoscalers(snapshot) + _obsolete_routes(snapshot) + _obsolete_access(snapshot)
    live = snapshot.observed.objects
    return [
        Target(api_version, kind, name, live[kind, name]["metadata"]["uid"])
        for api_version, kind, name in unwanted
        if (kind, name) in live
    ]


def _held_by_sidecar(snapshot: Snapshot) -> list[str]:
    """Jobs whose stage container has terminated while a sidecar keeps the pod, and its CPU and GPU, in use.

    A Job of the current spec is deleted only after the stored status contains its result.
    """
    status = snapshot.model.status
    records = (status.training, status.quantization, status.evaluation, status.load_test_job)
    recorded = {record.job_name for record in records if finished(record)}
    unread = snapshot.chain.job_names() - recorded
    return [job.name for job in snapshot.observed.jobs if job.held_by_sidecar and job.name not in unread]


def _obsolete_access(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """The RBAC objects and the Service of a load test that the spec no longer has. The binding refers to the others."""
    model, chain = snapshot.model, snapshot.chain
    account, service = names.loadtest_account_name(model.name), names.loadtest_service_name(model.name)
    group = "rbac.authorization.k8s.io/v1"
    access = [(group, "RoleBinding", account), (group, "Role", account), ("v1", "ServiceAccount", account)]
    unwanted = access if chain.loadtest is None else []
    if chain.loadtest is None or build_loadtest_service(model) is None:
        unwanted = [*unwanted, ("v1", "Service", service)]
    return unwanted


def _obsolete_autoscalers(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Autoscalers of another metric than the spec's, since two of them would fight over `replicas`.

    KEDA's ScaledObject is also deleted while a stage uses the GPU, because it would scale from 0 to its minimum.
    """
    scaling, name = snapshot.model.spec.serving.autoscaling, names.serving_name(snapshot.model.name)
    if snapshot.observed.deployment is None:
        scaling = None  # it targets a name, and would scale a foreign Deployment of that name
    if snapshot.handed_to is not None:
        scaling = None if scaling and scaling.metric == "inFlight" else scaling
    return [
        (api_version, kind, name)
        for metric, (api_version, kind) in SCALERS.items()
        if scaling is None or scaling.metric != metric
    ]


def _obsolete_routes(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Routes of another kind than the spec's, and all routes without the Service, since they refer to it by name.

    They would expose a foreign Service of that name.
    """
    expose, name = snapshot.model.spec.serving.expose, names.serving_name(snapshot.model.name)
    wanted = route_kind(expose) if expose and snapshot.observed.has("Service", name) else None
    return [(api_version, kind, name) for kind, api_version in ROUTES.items() if kind != wanted]
