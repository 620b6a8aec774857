"""The desired state: what a person writes under `spec`. The CRD is generated from these classes (`crd.py`).

Every field's description is what `kubectl explain` shows; it begins with the JSON name and says what happens
when the field is unset.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator

from toxicity_api.base import Document

Quantity = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True})]
Fraction = Annotated[float, Field(gt=0, lt=0.5)]
Score = Annotated[float, Field(ge=0, le=1)]
NonEmpty = Annotated[str, Field(min_length=1)]
OwnerAndName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
# a relative path; its last part is a name and neither `.` nor `..`
RelativePath = Annotated[str, Field(pattern=r"^([^/]+/)*[^/]*[^/.][^/]*$")]


def cel(rule: str, message: str) -> JsonValue:
    """One CEL validation rule of the CRD with the sentence a person reads when it refuses."""
    return {"rule": rule, "message": message}


def exactly_one(*names: str) -> dict[str, Any]:
    """The schema extension that demands exactly one of the optional fields `names`."""
    count = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in names)
    listed = ", ".join(names)
    return {"x-kubernetes-validations": [cel(f"{count} == 1", f"exactly one source must be set: {listed}")]}


class ConfigMapFile(Document):
    name: NonEmpty = Field(description="name of a ConfigMap in the resource's namespace (1 MiB at most).")
    key: NonEmpty = Field(description="key of the ConfigMap that holds the file; its suffix tells the format.")


class VolumeFile(Document):
    claim_name: NonEmpty = Field(description="claimName of a PersistentVolumeClaim in the resource's namespace.")
    path: NonEmpty = Field(description="path inside the volume, relative to its root.")


class ImageFile(Document):
    reference: NonEmpty = Field(
        description="reference of a container image that carries the data; it needs no shell."
    )
    path: NonEmpty = Field(description="path is the absolute path inside the image.", pattern="^/")


class HubModel(Document):
    repo: NonEmpty = Field(description="repo on the Hugging Face hub, `owner/name`.")
    revision: NonEmpty = Field("main", description="revision: branch, tag or commit. Unset means `main`.")
    secret_name: str | None = Field(
        None, description="secretName of a Secret with the key HF_TOKEN. Unset means anonymous access."
    )


class HubFile(Document):
    repo: OwnerAndName = Field(description="repo of a data set on the Hugging Face hub, `owner/name`.")
    revision: NonEmpty = Field("main", description="revision: branch, tag or commit. Unset means `main`.")
    file: RelativePath | None = Field(
        None, description="file: path of the CSV file in the repo. Unset means its only .csv or .csv.gz file."
    )
    secret_name: str | None = Field(
        None, description="secretName of a Secret with the key HF_TOKEN. Unset means anonymous access."
    )


class KaggleFile(Document):
    dataset: OwnerAndName = Field(description="dataset on Kaggle, `owner/name`; its newest version is taken.")
    file: RelativePath = Field(description="file: path of the CSV file in the data set.")
    secret_name: str | None = Field(
        None,
        description="secretName of a Secret with the keys KAGGLE_USERNAME and KAGGLE_KEY."
        " Unset means anonymous access.",
    )


class Split(Document):
    validation: Fraction = Field(0.1, description="validation is the share of rows for choosing the threshold.")
    test: Fraction = Field(0.1, description="test is the share of rows that only the reported figures use.")
    seed: int = Field(42, ge=0, description="seed of the stratified split.")


class DatasetSpec(Document):
    """Where the labelled comments come from: a CSV file, plain or gzip, UTF-8, with a header."""

    model_config = {
        "json_schema_extra": exactly_one("configMap", "persistentVolumeClaim", "image", "huggingFace", "kaggle")
    }

    config_map: ConfigMapFile | None = Field(None, description="configMap: the file is a key of a ConfigMap.")
    persistent_volume_claim: VolumeFile | None = Field(
        None, description="persistentVolumeClaim: the file lies in an existing volume."
    )
    image: ImageFile | None = Field(None, description="image: the file lies in a container image.")
    hugging_face: HubFile | None = Field(None, description="huggingFace: the file is downloaded from the hub.")
    kaggle: KaggleFile | None = Field(None, description="kaggle: the file is downloaded from Kaggle.")
    text_column: NonEmpty = Field("comment", description="textColumn names the column with the comment.")
    label_column: NonEmpty = Field("toxic", description="labelColumn names the column with 1 (toxic) or 0.")
    split: Split = Field(default_factory=Split, description="split into train, validation and test rows.")


class BaseModelSpec(Document):
    """The instruct or base LLM that is fine-tuned: a Hugging Face folder with safetensors and a tokenizer."""

    model_config = {"json_schema_extra": exactly_one("huggingFace", "persistentVolumeClaim", "image")}

    hugging_face: HubModel | None = Field(None, description="huggingFace: the model is downloaded from the hub.")
    persistent_volume_claim: VolumeFile | None = Field(
        None, description="persistentVolumeClaim: the model folder lies in an existing volume."
    )
    image: ImageFile | None = Field(None, description="image: the model folder lies in a container image.")


class Resources(Document):
    requests: dict[str, Quantity] = Field(default_factory=dict, description="requests as in a container.")
    limits: dict[str, Quantity] = Field(default_factory=dict, description="limits as in a container.")


class Toleration(Document):
    key: str | None = Field(None, description="key of the taint. Unset with operator Exists matches all.")
    operator: Literal["Exists", "Equal"] = Field("Equal", description="operator relates key and value.")
    value: str | None = Field(None, description="value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="effect of the taint. Unset matches every effect."
    )


class PodFields(Document):
    """The few pod fields that a person sets per stage."""

    resources: Resources = Field(default_factory=Resources, description="resources of the stage's container.")
    gpus: int = Field(1, ge=0, description="gpus (nvidia.com/gpu) the pod asks for; 0 runs on CPU.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="nodeSelector of the pod.")
    tolerations: list[Toleration] = Field(default_factory=list, description="tolerations of the pod.")


class JobFields(PodFields):
    backoff_limit: int = Field(
        2, ge=0, description="backoffLimit: restarts of a crashed pod; bad input is never retried."
    )
    active_deadline_seconds: int = Field(
        21600, ge=60, description="activeDeadlineSeconds after which the Job has failed."
    )


class Labels(Document):
    """The words the model is taught to answer with; their first tokens must differ."""

    toxic: NonEmpty = Field(" да", description="toxic is the answer for a toxic comment, with its leading space.")
    non_toxic: NonEmpty = Field(" нет", description="nonToxic is the answer for a harmless comment.")


class Lora(Document):
    r: int = Field(16, ge=1, le=512, description="r is the rank of the adapter.")
    alpha: int = Field(32, ge=1, description="alpha scales the adapter by alpha / r.")
    dropout: float = Field(0.05, ge=0, lt=1, description="dropout on the adapter's input.")
    bias: Literal["none", "all", "lora_only"] = Field("none", description="bias terms that are trained.")
    target_modules: list[str] = Field(
        default_factory=lambda: ["all-linear"],
        min_length=1,
        description="targetModules by name; the single entry `all-linear` means every linear layer.",
    )
    init_weights: Literal["default", "gaussian"] = Field("default", description="initWeights of the adapter.")


SHORTEST_INPUT, LONGEST_INPUT = 16, 8192
"""Bounds of maxInputLength in tokens, also of what `auto` comes to."""
INPUT_MESSAGE = f"maxInputLength must be a number of tokens from {SHORTEST_INPUT} to {LONGEST_INPUT}, or auto"

TokenLimit = Annotated[
    int | Literal["auto"],
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "x-kubernetes-validations": [
                cel(
                    f"type(self) == int ? self >= {SHORTEST_INPUT} && self <= {LONGEST_INPUT} : self == 'auto'",
                    INPUT_MESSAGE,
                )
            ],
        }
    ),
]


class TrainingSpec(JobFields):
    """LoRA fine-tuning of the base model."""

    engine: Literal["trainer", "loop"] = Field(
        "trainer", description="engine: the Hugging Face Trainer, or our own PyTorch loop with equal results."
    )
    prompt_template: str = Field(
        "токсичный текст: {text}\nответ:",
        pattern=r"\{text\}",
        description="promptTemplate with the placeholder {text}; the label follows it.",
    )
    labels: Labels = Field(default_factory=Labels, description="labels the model answers with.")
    lora: Lora = Field(default_factory=Lora, description="lora adapter, passed through to PEFT.")
    epochs: float = Field(1.0, gt=0, le=100, description="epochs over the training rows.")
    learning_rate: float = Field(3e-4, gt=0, le=1, description="learningRate at its peak.")
    scheduler: Literal["cosine", "linear", "constant"] = Field("cosine", description="scheduler of the rate.")
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="warmupRatio of all steps.")
    batch_size: int = Field(8, ge=1, description="batchSize in rows.")
    gradient_accumulation_steps: int = Field(1, ge=1, description="gradientAccumulationSteps per update.")
    max_input_length: TokenLimit = Field(
        256,
        description="maxInputLength of a prompt in tokens; `auto` is the 98th percentile of the training rows.",
    )
    max_target_length: int = Field(
        5, ge=1, le=64, description="maxTargetLength in tokens that a label may have; a longer one is refused."
    )
    load4bit: bool | None = Field(
        None,
        alias="load4bit",
        description="load4bit: the base model in 4 bit (bitsandbytes). Unset means on a GPU only.",
    )
    gradient_checkpointing: bool = Field(
        False, description="gradientCheckpointing: recompute activations, less memory for more time."
    )
    checkpoint_steps: int = Field(
        50, ge=1, description="checkpointSteps between checkpoints, from which a killed pod goes on."
    )
    max_samples: int | None = Field(
        None, ge=32, description="maxSamples of the whole data set, drawn stratified. Unset means all rows."
    )
    max_evaluation_samples: int | None = Field(
        None, ge=8, description="maxEvaluationSamples of validation and of test each. Unset means all rows."
    )
    seed: int = Field(42, ge=0, description="seed of initialisation and data order.")

    @field_validator("max_input_length")
    @classmethod
    def _bounded(cls, value: int | str) -> int | str:
        """The bounds that the schema states as a rule, since a union has none of its own."""
        if isinstance(value, int) and not SHORTEST_INPUT <= value <= LONGEST_INPUT:
            raise ValueError(INPUT_MESSAGE)
        return value

    @property
    def max_input_tokens(self) -> int:
        """maxInputLength as a number. Raises ValueError while it is still `auto`."""
        if isinstance(self.max_input_length, str):
            raise ValueError("maxInputLength is auto: it is known only once the training rows are read")
        return self.max_input_length

    @property
    def loads_4bit(self) -> bool:
        """load4bit, or what it is when unset."""
        return self.gpus > 0 if self.load4bit is None else self.load4bit


class QuantizationSpec(JobFields):
    """Post-training quantization of the merged model's linear layers to 4 bit by AWQ."""

    method: Literal["awq", "none"] = Field("awq", description="method; `none` serves the merged weights.")
    backend: Literal["llm-compressor"] = Field(
        "llm-compressor", description="backend that runs AWQ; writes compressed-tensors W4A16."
    )
    bits: Literal[4] = Field(4, description="bits per weight.")
    group_size: Literal[32, 64, 128] = Field(128, description="groupSize of weights that share a scale.")
    calibration_samples: int = Field(32, ge=8, le=1024, description="calibrationSamples from the training split.")
    calibration_length: int = Field(64, ge=16, le=4096, description="calibrationLength of each in tokens.")


