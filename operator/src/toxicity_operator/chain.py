"""The chain of stages and their fingerprints, which determine when a stage runs again. See docs/adr/0002.

A fingerprint identifies a result: its Job, its folder, its version. It hashes the stage's part of the spec and the
fingerprint of the previous stage. A recorded stage keeps its fingerprint as long as the spec requests the same.
A new operator version with other defaults, images or hash formula therefore runs nothing again. `decide/outdated.py`
reports what it would make differently.

The placement (resources, node selectors, Secrets) does not change a result, so it enters only the Job's name. A stage
that failed for lack of memory or access runs again when the placement changes. A succeeded stage does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from toxicity_api.base import Document
from toxicity_api.fingerprint import WITHOUT_INFLUENCE, content, fingerprint
from toxicity_api.quantities import canonical
from toxicity_api.spec import HeldOutSet, PodFields, ThresholdSpec, ToxicityModelSpec
from toxicity_api.status import MadeWith, StageRecord, ToxicityModelStatus
from toxicity_operator import names
from toxicity_operator.model import Model
from toxicity_operator.settings import Images, OperatorSettings

BESIDE_PODS = {"replicas", "autoscaling", "strategy", "progress_deadline_seconds", "expose"}
"""Fields of `serving` that do not enter the pod template: the number of pods, the rollout strategy, the exposure."""

UNMEASURED = BESIDE_PODS | {"tolerations", "pod", "api_token_secret_name", "http", "start_seconds"}
"""Fields of `serving` that cannot change what a load test measures per replica."""

TIMING = {"schedule", "pin_replicas", "on_regression"}
"""Fields of `loadTest` that do not affect the measurement. A due slot of the schedule is hashed separately."""

SCORING = {"max_model_len", "long_texts", "kv_cache_dtype", "enforce_eager"}
"""Fields of `serving` that can change a score."""

SECRET_NAME = "secretName"

STORAGE_SIZE = "storage.size"

NO_SLOT = ""
"""Slot of the run that the spec requests, before the first scheduled one."""


@dataclass(frozen=True)
class StageRequest:
    """What the spec requests of a stage. `inputs` determine the result, `placement` only how the pod runs.

    A training's version of the normal form is apart from `inputs`, since a newer operator has a newer default. It is
    part of the fingerprint of a new run and no reason for one.
    """

    component: str
    inputs: Mapping[str, object]
    image: str
    placement: Mapping[str, object] = field(default_factory=dict)
    upstream: str | None = None
    normal_form: int = 0


@dataclass(frozen=True)
class JobStage:
    """One stage. `made_with`: what a run would use now. `known`: what the recorded run used; None if there is none."""

    component: str
    fingerprint: str
    job_name: str
    made_with: MadeWith = field(default_factory=MadeWith)
    known: MadeWith | None = None

    @property
    def normal_form(self) -> int:
        """The version of the normal form that this run of a training uses."""
        return (self.known or self.made_with).normal_form or 0


@dataclass(frozen=True)
class Chain:
    """The stages of a spec; None for a disabled stage."""

    train: JobStage
    quantize: JobStage | None
    evaluate: JobStage
    serve: JobStage
    loadtest: JobStage | None
    slot: str = NO_SLOT

    @property
    def model_stage(self) -> JobStage:
        """The stage whose weights are served."""
        return self.quantize or self.train

    @property
    def serving_fingerprint(self) -> str:
        """Fingerprint of the serving stage of the spec."""
        return self.serve.fingerprint

    def job_names(self) -> frozenset[str]:
        """Names of the Jobs of this spec. Any other Job is obsolete."""
        stages = (self.train, self.quantize, self.evaluate, self.loadtest)
        return frozenset(stage.job_name for stage in stages if stage)


@dataclass(frozen=True)
class ClusterFacts:
    """The facts about the cluster that the chain depends on.

    `slot`: the slot of loadTest.schedule that is due or in progress. `deployed`: the serving fingerprint of the
    Deployment. `image`: the image of its pods. `may_upgrade`: the resource may move to the operator's current images.
    """

    slot: str = NO_SLOT
    deployed: str | None = None
    image: str | None = None
    may_upgrade: bool = False


def stage_images(spec: ToxicityModelSpec, defaults: Images) -> Images:
    """The images of the stages, from the spec or else from the operator's defaults."""
    return Images(
        training=spec.images.training or defaults.training,
        quantization=spec.images.quantization or defaults.quantization,
        quantization_autoawq=spec.images.quantization_autoawq or defaults.quantization_autoawq,
        serving=spec.images.serving or defaults.serving,
        loadtest=spec.images.loadtest or defaults.loadtest,
    )


