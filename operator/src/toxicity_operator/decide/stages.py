"""The ordered stages: which objects each one needs, and whether the next one must wait. Pure.

The order is storage, train, quantize, evaluate, serve, load test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from toxicity_api.spec import LoadTestSpec
from toxicity_api.spec.serving import Autoscaling
from toxicity_api.status import StageRecord
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.chain import JobStage, quantization_image
from toxicity_operator.decide.records import finished, succeeded
from toxicity_operator.decide.rollout import Failure
from toxicity_operator.decide.snapshot import Snapshot, first_replicas
from toxicity_operator.manifests.autoscaler import Bounds, build_autoscaler
from toxicity_operator.manifests.common import Manifest
from toxicity_operator.manifests.evaluation_job import build_evaluation_job
from toxicity_operator.manifests.expose import build_route
from toxicity_operator.manifests.loadtest_job import build_loadtest_job, build_loadtest_service
from toxicity_operator.manifests.quantization_job import build_quantization_job
from toxicity_operator.manifests.rbac import build_loadtest_access
from toxicity_operator.manifests.serving import (
    build_disruption_budget,
    build_earlier_deployment,
    build_parked_deployment,
    build_service,
    failure_notes,
    kept_notes,
    with_resources,
)
from toxicity_operator.manifests.storage import build_claim
from toxicity_operator.manifests.training_job import build_training_job
from toxicity_operator.model import Model
from toxicity_operator.observe.deployment import version_of


@dataclass(frozen=True)
class Step:
    """The objects that a stage needs. Later stages wait while `waiting_for` is not None."""

    wanted: list[Manifest] = field(default_factory=list)
    waiting_for: str | None = None


def _of_job(
    snapshot: Snapshot, stage: JobStage, record: StageRecord | None, word: str, build: Callable[[], Manifest]
) -> Step:
    """The step of a stage that runs as a Job: the Job, unless the stage is finished or another pod blocks it."""
    if succeeded(record):
        return Step()
    if finished(record):
        return Step(waiting_for=f"a change of the spec, since {word} failed")
    pod = snapshot.observed.blocking_pod(stage.component, stage.job_name)
    if pod is not None:
        return Step(waiting_for=f"the end of pod {pod.name}")
    return Step([build()], waiting_for=word)


def _storage(snapshot: Snapshot) -> Step:
    claim = build_claim(snapshot.model)
    return Step([claim] if claim else [])


def _train(snapshot: Snapshot) -> Step:
    model, chain, image = snapshot.complete_model, snapshot.chain, snapshot.images.training

    def build() -> Manifest:
        return build_training_job(model, chain.train, image, snapshot.retention)

    return _of_job(snapshot, chain.train, snapshot.records.training, "training", build)


def _quantize(snapshot: Snapshot) -> Step:
    chain, image = snapshot.chain, quantization_image(snapshot.model.spec, snapshot.images)
    stage = chain.quantize
    if snapshot.verdict.accepted is False:
        return Step(waiting_for=f"a change of the spec: {snapshot.verdict.message}")
    if stage is None:
        return Step()
    if not image and not finished(snapshot.records.quantization):
        return Step(waiting_for="an image for quantization")

    def build() -> Manifest:
        return build_quantization_job(
            snapshot.complete_model, stage, chain.train.fingerprint, image, snapshot.retention
        )

    return _of_job(snapshot, stage, snapshot.records.quantization, "quantization", build)


def _evaluate(snapshot: Snapshot) -> Step:
    model, chain, image = snapshot.complete_model, snapshot.chain, snapshot.images.serving
    if snapshot.verdict.accepted is False:
        return Step(waiting_for=f"a change of the spec: {snapshot.verdict.message}")

    def build() -> Manifest:
        return build_evaluation_job(model, chain, image, snapshot.images.training, snapshot.retention)

    return _of_job(snapshot, chain.evaluate, snapshot.records.evaluation, "evaluation", build)


def _serve(snapshot: Snapshot) -> Step:
    model, desired_deployment = snapshot.complete_model, snapshot.desired_deployment
    if desired_deployment is None:
        return Step(waiting_for=snapshot.verdict.message)
    wanted = [_version(snapshot, desired_deployment), *_autoscaler(snapshot), *_beside_deployment(model)]
    # without its own Service a load test would send requests to a foreign Service of that name
    has_service = snapshot.observed.has("Service", names.serving_name(model.name))
    return Step(wanted, waiting_for=None if snapshot.serves_current and has_service else "ready replicas")


def _current_deployment(snapshot: Snapshot) -> list[Manifest]:
    """The objects of the deployed version while a stage before serving is running, has failed or was refused.

    The version follows the replicas, resources and autoscaler of the spec. It is scaled to 0 for a stage that needs its
    GPU, and replaced by the last good version if it does not become ready.
    """
    model, observed = snapshot.complete_model, snapshot.observed
    live = observed.objects.get(("Deployment", names.serving_name(model.name)))
    if live is None or observed.deployment is None:
        return []
    if snapshot.handed_to is not None:
        template, job = _deployed_template(snapshot, live), snapshot.handed_to.job_name
        return [build_parked_deployment(model, dict(live), dict(template), job), *_beside_deployment(model)]
    good, stalled = observed.templates.get(snapshot.good_version or ""), snapshot.stalled_version
    replicas = first_replicas(snapshot)
    if good and stalled:
        deployment = build_earlier_deployment(model, dict(good), _notes(stalled), replicas)
    else:
        template = good if good and observed.deployment.handed_to else _deployed_template(snapshot, live)
        deployment = build_earlier_deployment(
            model, _resized(snapshot, template), kept_notes(dict(live)), replicas
        )
    # the autoscaler first: once the Deployment is applied, nothing shows that its autoscaler is missing
    return [*_autoscaler(snapshot), deployment, *_beside_deployment(model)]


def _notes(failure: Failure) -> dict[str, str]:
    return failure_notes(failure.fingerprint, failure.message, failure.run)


def _beside_deployment(model: Model) -> list[Manifest]:
    """The objects that every Deployment has."""
    return [build_service(model), build_disruption_budget(model)]


def _route(snapshot: Snapshot) -> list[Manifest]:
    """The route from outside the cluster. An existing one is left out if its Service is gone, and is then deleted.

    A missing one needs no Service in the snapshot: this pass creates the Service first, and ends if it cannot.
    """
    route, observed = build_route(snapshot.model), snapshot.observed
    if route is None or route["kind"] in observed.missing_kinds:
        return []
    name = route["metadata"]["name"]
    return [] if observed.has(route["kind"], name) and not observed.has("Service", name) else [route]


def _deployed_template(snapshot: Snapshot, live: Raw) -> Raw:
    """The deployed pod template, without manual edits if its ReplicaSet still exists."""
    deployment = snapshot.observed.deployment
    template: Raw = live["spec"]["template"]
    return snapshot.observed.templates.get(deployment.version, template) if deployment else template


def _resized(snapshot: Snapshot, template: Raw) -> Manifest:
    """The pod template with `serving.resources` of the spec, unless it has already failed with them."""
    resized = with_resources(dict(template), snapshot.complete_model.spec.serving)
    has_failed = snapshot.failure_of(version_of(resized["metadata"]["annotations"])) is not None
    return dict(template) if has_failed else resized


def _autoscaler(snapshot: Snapshot) -> list[Manifest]:
    autoscaler = build_autoscaler(snapshot.model, _bounds(snapshot))
    if autoscaler is None or autoscaler["kind"] in snapshot.observed.missing_kinds:
        return []
    return [autoscaler]


def _bounds(snapshot: Snapshot) -> Bounds | None:
    """The current bounds of the autoscaler; None without autoscaling."""
    scaling, chain, observed = snapshot.model.spec.serving.autoscaling, snapshot.chain, snapshot.observed
    if scaling is None:
        return None
    is_on = chain.loadtest is not None and not finished(snapshot.records.load_test) and snapshot.serves_current
    replicas = observed.deployment.replicas if observed.deployment else None
    return autoscaler_bounds(scaling, snapshot.model.spec.load_test, is_on, replicas)


def autoscaler_bounds(
    autoscaling: Autoscaling, load_test: LoadTestSpec, is_test_active: bool, replicas: int | None
) -> Bounds:
    """The autoscaler's minimum and maximum: those of the spec, or the current number of replicas during a load test.

    `loadTest.pinReplicas` fixes the replicas, because a test during which the service scales measures two services.
    Only the bounds are changed, which KEDA passes on to its HorizontalPodAutoscaler. KEDA's own pause would delete that
    object and its `ScalingActive` condition. The pin is not stored: it follows from an active load test, so the next
    pass releases it however the test ends.

    `is_test_active`: the load test is due or running. `replicas` is the current number, None if unknown; it is clamped
    to the spec's bounds. Without replicas the spec's bounds apply.
    """
    of_spec = Bounds(autoscaling.min_replicas, autoscaling.max_replicas)
    if not (load_test.pin_replicas and is_test_active and replicas):
        return of_spec
    pinned = min(max(replicas, of_spec.lowest), of_spec.highest)
    return Bounds(pinned, pinned)


def _version(snapshot: Snapshot, desired_deployment: Manifest) -> Manifest:
    """The Deployment of the version that should serve, or of the last good version if that one has failed."""
    model, observed, replicas = snapshot.complete_model, snapshot.observed, first_replicas(snapshot)
    if snapshot.regression:
        previous = observed.templates[snapshot.previous_version or ""]
        return build_earlier_deployment(model, dict(previous), _notes(snapshot.regression), replicas)
    failure, good = snapshot.failed_version, observed.templates.get(snapshot.good_version or "")
    if failure and good:
        return build_earlier_deployment(model, dict(good), _notes(failure), replicas)
    live = observed.objects.get(("Deployment", names.serving_name(model.name)))
    if live is None or snapshot.version == version_of(desired_deployment["metadata"]["annotations"]):
        return desired_deployment
    return build_earlier_deployment(
        model, dict(_deployed_template(snapshot, live)), kept_notes(dict(live)), replicas
    )


def _loadtest(snapshot: Snapshot) -> Step:
    model, chain, image = snapshot.complete_model, snapshot.chain, snapshot.images.loadtest
    stage = chain.loadtest
    if stage is None:
        return Step()

    def build() -> Manifest:
        return build_loadtest_job(model, stage, chain.train.fingerprint, image, chain.serving_fingerprint)

    record = snapshot.records.load_test
    if record is None and not snapshot.serves_with_all:
        return Step(waiting_for="all replicas to be ready")
    step = _of_job(snapshot, stage, record, "load test", build)
    service = build_loadtest_service(model)
    return Step([*build_loadtest_access(model), *([service] if service else []), *step.wanted], step.waiting_for)


STAGES: tuple[Callable[[Snapshot], Step], ...] = (_storage, _train, _quantize, _evaluate, _serve, _loadtest)


def walk(snapshot: Snapshot) -> Step:
    """The objects of all stages up to the first one that is not finished, and of the version that serves meanwhile."""
    wanted: list[Manifest] = []
    waiting_for = None
    for stage in STAGES:
        step = stage(snapshot)
        wanted += step.wanted
        waiting_for = step.waiting_for
        if waiting_for:
            break
    if not any(body["kind"] == "Deployment" for body in wanted):
        wanted += _current_deployment(snapshot)
    if any(body["kind"] == "Deployment" for body in wanted):
        wanted += _route(snapshot)  # last, so that a refused route blocks nothing
    return Step(wanted, waiting_for)
