"""The ordered table of stages: what each wants to exist, and whether the next one must wait.

Storage, Train, Quantize, Evaluate, Serve, LoadTest. A stage sees the records and the world; it acts on neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from toxicity_api.status import EvaluationStatus, StageRecord
from toxicity_operator import names
from toxicity_operator.chain import Chain, JobStage, quantization_image, stage_images
from toxicity_operator.decide.handover import handed_to, stage_in_turn
from toxicity_operator.decide.pinning import wanted_bounds
from toxicity_operator.decide.quality import Verdict, judge
from toxicity_operator.decide.records import Records, settled, succeeded
from toxicity_operator.decide.rollout import Failure, failed_version, good_version
from toxicity_operator.manifests.autoscaler import Bounds, build_autoscaler
from toxicity_operator.manifests.common import Manifest
from toxicity_operator.manifests.evaluation_job import build_evaluation_job
from toxicity_operator.manifests.loadtest_job import build_loadtest_job, build_loadtest_service
from toxicity_operator.manifests.quantization_job import build_quantization_job
from toxicity_operator.manifests.rbac import build_loadtest_access
from toxicity_operator.manifests.serving import (
    build_deployment,
    build_earlier_deployment,
    build_parked_deployment,
    build_restored_deployment,
    build_service,
    kept_notes,
)
from toxicity_operator.manifests.storage import build_claim
from toxicity_operator.manifests.training_job import build_training_job
from toxicity_operator.model import Model
from toxicity_operator.observe.state import Observed
from toxicity_operator.settings import Images, OperatorSettings


@dataclass(frozen=True)
class Situation:
    """All that a decision is made from."""

    model: Model
    chain: Chain
    records: Records
    observed: Observed
    settings: OperatorSettings

    @property
    def images(self) -> Images:
        return stage_images(self.model.spec, self.settings.images)

    @cached_property
    def verdict(self) -> Verdict:
        """The quality gate's word on what is to be served; a bad trained model is refused before quantization."""
        records = self.records
        return judge(self.model.spec.quality_gate, records.trained, records.quantized, records.evaluated)

    @property
    def good_version(self) -> str | None:
        """The newest serving fingerprint known to be good."""
        return good_version(self.model.status.serving, self.observed.deployment)

    @property
    def failed_version(self) -> Failure | None:
        """That what the spec asks for has failed to become ready."""
        return failed_version(self.chain.serving_fingerprint, self.model.status.serving, self.observed.deployment)

    @property
    def stalled_version(self) -> Failure | None:
        """That what is deployed has failed to become ready, whatever the spec asks for now."""
        deployment = self.observed.deployment
        if deployment is None or deployment.serving_fingerprint == self.good_version:
            return None
        return failed_version(deployment.serving_fingerprint, None, deployment)

    @cached_property
    def handed_to(self) -> JobStage | None:
        """The stage that has the GPUs of the pods that serve, or gets them by what is decided now."""
        spec = self.model.spec
        return handed_to(spec, stage_in_turn(spec, self.chain, self.records, self.verdict), self.observed)

    @property
    def serves_current(self) -> bool:
        """Whether at least one pod is ready, and all pods are of what the spec asks for."""
        deployment = self.observed.deployment
        return (
            deployment is not None
            and deployment.rolled_out
            and deployment.ready_replicas > 0
            and deployment.serving_fingerprint == self.chain.serving_fingerprint
        )


@dataclass(frozen=True)
class Step:
    """What a stage wants to exist; the stages after it wait while `waiting_for` says something."""

    wanted: list[Manifest] = field(default_factory=list)
    waiting_for: str | None = None


def _of_job(record: StageRecord | None, word: str, build: Callable[[], Manifest]) -> Step:
    """The step of a stage that is a Job: it is wanted until the stage is settled."""
    if succeeded(record):
        return Step()
    if settled(record):
        return Step(waiting_for=f"a change of the spec: {word} failed")
    return Step([build()], waiting_for=word)


