"""The JSON document that each stage container gets in the environment variable STAGE_CONFIG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from toxicity_api.base import Document, DocumentT, read_document
from toxicity_api.results import Metrics
from toxicity_api.spec import (
    HttpSpec,
    Labels,
    LoadTestSpec,
    LongTexts,
    ObjectStore,
    QuantizationSpec,
    Score,
    Split,
    ThresholdSpec,
    TrainingSpec,
)

STAGE_CONFIG_VARIABLE = "STAGE_CONFIG"

COMPILED_FILE = "compiled.zip"
"""File in the evaluation's folder with the code that the engine compiled for the served weights."""

SHOWN_LENGTH = 80
"""Maximum number of characters of an invalid value in a message."""


class StageConfigError(ValueError):
    """STAGE_CONFIG is missing or invalid. The message names the field and what to do."""


def parse_stage_config(kind: type[DocumentT], environment: Mapping[str, str]) -> DocumentT:
    """Read STAGE_CONFIG, which an operator of another version may have written. Raises StageConfigError."""
    text = environment.get(STAGE_CONFIG_VARIABLE)
    if text is None:
        raise StageConfigError(f"{STAGE_CONFIG_VARIABLE} is missing: set it to the JSON of a {kind.__name__}")
    try:
        return read_document(kind, text, STAGE_CONFIG_VARIABLE)
    except ValidationError as error:
        problems = "; ".join(
            f"{STAGE_CONFIG_VARIABLE}.{'.'.join(map(str, item['loc']))}: {item['msg']}, not"
            f" {str(item['input'])[:SHOWN_LENGTH]!r}"
            for item in error.errors()
        )
        raise StageConfigError(
            f"{problems}. The image and the operator are of different releases: use the same release for both"
        ) from error


class Retention(Document):
    """What a stage keeps of a model's artifacts when it removes old results."""

    keep: list[str] = Field(default_factory=list, description="folders that stay: served, restorable or requested")
    versions: int = Field(2, ge=1, description="number of results of each stage that stay, with those of `keep`")


class InputFolder(Document):
    """A folder of an earlier stage that a pod reads, and the files and folders of it; empty means all."""

    path: Path
    parts: list[str] = Field(default_factory=list)


def _folders(parts: Iterable[tuple[Path, str]]) -> list[InputFolder]:
    """Return each folder once, with all its parts."""
    found: dict[Path, list[str]] = {}
    for folder, part in parts:
        found.setdefault(folder, []).append(part)
    return [InputFolder(path=folder, parts=names) for folder, names in found.items()]


OWNER_DESCRIPTION = "UID of the ToxicityModel, recorded with what is uploaded; empty on a volume"
STORE_DESCRIPTION = "where `artifacts` is downloaded from and uploaded to; None means that it is a volume"


class TrainingConfig(Document):
    model: str = Field(description="name of the ToxicityModel, for logs")
    fingerprint: str
    artifacts: Path = Path("/artifacts")
    dataset_path: Path
    text_column: str
    label_column: str
    split: Split
    base_model_path: Path
    training: TrainingSpec
    retention: Retention | None = None
    dataset: str = Field("", description="name of the data set, for the model card")
    base_model: str = Field("", description="name of the base model, for the model card")
    object_store: ObjectStore | None = Field(None, description=STORE_DESCRIPTION)
    owner: str = Field("", description=OWNER_DESCRIPTION)

    @property
    def inputs(self) -> list[InputFolder]:
        return []

    @property
    def output_dir(self) -> Path:
        return self.artifacts / f"train-{self.fingerprint}"


class QuantizationConfig(Document):
    model: str
    fingerprint: str
    artifacts: Path = Path("/artifacts")
    training_fingerprint: str
    training: TrainingSpec
    quantization: QuantizationSpec
    retention: Retention | None = None
    object_store: ObjectStore | None = Field(None, description=STORE_DESCRIPTION)
    owner: str = Field("", description=OWNER_DESCRIPTION)

    @property
    def inputs(self) -> list[InputFolder]:
        return [InputFolder(path=self.input_dir)]

    @property
    def input_dir(self) -> Path:
        return self.artifacts / f"train-{self.training_fingerprint}"

    @property
    def output_dir(self) -> Path:
        return self.artifacts / f"quantize-{self.fingerprint}"


class CompiledCode(Document):
    """Zip file with the code that the engine compiled for a model. Its sha256 comes from the status, not the volume."""

    path: Path
    sha256: str


