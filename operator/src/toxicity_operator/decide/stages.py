"""The ordered table of stages: what each wants to exist, and whether the next one must wait.

Storage, Train, Quantize, Evaluate, Serve, LoadTest. A stage sees the records and the world; it acts on neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from toxicity_api.status import StageRecord
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.chain import JobStage, quantization_image
from toxicity_operator.decide.pinning import wanted_bounds
from toxicity_operator.decide.records import settled, succeeded
from toxicity_operator.decide.situation import Situation, first_replicas
from toxicity_operator.manifests.autoscaler import Bounds, build_autoscaler
from toxicity_operator.manifests.common import Manifest
from toxicity_operator.manifests.evaluation_job import build_evaluation_job
from toxicity_operator.manifests.loadtest_job import build_loadtest_job, build_loadtest_service
from toxicity_operator.manifests.quantization_job import build_quantization_job
from toxicity_operator.manifests.rbac import build_loadtest_access
from toxicity_operator.manifests.serving import (
    build_earlier_deployment,
    build_parked_deployment,
    build_restored_deployment,
    build_service,
    kept_notes,
    with_resources,
)
from toxicity_operator.manifests.storage import build_claim
from toxicity_operator.manifests.training_job import build_training_job
from toxicity_operator.observe.deployment import version_of


@dataclass(frozen=True)
class Step:
    """What a stage wants to exist; the stages after it wait while `waiting_for` says something."""

    wanted: list[Manifest] = field(default_factory=list)
    waiting_for: str | None = None


def _of_job(
    situation: Situation, stage: JobStage, record: StageRecord | None, word: str, build: Callable[[], Manifest]
) -> Step:
    """The step of a stage that is a Job: it is wanted until the stage is settled, and no other pod does its work."""
    if succeeded(record):
        return Step()
    if settled(record):
        return Step(waiting_for=f"a change of the spec: {word} failed")
    pod = situation.observed.pod_in_the_way(stage.component, stage.job_name)
    if pod is not None:
        return Step(waiting_for=f"the end of pod {pod.name}")
    return Step([build()], waiting_for=word)


def _storage(situation: Situation) -> Step:
    claim = build_claim(situation.model)
    return Step([claim] if claim else [])


def _train(situation: Situation) -> Step:
    model, chain, image = situation.model, situation.chain, situation.images.training

    def build() -> Manifest:
        return build_training_job(model, chain.train, image)

    return _of_job(situation, chain.train, situation.records.training, "training", build)


def _quantize(situation: Situation) -> Step:
    chain, image = situation.chain, quantization_image(situation.model.spec, situation.images)
    stage = chain.quantize
    if situation.verdict.accepted is False:
        return Step(waiting_for=f"a change of the spec: {situation.verdict.message}")
    if stage is None:
        return Step()

    def build() -> Manifest:
        return build_quantization_job(situation.model, stage, chain.train.fingerprint, image)

    return _of_job(situation, stage, situation.records.quantization, "quantization", build)


def _evaluate(situation: Situation) -> Step:
    model, chain, image = situation.model, situation.chain, situation.images.serving
    if situation.verdict.accepted is False:
        return Step(waiting_for=f"a change of the spec: {situation.verdict.message}")

    def build() -> Manifest:
        return build_evaluation_job(model, chain, image)

    return _of_job(situation, chain.evaluate, situation.records.evaluation, "evaluation", build)


def _serve(situation: Situation) -> Step:
    model, fresh = situation.model, situation.fresh
    if fresh is None:
        return Step(waiting_for=situation.verdict.message)
    wanted = [_version(situation, fresh), build_service(model), *_autoscaler(situation)]
    # what is asked by the Service's name must be ours: a load test would else be sent to somebody else's
    has_service = situation.observed.has("Service", names.serving_name(model.name))
    return Step(wanted, waiting_for=None if situation.serves_current and has_service else "ready replicas")


def _standby(situation: Situation) -> list[Manifest]:
    """What serves while a stage before serving is in turn, has failed or was refused, which may be for good.

    It has the replicas, the resources, the autoscaler and the Service of the spec; it makes room for a stage, and comes
    back; and a version that did not become ready gives way to the last good one.
    """
    model, observed = situation.model, situation.observed
    live = observed.objects.get(("Deployment", names.serving_name(model.name)))
    if live is None or observed.deployment is None:
        return []
    if situation.handed_to is not None:
        template, job = _deployed_template(situation, live), situation.handed_to.job_name
        return [build_parked_deployment(model, dict(live), dict(template), job), build_service(model)]
    good, stalled = observed.templates.get(situation.good_version or ""), situation.stalled_version
    replicas = first_replicas(situation)
    if good and stalled:
        deployment = build_restored_deployment(model, dict(good), stalled.fingerprint, stalled.message, replicas)
    else:
        template = good if good and observed.deployment.handed_to else _deployed_template(situation, live)
        deployment = build_earlier_deployment(
            model, _resized(situation, template), kept_notes(dict(live)), replicas
        )
    # the autoscaler first: after the Deployment nothing would tell that it is still to be made
    return [*_autoscaler(situation), deployment, build_service(model)]


def _deployed_template(situation: Situation, live: Raw) -> Raw:
    """The pod template of what is deployed, without edits by hand where its revision is still there."""
    deployment = situation.observed.deployment
    template: Raw = live["spec"]["template"]
    return situation.observed.templates.get(deployment.version, template) if deployment else template


def _resized(situation: Situation, template: Raw) -> Manifest:
    """The pod template with the resources that the spec has for serving, unless it has failed with them."""
    resized = with_resources(dict(template), situation.model.spec.serving)
    has_failed = situation.failure_of(version_of(resized["metadata"]["annotations"])) is not None
    return dict(template) if has_failed else resized


def _autoscaler(situation: Situation) -> list[Manifest]:
    autoscaler = build_autoscaler(situation.model, _bounds(situation))
    if autoscaler is None or autoscaler["kind"] in situation.observed.missing_kinds:
        return []
    return [autoscaler]


def _bounds(situation: Situation) -> Bounds | None:
    """What the autoscaler may choose between now: fewer replicas than the spec allows while a load test pins them."""
    scaling, chain, observed = situation.model.spec.serving.autoscaling, situation.chain, situation.observed
    if scaling is None:
        return None
    is_on = chain.loadtest is not None and not settled(situation.records.load_test) and situation.serves_current
    replicas = observed.deployment.replicas if observed.deployment else None
    return wanted_bounds(scaling, situation.model.spec.load_test, is_on, replicas)


def _version(situation: Situation, fresh: Manifest) -> Manifest:
    """The Deployment of the version that is to serve, or of the last good one where that has failed."""
    model, observed, replicas = situation.model, situation.observed, first_replicas(situation)
    failure, good = situation.failed_version, observed.templates.get(situation.good_version or "")
    if failure and good:
        return build_restored_deployment(model, dict(good), failure.fingerprint, failure.message, replicas)
    live = observed.objects.get(("Deployment", names.serving_name(model.name)))
    if live is None or situation.version == version_of(fresh["metadata"]["annotations"]):
        return fresh
    return build_earlier_deployment(
        model, dict(_deployed_template(situation, live)), kept_notes(dict(live)), replicas
    )


def _loadtest(situation: Situation) -> Step:
    model, chain, image = situation.model, situation.chain, situation.images.loadtest
    stage = chain.loadtest
    if stage is None:
        return Step()

    def build() -> Manifest:
        return build_loadtest_job(model, stage, chain.train.fingerprint, image, chain.serving_fingerprint)

    record = situation.records.load_test
    if record is None and not situation.serves_with_all:
        return Step(waiting_for="all replicas to be ready")
    step = _of_job(situation, stage, record, "load test", build)
    service = build_loadtest_service(model)
    return Step([*build_loadtest_access(model), *([service] if service else []), *step.wanted], step.waiting_for)


STAGES: tuple[Callable[[Situation], Step], ...] = (_storage, _train, _quantize, _evaluate, _serve, _loadtest)


def walk(situation: Situation) -> Step:
    """All that the stages want, up to and with the first one that the rest must wait for, and what serves meanwhile."""
    wanted: list[Manifest] = []
    waiting_for = None
    for stage in STAGES:
        step = stage(situation)
        wanted += step.wanted
        waiting_for = step.waiting_for
        if waiting_for:
            break
    if not any(body["kind"] == "Deployment" for body in wanted):
        wanted += _standby(situation)
    return Step(wanted, waiting_for)