def _storage(situation: Situation) -> Step:
    claim = build_claim(situation.model)
    return Step([claim] if claim else [])


def _train(situation: Situation) -> Step:
    model, chain, image = situation.model, situation.chain, situation.images.training
    return _of_job(situation.records.training, "training", lambda: build_training_job(model, chain.train, image))


def _quantize(situation: Situation) -> Step:
    chain, image = situation.chain, quantization_image(situation.model.spec, situation.images)
    stage = chain.quantize
    if situation.verdict.accepted is False:
        return Step(waiting_for=f"a change of the spec: {situation.verdict.message}")
    if stage is None:
        return Step()

    def build() -> Manifest:
        return build_quantization_job(situation.model, stage, chain.train.fingerprint, image)

    return _of_job(situation.records.quantization, "quantization", build)


def _evaluate(situation: Situation) -> Step:
    model, chain, image = situation.model, situation.chain, situation.images.serving
    if situation.verdict.accepted is False:
        return Step(waiting_for=f"a change of the spec: {situation.verdict.message}")
    return _of_job(situation.records.evaluation, "evaluation", lambda: build_evaluation_job(model, chain, image))


def _serve(situation: Situation) -> Step:
    model, evaluated = situation.model, situation.records.evaluated
    if evaluated is None or not situation.verdict.accepted:
        return Step(waiting_for=situation.verdict.message)
    wanted = [_version(situation, evaluated), build_service(model), *_autoscaler(situation)]
    return Step(wanted, waiting_for=None if situation.serves_current else "ready replicas")


def _standby(situation: Situation) -> list[Manifest]:
    """What serves while a stage before serving is in turn, has failed or was refused, which may be for good.

    It has the replicas, the autoscaler and the Service of the spec; it makes room for a stage, and comes back; and a
    version that did not become ready gives way to the last good one.
    """
    model, observed = situation.model, situation.observed
    live = observed.objects.get(("Deployment", names.serving_name(model.name)))
    if live is None or observed.deployment is None:
        return []
    if situation.handed_to is not None:
        return [build_parked_deployment(model, dict(live), situation.handed_to.job_name), build_service(model)]
    good, stalled = observed.templates.get(situation.good_version or ""), situation.stalled_version
    replicas = _first_replicas(situation)
    if good and stalled:
        deployment = build_restored_deployment(model, dict(good), stalled.fingerprint, stalled.message, replicas)
    else:
        template = good if good and observed.deployment.handed_to else live["spec"]["template"]
        deployment = build_earlier_deployment(model, dict(template), kept_notes(dict(live)), replicas)
    # the autoscaler first: after the Deployment nothing would tell that it is still to be made
    return [*_autoscaler(situation), deployment, build_service(model)]


def _first_replicas(situation: Situation) -> int | None:
    """With how many replicas an autoscaled Deployment comes back that has none: at 0 no autoscaler would look at it."""
    scaling, deployment = situation.model.spec.serving.autoscaling, situation.observed.deployment
    if scaling is None or deployment is None or not deployment.handed_to:
        return None
    return max(1, scaling.min_replicas)


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


def _version(situation: Situation, evaluated: EvaluationStatus) -> Manifest:
    """The Deployment of what the spec asks for, or of the last good version where that one has failed."""
    failure, good = situation.failed_version, situation.observed.templates.get(situation.good_version or "")
    model, replicas = situation.model, _first_replicas(situation)
    if failure and good:
        return build_restored_deployment(model, dict(good), failure.fingerprint, failure.message, replicas)
    return build_deployment(model, situation.chain, evaluated, situation.images.serving, replicas)


def _loadtest(situation: Situation) -> Step:
    model, chain, image = situation.model, situation.chain, situation.images.loadtest
    stage = chain.loadtest
    if stage is None:
        return Step()

    def build() -> Manifest:
        return build_loadtest_job(model, stage, chain.train.fingerprint, image, chain.serving_fingerprint)

    step = _of_job(situation.records.load_test, "load test", build)
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