class EngineConfig(Document):
    """Settings to load a model folder into the serving engine, the same for evaluation and serving."""

    model: str
    fingerprint: str = Field(description="fingerprint of the stage that made the weights")
    model_dir: Path
    prompt_template: str
    labels: Labels
    max_model_len: int = 512
    long_texts: LongTexts = "window"
    max_num_seqs: int = 64
    kv_cache_dtype: str = "auto"
    gpu_memory_utilization: float = 0.9
    enforce_eager: bool = False
    gpus: int = 0


class ServingConfig(EngineConfig):
    threshold: Score
    metrics: Metrics | None = None
    base_model: str = ""
    queue_limit: int = 256
    http: HttpSpec = Field(default_factory=HttpSpec)
    start_seconds: int = 900
    compiled: CompiledCode | None = Field(
        None, description="code that the evaluation compiled; None means that the engine compiles"
    )
    artifacts: Path = Path("/artifacts")
    report_dirs: list[Path] = Field(
        default_factory=list,
        description="stage folders whose plots and tables the page shows; a later folder takes precedence",
    )
    port: int = 8000


class HeldOutConfig(Document):
    """A test set that the evaluation reads, as evaluation.testSets describes it."""

    name: str
    path: Path
    text_column: str
    label_column: str


class EvaluationConfig(Document):
    model: str
    fingerprint: str
    artifacts: Path = Path("/artifacts")
    served: EngineConfig = Field(description="the weights to be served")
    original: EngineConfig | None = Field(
        None, description="the merged weights before quantization; None without quantization"
    )
    splits_dir: Path = Field(description="folder with the splits that the training stage wrote")
    seed: int = Field(description="random seed of the bootstrap")
    retention: Retention | None = None
    threshold: ThresholdSpec = Field(default_factory=ThresholdSpec, description="goal of the threshold")
    test_sets: list[HeldOutConfig] | None = Field(None, description="further test sets; None without one")
    object_store: ObjectStore | None = Field(None, description=STORE_DESCRIPTION)
    owner: str = Field("", description=OWNER_DESCRIPTION)

    @property
    def inputs(self) -> list[InputFolder]:
        """The models and the splits. The training's folder can be both."""
        models = [engine.model_dir for engine in (self.served, self.original) if engine is not None]
        return _folders((path.parent, path.name) for path in [*models, self.splits_dir])

    @property
    def output_dir(self) -> Path:
        return self.artifacts / f"evaluate-{self.fingerprint}"


class LoadTestConfig(Document):
    model: str = Field(description="name of the ToxicityModel whose status is written")
    namespace: str
    fingerprint: str
    url: str = Field(description="base URL of the Service, without a path")
    artifacts: Path = Path("/artifacts")
    texts_path: Path = Field(description="CSV of the test split with the columns text,label")
    serving_deployment: str = Field(description="name of the Deployment whose ready replicas are recorded")
    serving_fingerprint: str = Field(
        "", description="fingerprint of the served version; figures of other versions are not compared"
    )
    master_host: str = Field(
        "127.0.0.1", description="host where workers reach the master; used with several workers"
    )
    master_port: int = 5557
    seed: int = 42
    trace_path: Path | None = Field(None, description="file of loadTest.trace; None without one")
    tokenizer_path: Path | None = Field(
        None, description="tokenizer.json of the served model; None if lengths are in characters"
    )
    load_test: LoadTestSpec
    object_store: ObjectStore | None = Field(None, description=STORE_DESCRIPTION)
    owner: str = Field("", description=OWNER_DESCRIPTION)

    @property
    def inputs(self) -> list[InputFolder]:
        """The texts, and the tokenizer if lengths are in tokens."""
        files = [path for path in (self.texts_path, self.tokenizer_path) if path is not None]
        return _folders((path.parents[1], f"{path.parent.name}/{path.name}") for path in files)

    @property
    def output_dir(self) -> Path:
        return self.artifacts / f"loadtest-{self.fingerprint}"


class CacheFolder(Document):
    """The cache on the node, as a serving pod mounts it."""

    path: Path
    size_bytes: int = Field(description="maximum of all files in it, those of other models included")


class FetchConfig(Document):
    """What a serving pod downloads before the server starts, and adds while it runs."""

    object_store: ObjectStore
    artifacts: Path = Path("/artifacts")
    inputs: list[InputFolder] = Field(default_factory=list)
    watched: str = Field("loadtest", description="component whose new artifacts are added while the server runs")
    watched_parts: list[str] = Field(default_factory=list, description="files of the new artifacts")
    cache: CacheFolder | None = Field(
        None, description="cache on the node; None means that all files come from the store"
    )