def source_content(source: Document, exclude: Set[str] = frozenset()) -> dict[str, object]:
    """The fields that determine the content of a data set or base model. The access Secret does not."""
    found = content(source, exclude)
    return {
        key: {name: part for name, part in value.items() if name != SECRET_NAME}
        if isinstance(value, dict)
        else value
        for key, value in found.items()
    }


def source_secrets(*sources: Document) -> list[object]:
    """The names of the Secrets with which the sources are accessed."""
    blocks = (block for source in sources for block in content(source).values() if isinstance(block, dict))
    return [block[SECRET_NAME] for block in blocks if SECRET_NAME in block]


def quantization_image(spec: ToxicityModelSpec, images: Images) -> str:
    """The image of the quantization backend. Each backend has its own, because their packages conflict."""
    return images.quantization_autoawq if spec.quantization.backend == "autoawq" else images.quantization


def dataset_fingerprint(spec: ToxicityModelSpec) -> str:
    """Fingerprint of the data source, which names the folder of its copy."""
    parts = source_content(spec.dataset, {"text_column", "label_column", "split"})
    return fingerprint(parts | _fetched_again(spec))


def held_out_fingerprint(spec: ToxicityModelSpec, test_set: HeldOutSet) -> str:
    """Fingerprint of a test set's source, which names the folder of its copy. evaluation.runId downloads it again."""
    parts = source_content(test_set, {"text_column", "label_column", "name", "min_f1"})
    return fingerprint(parts | _run_id(spec.evaluation))


def base_model_fingerprint(spec: ToxicityModelSpec) -> str:
    """Fingerprint of the base model's source, which names the folder of its copy."""
    return fingerprint(source_content(spec.base_model) | _fetched_again(spec))


def threshold_goal(spec: ToxicityModelSpec) -> ThresholdSpec:
    """The goal of evaluation.threshold, with the metric of the quality gate if it names none and that is not F1."""
    goal, gate = spec.evaluation.threshold, spec.quality_gate
    if goal.maximize is None and gate.metric != type(gate)().metric:
        return goal.model_copy(update={"maximize": gate.metric})
    return goal


def _fetched_again(spec: ToxicityModelSpec) -> dict[str, object]:
    """The training.runId. A new one downloads the sources again, because a branch or a tag may have moved."""
    return _run_id(spec.training)


def _run_id(spec: Document) -> dict[str, object]:
    return content(spec, type(spec).model_fields.keys() - {"run_id"})


def build_chain(model: Model, settings: OperatorSettings, facts: ClusterFacts | None = None) -> Chain:
    """The stages of the model's spec, each with the fingerprint of the previous one."""
    builder = _Builder(model, settings, facts or ClusterFacts())
    train = builder.train()
    quantize = builder.quantize(train) if model.spec.quantization.method != "none" else None
    evaluate = builder.evaluate(quantize or train)
    serve = builder.serve(evaluate)
    loadtest = builder.load_test(evaluate) if model.spec.load_test.enabled else None
    return Chain(train, quantize, evaluate, serve, loadtest, builder.facts.slot)


def pod_fields(spec: ToxicityModelSpec, component: str) -> PodFields:
    """The pod fields of a component. The evaluation has those of the serving pods."""
    of_jobs: dict[str, PodFields] = {
        names.TRAIN: spec.training, names.QUANTIZE: spec.quantization, names.LOADTEST: spec.load_test,
    }  # fmt: skip
    return of_jobs.get(component, spec.serving)


def references(spec: ToxicityModelSpec, component: str) -> list[str]:
    """The ConfigMaps and Secrets that the pods of a stage read, as kind/name.

    A failed stage runs again when one of them changes.
    """
    of_pod = pod_fields(spec, component).settings.secret_names()
    store = spec.storage.object_store
    of_store = (store.secret_name, store.ca_secret_name) if store else ()
    found = [f"Secret/{name}" for name in (*spec.images.pull_secrets, *of_pod, *of_store) if name]
    if component == names.TRAIN:
        found += [f"Secret/{name}" for name in source_secrets(spec.dataset, spec.base_model)]
        if spec.dataset.config_map:
            found.append(f"ConfigMap/{spec.dataset.config_map.name}")
    if component == names.EVALUATE:
        sets = spec.evaluation.test_sets
        found += [f"Secret/{name}" for name in source_secrets(*sets)]
        found += [f"ConfigMap/{each.config_map.name}" for each in sets if each.config_map]
    if component == names.LOADTEST and spec.serving.api_token_secret_name:
        found.append(f"Secret/{spec.serving.api_token_secret_name}")
    if component == names.LOADTEST and spec.load_test.trace:
        found.append(f"ConfigMap/{spec.load_test.trace.name}")
    return found


