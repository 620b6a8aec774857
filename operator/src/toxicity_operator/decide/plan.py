"""Decides what to write and what to delete, from the spec, the records and the world as it was seen. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.decide.records import finished, stale_jobs
from toxicity_operator.decide.snapshot import Snapshot
from toxicity_operator.decide.stages import walk
from toxicity_operator.manifests.autoscaler import SCALERS
from toxicity_operator.manifests.common import Manifest, of_existing, seal
from toxicity_operator.manifests.loadtest_job import build_loadtest_service
from toxicity_operator.observe.drift import WRITE_ONCE, first_drift
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
    """In order: orphans are taken over, numbers are held, then deletes, then applies.

    `take_over` are objects that an earlier resource of the name left; `hold` are numbers of replicas which the applies
    give up, for whoever asks for them next.
    """

    take_over: tuple[Raw, ...] = ()
    hold: tuple[Manifest, ...] = ()
    apply: tuple[Manifest, ...] = ()
    delete: tuple[Target, ...] = ()


def plan(snapshot: Snapshot) -> Plan:
    """What is missing or out of date, and what is in the way. Empty when the world is as wanted, and while paused."""
    if snapshot.model.spec.paused:
        return Plan()
    step = walk(snapshot)
    sealed = (seal(body) for body in step.wanted)
    due = tuple(body for body in sealed if _is_due(body, snapshot.observed))
    held = tuple(filter(None, (_held_replicas(body, snapshot.observed) for body in due)))
    return Plan(tuple(_orphans(snapshot)), held, due, tuple(_obsolete(snapshot)))


def _orphans(snapshot: Snapshot) -> list[Raw]:
    """Children without a controller, but for a claim that is to outlive the resource, or that is not its storage."""
    storage = snapshot.model.spec.storage
    is_left = storage.reclaim == "Retain" or storage.claim_name is not None
    kept = ("PersistentVolumeClaim", names.claim_name(snapshot.model.name)) if is_left else None
    objects = snapshot.observed.objects.items()
    return [item for key, item in objects if key != kept and controller_of(item) is None]


def _held_replicas(body: Manifest, observed: Observed) -> Manifest | None:
    """The live number of replicas of a Deployment that is to be applied without one, for the autoscaler to begin with.

    The API server would set a field that its last manager gives up to its default, one replica.
    """
    live = observed.objects.get((body["kind"], body["metadata"]["name"]))
    if body["kind"] != "Deployment" or "replicas" in body["spec"] or live is None:
        return None
    replicas = live["spec"].get("replicas", 0)
    if replicas == 0:
        return None  # no autoscaler looks at it then
    return {**of_existing(body, live), "spec": {"replicas": replicas}}


def _is_due(body: Manifest, observed: Observed) -> bool:
    kind, name = body["kind"], body["metadata"]["name"]
    live = observed.objects.get((kind, name))
    if kind in WRITE_ONCE:
        return live is None
    if live is None:
        return True
    if kind == "Deployment" and _is_of_earlier_operator(live):
        body = _unsealed(body)
    # the hash stands in an annotation, and so is compared as well: what a manifest no longer has is a change too
    return first_drift(body, live) is not None


def _is_of_earlier_operator(live: Raw) -> bool:
    """Whether it was made before operators named versions, and hashed otherwise: writing the hash alone would make the
    Deployment seem to roll out for a moment.
    """
    return names.VERSION not in live["metadata"].get("annotations", {})


def _unsealed(body: Manifest) -> Manifest:
    annotations = {
        key: value for key, value in body["metadata"]["annotations"].items() if key != names.APPLIED_HASH
    }
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def _obsolete(snapshot: Snapshot) -> list[Target]:
    """Jobs that run for nothing (an earlier spec, a refused model), and what else nobody asks for.

    Finished Jobs have their TTL, but for those in whose place one is to be made.
    """
    chain = snapshot.chain
    wanted = chain.job_names()
    if snapshot.verdict.accepted is False:
        wanted -= {stage.job_name for stage in (chain.quantize, chain.evaluate) if stage}
    running = [job.name for job in snapshot.observed.jobs if job.outcome == "Running" and job.name not in wanted]
    stale = stale_jobs(chain, snapshot.records, snapshot.observed)
    jobs = dict.fromkeys((*running, *stale, *_held_by_sidecar(snapshot)))
    unwanted = [("batch/v1", "Job", name) for name in jobs]
    unwanted += _obsolete_autoscalers(snapshot) + _obsolete_access(snapshot)
    live = snapshot.observed.objects
    return [
        Target(api_version, kind, name, live[kind, name]["metadata"]["uid"])
        for api_version, kind, name in unwanted
        if (kind, name) in live
    ]


def _held_by_sidecar(snapshot: Snapshot) -> list[str]:
    """Jobs whose stage has ended and which another container of the pod would keep running, with its CPU and GPU.

    One that the spec asks for goes once the status that is stored has its end, and so nothing of it can be lost.
    """
    status = snapshot.model.status
    records = (status.training, status.quantization, status.evaluation, status.load_test_job)
    recorded = {record.job_name for record in records if finished(record) and record is not None}
    unread = snapshot.chain.job_names() - recorded
    return [job.name for job in snapshot.observed.jobs if job.held_by_sidecar and job.name not in unread]


def _obsolete_access(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """What a load test left that the spec has no more: the binding first, since it names the others."""
    model, chain = snapshot.model, snapshot.chain
    account, service = names.loadtest_account_name(model.name), names.loadtest_service_name(model.name)
    group = "rbac.authorization.k8s.io/v1"
    access = [(group, "RoleBinding", account), (group, "Role", account), ("v1", "ServiceAccount", account)]
    unwanted = access if chain.loadtest is None else []
    if chain.loadtest is None or build_loadtest_service(model) is None:
        unwanted = [*unwanted, ("v1", "Service", service)]
    return unwanted


def _obsolete_autoscalers(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Those by another metric than the spec's: two of them would undo each other's replicas.

    And KEDA's while the GPU is handed over: it would scale from 0 to its minimum at once.
    """
    scaling, name = snapshot.model.spec.serving.autoscaling, names.serving_name(snapshot.model.name)
    if snapshot.observed.deployment is None:
        scaling = None  # it goes by the name alone, and would scale somebody else's Deployment of that name
    if snapshot.handed_to is not None:
        scaling = None if scaling and scaling.metric == "inFlight" else scaling
    return [
        (api_version, kind, name)
        for metric, (api_version, kind) in SCALERS.items()
        if scaling is None or scaling.metric != metric
    ]
