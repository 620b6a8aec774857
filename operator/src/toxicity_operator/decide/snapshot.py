"""The state of one resource in one pass, and what follows from it directly. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from toxicity_api.spec import ServingSpec
from toxicity_api.stage_config import Retention
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.chain import Chain, JobStage, stage_images
from toxicity_operator.decide.handover import ActiveStage, active_stage, handed_to
from toxicity_operator.decide.quality import Verdict, judge
from toxicity_operator.decide.records import Records
from toxicity_operator.decide.rollout import (
    Failure,
    failed_version,
    good_version,
    previous_version,
    recorded_failure,
)
from toxicity_operator.decide.trial import Trial, read_trial
from toxicity_operator.manifests.common import Manifest
from toxicity_operator.manifests.retention import retention
from toxicity_operator.manifests.serving import build_deployment
from toxicity_operator.model import Model
from toxicity_operator.observe.deployment import version_of
from toxicity_operator.observe.state import Observed
from toxicity_operator.pod_defaults import with_pod_defaults
from toxicity_operator.settings import Images, OperatorSettings


@dataclass(frozen=True)
class Snapshot:
    """Spec, stages, records, observed objects and settings of one resource, from which plan and status are derived."""

    model: Model
    chain: Chain
    records: Records
    observed: Observed
    settings: OperatorSettings

    named_claim: Raw | None
    """The claim that `storage.claimName` names; None if it does not exist or if the spec names none."""

    may_upgrade: bool
    """Whether this pass may roll out what the current operator makes of the spec."""

    @cached_property
    def complete_model(self) -> Model:
        """The model from which the manifests are built: with the chart's pod defaults, and the claim's access modes.

        The chain is built without them, so a change of the chart's defaults changes no Job and no serving fingerprint.
        """
        spec = with_pod_defaults(self.model.spec, self.settings.pod_defaults)
        own = self.observed.objects.get(("PersistentVolumeClaim", names.claim_name(self.model.name)))
        claim = self.named_claim if spec.storage.claim_name else own
        modes = claim["spec"].get("accessModes") if claim else None
        if modes:
            spec = spec.model_copy(update={"storage": spec.storage.model_copy(update={"access_modes": modes})})
        return replace(self.model, spec=spec)

    @property
    def images(self) -> Images:
        return stage_images(self.model.spec, self.settings.images)

    @property
    def serving_image(self) -> str:
        """The serving image: from the spec, else the image that evaluated the model, else the operator's default."""
        chosen, made_with = self.model.spec.images.serving, self.chain.evaluate.known
        deployed = self.observed.deployment.image if self.observed.deployment else None
        evaluated = (made_with.image or deployed) if made_with else None
        return chosen or evaluated or self.settings.images.serving

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict of the quality gate. A bad trained model is refused before quantization."""
        records, spec = self.records, self.model.spec
        sets = spec.evaluation.test_sets
        return judge(spec.quality_gate, records.trained, records.quantized, records.evaluated, sets)

    @cached_property
    def desired_deployment(self) -> Manifest | None:
        """The Deployment that this operator makes of the spec; None until the model is evaluated and accepted."""
        evaluated = self.records.evaluated
        if evaluated is None or not self.verdict.accepted:
            return None
        return build_deployment(
            self.complete_model, self.chain, evaluated, self.serving_image, first_replicas(self)
        )

    @cached_property
    def version(self) -> str | None:
        """The version that should serve: the deployed one as long as it matches the spec.

        Another version of the operator can make another pod template of the same spec. That template is rolled out if
        `may_upgrade` is set, or if the deployed version has failed.
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
        """The failure of a version; None if it has not failed."""
        return failed_version(version, self.model.status.serving, self.observed.deployment, self.trial)

    @property
    def good_version(self) -> str | None:
        """The newest good version."""
        return good_version(self.model.status.serving, self.observed.deployment)

    @cached_property
    def trial(self) -> Trial | None:
        """The load test that decides about a roll-back; None if a regression is only reported."""
        return read_trial(self.model, self.chain, self.records)

    @property
    def previous_version(self) -> str | None:
        """The version to restore if the load test finds the good one slower."""
        return previous_version(self.model.status.serving, self.observed.deployment, self.trial)

    @property
    def regression(self) -> Failure | None:
        """The failure of the deployed version that its load test found slower, if the one before can be restored."""
        deployment, trial = self.observed.deployment, self.trial
        if deployment is None or trial is None or not trial.slower:
            return None
        is_of_spec = deployment.serving_fingerprint == self.chain.serving_fingerprint
        if not is_of_spec or self.previous_version not in self.observed.templates:
            return None
        return Failure(deployment.version, trial.slower, trial.run)

    @property
    def failed_version(self) -> Failure | None:
        """The failure of the version that should serve, including the template of an earlier operator."""
        if self.version is None:
            return None
        return self.failure_of(self.version) or self._failure_before

    @property
    def _failure_before(self) -> Failure | None:
        """The recorded failure of the current spec while a good version of another spec serves.

        The template of a newer operator might work, but the running version is not put at risk.
        """
        recorded, deployment = self.model.status.serving, self.observed.deployment
        failure = recorded_failure(recorded)
        if recorded is None or failure is None or deployment is None or not failure.counts(self.trial):
            return None
        if self.may_upgrade and not failure.run:  # the load test does not run again for another template
            return None
        # operators that predate `failedFor` used the serving fingerprint as the version
        failed, asked = recorded.failed_for or failure.fingerprint, self.chain.serving_fingerprint
        return failure if failed == asked != deployment.serving_fingerprint else None

    @property
    def stalled_version(self) -> Failure | None:
        """The failure of the deployed version, whether or not it matches the spec."""
        deployment = self.observed.deployment
        if deployment is None or deployment.version == self.good_version:
            return None
        return failed_version(deployment.version, None, deployment, self.trial)

    @cached_property
    def retention(self) -> Retention | None:
        """What a stage that starts now keeps on the artifact volume."""
        live = self.observed.objects.get(("Deployment", names.serving_name(self.model.name)))
        versions = filter(None, (self.good_version, self.previous_version))
        revisions = [self.observed.templates[each] for each in versions if each in self.observed.templates]
        return retention(self.model, self.chain, [*([live["spec"]["template"]] if live else []), *revisions])

    @cached_property
    def active_stage(self) -> ActiveStage | None:
        """The stage before serving that runs or is about to run; None if there is none."""
        return active_stage(self.model.spec, self.chain, self.records, self.verdict)

    @cached_property
    def handed_to(self) -> JobStage | None:
        """The stage that uses the GPUs of the serving pods, or gets them in this pass."""
        return handed_to(self.model.spec, self.active_stage, self.observed)

    @property
    def serves_current(self) -> bool:
        """Whether all pods match the spec and at least the requested number of replicas is ready."""
        deployment = self.observed.deployment
        return (
            deployment is not None
            and deployment.rolled_out
            and 0 < deployment.ready_replicas >= asked_replicas(self.model.spec.serving)
            and deployment.serving_fingerprint == self.chain.serving_fingerprint
        )

    @property
    def serves_with_all(self) -> bool:
        """Whether every existing and wanted replica is ready, which a load test requires besides `serves_current`."""
        found = self.observed.deployment
        return found is not None and found.ready_replicas == found.replicas == found.wanted_replicas


def asked_replicas(serving: ServingSpec) -> int:
    """The minimum number of replicas that the spec requests."""
    if serving.autoscaling is not None:
        return serving.autoscaling.min_replicas
    return 1 if serving.replicas is None else serving.replicas


def first_replicas(snapshot: Snapshot) -> int | None:
    """The replicas for an autoscaled Deployment that was scaled to 0 for a stage; None for any other."""
    scaling, deployment = snapshot.model.spec.serving.autoscaling, snapshot.observed.deployment
    if scaling is None or deployment is None or not deployment.handed_to:
        return None
    return scaling.min_replicas