class QualityGate(Document):
    """The figures a model must reach before it may serve. Unset bounds do not gate."""

    metric: Literal["toxicF1", "macroF1"] = Field("toxicF1", description="metric the bounds are about.")
    min_f1: Score | None = Field(None, description="minF1 the model to be served must reach on the test split.")
    max_f1_drop: Score | None = Field(None, description="maxF1Drop that quantization may cost.")


class Autoscaling(Document):
    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel("self.minReplicas <= self.maxReplicas", "minReplicas must not be above maxReplicas")
            ]
        }
    }

    min_replicas: int = Field(1, ge=1, description="minReplicas the HorizontalPodAutoscaler keeps.")
    max_replicas: int = Field(2, ge=1, description="maxReplicas the HorizontalPodAutoscaler may start.")
    metric: Literal["cpu"] = Field("cpu", description="metric that is held at the target.")
    target: int = Field(80, ge=1, description="target: average CPU use in per cent of the pod's request.")


class ServingSpec(PodFields):
    """vLLM behind FastAPI, one Service in the cluster."""

    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel(
                    "!(has(self.replicas) && has(self.autoscaling))",
                    "replicas and autoscaling exclude each other: set one of them",
                )
            ]
        }
    }

    threshold: Score | None = Field(
        None, description="threshold of the toxic score. Unset means the one chosen on the validation split."
    )
    max_num_seqs: int = Field(64, ge=1, description="maxNumSeqs the engine batches.")
    max_model_len: int = Field(
        512, ge=32, description="maxModelLen in tokens; longer texts are truncated, flagged."
    )
    kv_cache_dtype: Literal["auto", "fp8"] = Field("auto", description="kvCacheDtype of the engine.")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="gpuMemoryUtilization of the engine.")
    autoscaling: Autoscaling | None = Field(
        None, description="autoscaling by a HorizontalPodAutoscaler, which then owns the replicas."
    )
    replicas: int | None = Field(None, ge=0, description="replicas without autoscaling. Unset means 1.")
    strategy: Literal["RollingUpdate", "Recreate"] = Field(
        "RollingUpdate", description="strategy of a roll-out; Recreate where one GPU must be handed over."
    )