def _volume(spec: ToxicityModelSpec, component: str) -> dict[str, str]:
    """The size of the volume that a stage writes to, as a source: a stage that failed runs again when it grows."""
    if component == names.LOADTEST or spec.storage.claim_name or spec.storage.object_store:
        return {}
    return {STORAGE_SIZE: canonical(str(spec.storage.size))}


def with_sources(chain: Chain, versions: Mapping[str, Mapping[str, str]]) -> Chain:
    """The chain with the versions of the ConfigMaps and Secrets of its stages, by component and kind/name."""

    def updated(stage: JobStage) -> JobStage:
        sources = {**stage.made_with.sources, **versions.get(stage.component, {})}
        made_with = stage.made_with.model_copy(update={"sources": sources})
        return replace(stage, made_with=made_with)

    return replace(
        chain,
        train=updated(chain.train),
        quantize=chain.quantize and updated(chain.quantize),
        evaluate=updated(chain.evaluate),
        loadtest=chain.loadtest and updated(chain.loadtest),
    )


@dataclass(frozen=True)
class _Builder:
    """Builds the stages of one model from its spec and its recorded status."""

    model: Model
    settings: OperatorSettings
    facts: ClusterFacts

    @property
    def images(self) -> Images:
        return stage_images(self.model.spec, self.settings.images)

    def train(self) -> JobStage:
        spec = self.model.spec
        inputs = {
            "dataset": source_content(spec.dataset),
            "baseModel": source_content(spec.base_model),
            "spec": content(spec.training, WITHOUT_INFLUENCE),
        }
        placement = _placement(spec.training)
        secrets = source_secrets(spec.dataset, spec.base_model)
        if secrets:
            placement["secrets"] = secrets
        form = spec.training.wanted_normal_form
        request = StageRequest(names.TRAIN, inputs, self.images.training, placement, normal_form=form)
        return self._stage(request, self.model.status.training, upstream_known=True)

    def quantize(self, train: JobStage) -> JobStage:
        spec = self.model.spec.quantization
        inputs = {"spec": content(spec, WITHOUT_INFLUENCE)}
        image = quantization_image(self.model.spec, self.images)
        request = StageRequest(names.QUANTIZE, inputs, image, _placement(spec), train.fingerprint)
        return self._stage(request, self.model.status.quantization, upstream_known=train.known is not None)

    def evaluate(self, upstream: JobStage) -> JobStage:
        """The evaluation uses the pod fields of `serving`. Of its other fields only SCORING affect the fingerprint."""
        serving, record = self.model.spec.serving, self.model.status.evaluation
        others = type(serving).model_fields.keys()
        evaluation = self.model.spec.evaluation
        inputs = {"spec": content(serving, others - SCORING)} | _run_id(evaluation) | self._chosen_image()
        if goal := content(threshold_goal(self.model.spec)):
            inputs["threshold"] = goal
        if evaluation.test_sets:
            inputs["testSets"] = [source_content(each, {"min_f1"}) for each in evaluation.test_sets]
        placement = content(serving, others - WITHOUT_INFLUENCE - {"gpus"})
        placement |= content(evaluation, {"run_id", "threshold", "test_sets"})
        if secrets := source_secrets(*evaluation.test_sets):
            placement["secrets"] = secrets
        request = StageRequest(names.EVALUATE, inputs, self.images.serving, placement, upstream.fingerprint)
        stage = self._stage(request, record, upstream_known=upstream.known is not None)
        if self.facts.may_upgrade and stage.known and (stage.known.image or self.facts.image) != request.image:
            return self._with_new_image(request, stage)
        return stage

    def serve(self, evaluate: JobStage) -> JobStage:
        inputs = {"spec": content(self.model.spec.serving, BESIDE_PODS)} | self._chosen_image()
        inputs |= _pull_secrets(self.model) | _storage(self.model, {"object_store", "scratch", "node_cache"})
        request = StageRequest(names.SERVE, inputs, self.images.serving, upstream=evaluate.fingerprint)
        return self._stage(request, self._serving_record(), upstream_known=evaluate.known is not None)

    def load_test(self, evaluate: JobStage) -> JobStage:
        spec, record, slot = self.model.spec.load_test, self.model.status.load_test_job, self.facts.slot
        served, offered = content(self.model.spec.serving, UNMEASURED), content(spec, WITHOUT_INFLUENCE | TIMING)
        inputs = {"serving": served, "spec": offered} | ({"slot": slot} if slot else {}) | self._chosen_image()
        token = self.model.spec.serving.api_token_secret_name
        placement = _placement(spec) | ({"token": token} if token else {})
        request = StageRequest(names.LOADTEST, inputs, self.images.loadtest, placement, evaluate.fingerprint)
        is_of_slot = record is not None and (record.slot or NO_SLOT) == slot
        return self._stage(request, record if is_of_slot else None, upstream_known=evaluate.known is not None)

    def _chosen_image(self) -> dict[str, object]:
        """The serving image if the spec sets one. The operator's default image is not hashed."""
        chosen = self.model.spec.images.serving
        return {"image": chosen} if chosen else {}

    def _serving_record(self) -> StageRecord | None:
        serving = self.model.status.serving
        if serving is None:
            return None
        # earlier operators did not record the fingerprint: use the failed or the deployed one
        found = serving.fingerprint or serving.failed_fingerprint or self.facts.deployed
        return StageRecord(fingerprint=found, made_with=serving.made_with) if found else None

    def _stage(self, request: StageRequest, record: StageRecord | None, *, upstream_known: bool) -> JobStage:
        """The recorded stage if the spec still requests it, else a new one."""
        store = _storage(self.model, {"object_store", "scratch"})
        placement = fingerprint({**request.placement, **_pull_secrets(self.model), **store})
        read_as, generation = fingerprint(request.inputs), self.model.identity.generation
        made = MadeWith(
            operator=self.settings.version, image=request.image, inputs=read_as, read_as=read_as, placement=placement,
            upstream=request.upstream, normal_form=request.normal_form or None, generation=generation,
            sources=_volume(self.model.spec, request.component),
        )  # fmt: skip
        if record is None or not self._still_asks(made, record, upstream_known):
            form = {"normalForm": request.normal_form} if request.normal_form else {}
            result = fingerprint({"inputs": read_as, "upstream": request.upstream or "", **form})
            return JobStage(request.component, result, self._job_name(request.component, result, placement), made)
        old = record.made_with or MadeWith(placement=placement)
        known = old.model_copy(
            update={
                "read_as": read_as,
                "placement": placement,
                "generation": generation,
                "upstream": request.upstream,
            }
        )
        runs_alike = placement == old.placement or generation == old.generation
        job_name = self._job_name(request.component, record.fingerprint, placement)
        name = record.job_name if runs_alike and record.job_name else job_name
        return JobStage(request.component, record.fingerprint, name, made, known)

    def _still_asks(self, made: MadeWith, record: StageRecord, upstream_known: bool) -> bool:
        """Whether the spec requests what is recorded: its inputs are equal, or its generation is unchanged."""
        old = record.made_with
        if old is None:  # recorded by an earlier operator, which acted on this generation if it observed it
            return upstream_known and _was_acted_on(self.model.status, made.generation)
        return old.upstream == made.upstream and (old.read_as == made.read_as or old.generation == made.generation)

    def _with_new_image(self, request: StageRequest, stage: JobStage) -> JobStage:
        """The stage as a new run with the current image."""
        result = fingerprint({"stage": stage.fingerprint, "image": request.image})
        name = self._job_name(request.component, result, stage.made_with.placement)
        return replace(stage, fingerprint=result, job_name=name, known=None)

    def _job_name(self, component: str, result: str, placement: str) -> str:
        attempt = fingerprint({"result": result, "placement": placement})
        return names.job_name(self.model.name, component, attempt)


def _was_acted_on(status: ToxicityModelStatus, generation: int) -> bool:
    return status.observed_generation == generation and status.stage != "InvalidSpec"


def _placement(spec: Document) -> dict[str, object]:
    return content(spec, type(spec).model_fields.keys() - WITHOUT_INFLUENCE)


def _pull_secrets(model: Model) -> dict[str, object]:
    return content(model.spec.images, type(model.spec.images).model_fields.keys() - {"pull_secrets"})


def _storage(model: Model, fields: Set[str]) -> dict[str, object]:
    """How pods reach the object store and where they work. It does not determine a result."""
    return content(model.spec.storage, type(model.spec.storage).model_fields.keys() - fields)
