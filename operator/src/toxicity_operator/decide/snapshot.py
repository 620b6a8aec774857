"""All that a decision about one resource is made from, and what follows from it directly. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from toxicity_api.spec import ServingSpec
from toxicity_operator.chain import Chain, JobStage, stage_images
from toxicity_operator.decide.handover import ActiveStage, active_stage, handed_to
from toxicity_operator.decide.quality import Verdict, judge
from toxicity_operator.decide.records import Records
from toxicity_operator.decide.rollout import Failure, failed_version, good_version
from toxicity_operator.manifests.common import Manifest
from toxicity_operator.manifests.serving import build_deployment
from toxicity_operator.model import Model
from toxicity_operator.observe.deployment import version_of
from toxicity_operator.observe.state import Observed
from toxicity_operator.settings import Images, OperatorSettings


@dataclass(frozen=True)
class Snapshot:
    """All that a decision is made from."""

    model: Model
    chain: Chain
    records: Records
    observed: Observed
    settings: OperatorSettings

    may_upgrade: bool = False
    """It is this resource's turn to move to what the present operator makes of its spec."""

    @property
    def images(self) -> Images:
        return stage_images(self.model.spec, self.settings.images)

    @property
    def serving_image(self) -> str:
        """The image that the resource names; else that of the engine that evaluated the model, where it is known."""
        chosen, made_with = self.model.spec.images.serving, self.chain.evaluate.known
        deployed = self.observed.deployment.image if self.observed.deployment else None
        evaluated = (made_with.image or deployed) if made_with else None
        return chosen or evaluated or self.settings.images.serving

    @cached_property
    def verdict(self) -> Verdict:
        """The quality gate's word on what is to be served; a bad trained model is refused before quantization."""
        records = self.records
        return judge(self.model.spec.quality_gate, records.trained, records.quantized, records.evaluated)

    @cached_property
    def desired_deployment(self) -> Manifest | None:
        """The Deployment as this operator makes it of what the spec asks for; None before that may serve."""
        evaluated = self.records.evaluated
        if evaluated is None or not self.verdict.accepted:
            return None
        return build_deployment(self.model, self.chain, evaluated, self.serving_image, first_replicas(self))

    @cached_property
    def version(self) -> str | None:
        """The version that is to serve: what is deployed, as long as it serves what the spec asks for.

        Another version of the operator may make other pods of the same spec. They are rolled out when it is the
        resource's turn, and where what is deployed has failed.
        """
        if self.desired_deployment is None:
            return None
        desired, deployment = (
            version_of(self.desired_deployment["metadata"]["annotations"]),
            self.observed.deployment,
        )
        is_of_spec = deployment is not None and deployment.serving_fingerprint == self.chain.serving_fingerprint
        if deployment is None or not is_of_spec or self.may_upgrade or self.failure_of(deployment.version):
            return desired
        return deployment.version

    def failure_of(self, version: str) -> Failure | None:
        """That the version has failed to become ready."""
        return failed_version(version, self.model.status.serving, self.observed.deployment)

    @property
    def good_version(self) -> str | None:
        """The newest version known to be good."""
        return good_version(self.model.status.serving, self.observed.deployment)

    @property
    def failed_version(self) -> Failure | None:
        """That the version that is to serve has failed to become ready, also as another operator made it."""
        if self.version is None:
            return None
        return self.failure_of(self.version) or self._failure_before

    @property
    def _failure_before(self) -> Failure | None:
        """That what the spec asks for has failed before, while a good version of another spec serves.

        Another version of the operator makes other pods of it, which might do; but what serves is not put at risk.
        """
        recorded, deployment = self.model.status.serving, self.observed.deployment
        if self.may_upgrade or recorded is None or recorded.failed_fingerprint is None or deployment is None:
            return None
        # operators that did not record it took what the spec asks for as the version
        failed, asked = recorded.failed_for or recorded.failed_fingerprint, self.chain.serving_fingerprint
        if failed != asked or deployment.serving_fingerprint == asked:
            return None
        return Failure(recorded.failed_fingerprint, recorded.failed_message or "")

    @property
    def stalled_version(self) -> Failure | None:
        """That what is deployed has failed to become ready, whatever the spec asks for now."""
        deployment = self.observed.deployment
        if deployment is None or deployment.version == self.good_version:
            return None
        return failed_version(deployment.version, None, deployment)

    @cached_property
    def active_stage(self) -> ActiveStage | None:
        """The stage before serving that is to run or runs; None when they are done, or do not go on by themselves."""
        return active_stage(self.model.spec, self.chain, self.records, self.verdict)

    @cached_property
    def handed_to(self) -> JobStage | None:
        """The stage that has the GPUs of the pods that serve, or gets them by what is decided now."""
        return handed_to(self.model.spec, self.active_stage, self.observed)

    @property
    def serves_current(self) -> bool:
        """Whether all pods are of what the spec asks for, and as many are ready as it asks for."""
        deployment = self.observed.deployment
        return (
            deployment is not None
            and deployment.rolled_out
            and 0 < deployment.ready_replicas >= asked_replicas(self.model.spec.serving)
            and deployment.serving_fingerprint == self.chain.serving_fingerprint
        )

    @property
    def serves_with_all(self) -> bool:
        """Whether, beyond that, no replica that exists or is wanted is missing: what a load test measures."""
        deployment = self.observed.deployment
        if deployment is None or not self.serves_current:
            return False
        return deployment.ready_replicas == deployment.replicas == deployment.wanted_replicas


def asked_replicas(serving: ServingSpec) -> int:
    """How many replicas the spec asks for at least."""
    if serving.autoscaling is not None:
        return serving.autoscaling.min_replicas
    return 1 if serving.replicas is None else serving.replicas


def first_replicas(snapshot: Snapshot) -> int | None:
    """With how many replicas an autoscaled Deployment comes back that has none: at 0 no autoscaler would look at it."""
    scaling, deployment = snapshot.model.spec.serving.autoscaling, snapshot.observed.deployment
    if scaling is None or deployment is None or not deployment.handed_to:
        return None
    return max(1, scaling.min_replicas)
