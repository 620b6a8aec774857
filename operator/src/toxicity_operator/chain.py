"""The chain of stages and their fingerprints: what each is made of, and so when it must run again.

A fingerprint hashes a stage's part of the spec, the fingerprint of the stage before, and its image. Fields equal
to their default are left out, so that a later version's new field does not re-run what is done. How a pod is
placed, how large it is and what Secrets open its sources and images do not change its result; they enter only the
Job's name, so that a stage that failed for lack of memory or of access runs again when it is given more, and a
stage that succeeded does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from toxicity_api.base import Document
from toxicity_api.fingerprint import WITHOUT_INFLUENCE, content, fingerprint
from toxicity_api.spec import ToxicityModelSpec
from toxicity_operator import names
from toxicity_operator.model import Model
from toxicity_operator.settings import Images, OperatorSettings

REPLICATION = {"replicas", "autoscaling", "strategy", "progress_deadline_seconds"}
"""Fields of `serving` that decide how many pods there are and how they are exchanged, not what and where they are."""

TIMING = {"schedule", "pin_replicas"}
"""Fields of `loadTest` that decide when it runs and what stands still meanwhile; a slot that is due enters itself."""

SCORING = {"max_model_len", "long_texts", "kv_cache_dtype", "enforce_eager"}
"""Fields of `serving` that can change a score."""

SECRET_NAME = "secretName"

NO_SLOT = ""
"""Of the run that the spec itself asks for, before the first moment of the schedule."""


@dataclass(frozen=True)
class JobStage:
    """One stage that runs as a Job."""

    component: str
    fingerprint: str
    job_name: str


@dataclass(frozen=True)
class Chain:
    """The stages a spec asks for; None for a stage that it switches off."""

    train: JobStage
    quantize: JobStage | None
    evaluate: JobStage
    serving_fingerprint: str
    loadtest: JobStage | None
    slot: str = NO_SLOT

    @property
    def model_stage(self) -> JobStage:
        """The stage whose weights are served."""
        return self.quantize or self.train

    def job_names(self) -> frozenset[str]:
        """Names of the Jobs that this spec may have; any other Job is obsolete."""
        stages = (self.train, self.quantize, self.evaluate, self.loadtest)
        return frozenset(stage.job_name for stage in stages if stage)


def stage_images(spec: ToxicityModelSpec, defaults: Images) -> Images:
    """The images of the stages: the resource's own where it names one."""
    return Images(
        training=spec.images.training or defaults.training,
        quantization=spec.images.quantization or defaults.quantization,
        quantization_autoawq=spec.images.quantization_autoawq or defaults.quantization_autoawq,
        serving=spec.images.serving or defaults.serving,
        loadtest=spec.images.loadtest or defaults.loadtest,
    )


def source_content(source: Document, exclude: Set[str] = frozenset()) -> dict[str, object]:
    """The content of a data set or base model; the Secret that opens a source does not change what it holds."""
    found = content(source, exclude)
    return {
        key: {name: part for name, part in value.items() if name != SECRET_NAME}
        if isinstance(value, dict)
        else value
        for key, value in found.items()
    }


def source_secrets(*sources: Document) -> list[object]:
    """The Secrets that open the sources."""
    blocks = (block for source in sources for block in content(source).values() if isinstance(block, dict))
    return [block[SECRET_NAME] for block in blocks if SECRET_NAME in block]


def quantization_image(spec: ToxicityModelSpec, images: Images) -> str:
    """The image of the backend that the spec names: their packages exclude each other."""
    return images.quantization_autoawq if spec.quantization.backend == "autoawq" else images.quantization


def dataset_fingerprint(spec: ToxicityModelSpec) -> str:
    """Fingerprint of the data's source; names the folder it is copied to."""
    return fingerprint(source_content(spec.dataset, {"text_column", "label_column", "split"}))


def base_model_fingerprint(spec: ToxicityModelSpec) -> str:
    """Fingerprint of the base model's source; names the folder it is copied to."""
    return fingerprint(source_content(spec.base_model))


def _job_stage(
    model: Model,
    component: str,
    spec: Document,
    inputs: Mapping[str, object],
    without: Set[str] = WITHOUT_INFLUENCE,
    sources: Sequence[Document] = (),
) -> JobStage:
    placement = content(spec, type(spec).model_fields.keys() - WITHOUT_INFLUENCE)
    secrets = source_secrets(*sources)
    if secrets:
        placement["secrets"] = secrets
    return _stage(model, component, {**inputs, "spec": content(spec, without)}, placement)


def _stage(
    model: Model, component: str, inputs: Mapping[str, object], placement: Mapping[str, object]
) -> JobStage:
    result = fingerprint(inputs)
    attempt = fingerprint({"result": result, "placement": {**placement, **_pull_secrets(model)}})
    return JobStage(component, result, names.job_name(model.name, component, attempt))


def _pull_secrets(model: Model) -> dict[str, object]:
    return content(model.spec.images, type(model.spec.images).model_fields.keys() - {"pull_secrets"})


def _evaluate_stage(model: Model, upstream: str, image: str) -> JobStage:
    """The evaluation has the pod fields of serving and depends on nothing else of it than what changes a score."""
    serving = model.spec.serving
    others = type(serving).model_fields.keys()
    inputs = {"image": image, "upstream": upstream, "spec": content(serving, others - SCORING)}
    placed = content(serving, others - WITHOUT_INFLUENCE - {"gpus"}) | content(model.spec.evaluation)
    return _stage(model, names.EVALUATE, inputs, placed)


def build_chain(model: Model, settings: OperatorSettings, slot: str = NO_SLOT) -> Chain:
    """The stages that the model's spec asks for, each chained to the one before.

    `slot` is the moment of loadTest.schedule whose run is due or under way.
    """
    spec, images = model.spec, stage_images(model.spec, settings.images)
    train_inputs = {
        "image": images.training,
        "dataset": source_content(spec.dataset),
        "baseModel": base_model_fingerprint(spec),
    }
    sources = (spec.dataset, spec.base_model)
    train = _job_stage(model, names.TRAIN, spec.training, train_inputs, sources=sources)
    quantize = None
    if spec.quantization.method != "none":
        inputs = {"image": quantization_image(spec, images), "upstream": train.fingerprint}
        quantize = _job_stage(model, names.QUANTIZE, spec.quantization, inputs)
    evaluate = _evaluate_stage(model, (quantize or train).fingerprint, images.serving)
    serving = fingerprint(
        {
            "image": images.serving,
            "upstream": evaluate.fingerprint,
            "spec": content(spec.serving, REPLICATION),
            **_pull_secrets(model),
        }
    )
    loadtest = None
    if spec.load_test.enabled:
        inputs = {"image": images.loadtest, "upstream": serving} | ({"slot": slot} if slot else {})
        loadtest = _job_stage(model, names.LOADTEST, spec.load_test, inputs, WITHOUT_INFLUENCE | TIMING)
    return Chain(train, quantize, evaluate, serving, loadtest, slot)