class Slo(Document):
    p95_seconds: float = Field(1.0, gt=0, description="p95Seconds a request may take.")
    rps: float | None = Field(None, gt=0, description="rps the service must carry. Unset means requestedRps.")


class LoadTestSpec(PodFields):
    """A paced load test from inside the cluster, one run per length bucket."""

    gpus: Literal[0] = Field(0, description="gpus: the load generator uses none.")
    enabled: bool = Field(True, description="enabled; false skips the load test.")
    users: int = Field(16, ge=1, le=1024, description="users that together offer requestedRps.")
    requested_rps: float = Field(10.0, gt=0, le=10000, description="requestedRps offered by all users together.")
    bucket_step: int = Field(100, ge=1, description="bucketStep: width of a length bucket in characters.")
    max_length: int = Field(1100, ge=1, description="maxLength of the longest bucket in characters.")
    seconds_per_bucket: int = Field(30, ge=1, le=3600, description="secondsPerBucket that are measured.")
    warmup_seconds: int = Field(5, ge=0, le=600, description="warmupSeconds before the first bucket, not counted.")
    slo: Slo = Field(default_factory=Slo, description="slo the conclusions are drawn against.")
    run_id: str = Field(
        "1", min_length=1, max_length=63, description="runId: change it to run the load test again."
    )
    active_deadline_seconds: int = Field(
        3600, ge=60, description="activeDeadlineSeconds after which the Job has failed."
    )


AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]


def _one_node() -> list[AccessMode]:
    return ["ReadWriteOnce"]


class StorageSpec(Document):
    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel("self == oldSelf", "storage cannot be changed: the volume is made once")
            ]
        }
    }

    storage_class_name: str | None = Field(None, description="storageClassName. Unset means the default class.")
    size: Quantity = Field("20Gi", description="size of the artifact volume.")
    access_modes: list[AccessMode] = Field(
        default_factory=_one_node,
        min_length=1,
        description="accessModes of the artifact volume.",
    )
    claim_name: str | None = Field(None, description="claimName of an existing claim. Unset creates one.")


class ImagesSpec(Document):
    """Overrides per stage; the operator's chart sets the defaults."""

    training: str | None = Field(None, description="training image.")
    quantization: str | None = Field(None, description="quantization image.")
    serving: str | None = Field(None, description="serving image.")
    loadtest: str | None = Field(None, description="loadtest image.")


class ToxicityModelSpec(Document):
    """A Russian toxicity classifier, from data to served and measured traffic."""

    dataset: DatasetSpec = Field(description="dataset of labelled comments.")
    base_model: BaseModelSpec = Field(description="baseModel that is fine-tuned.")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="training of the LoRA adapter.")
    quantization: QuantizationSpec = Field(
        default_factory=QuantizationSpec, description="quantization of the merged model."
    )
    quality_gate: QualityGate = Field(default_factory=QualityGate, description="qualityGate before serving.")
    serving: ServingSpec = Field(default_factory=ServingSpec, description="serving over HTTP.")
    load_test: LoadTestSpec = Field(default_factory=LoadTestSpec, description="loadTest of the served model.")
    storage: StorageSpec = Field(default_factory=StorageSpec, description="storage of the artifacts.")
    images: ImagesSpec = Field(default_factory=ImagesSpec, description="images that replace the defaults.")
