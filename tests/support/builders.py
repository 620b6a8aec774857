"""Builders of test resources: `a_model().with_spec("training.epochs", 2.0).raw()`."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from toxicity_api.base import API_GROUP, API_VERSION, KIND
from toxicity_api.normal_form import NORMAL_FORM_VERSION
from toxicity_api.progress import Progress
from toxicity_api.results import (
    DropFigures,
    EngineFigures,
    EvaluationResult,
    Metrics,
    QuantizationResult,
    StageResult,
    TrainingResult,
)
from toxicity_operator.model import Model, read_model
from toxicity_operator.settings import Images, OperatorSettings

NOW = "2030-01-01T00:00:00Z"
SETTINGS = OperatorSettings(
    Images("train-image:1", "quantize-image:1", "autoawq-image:1", "serve-image:1", "loadtest-image:1")
)

SPEC: dict[str, Any] = {
    "dataset": {"image": {"reference": "dataset-image:1", "path": "/dataset/comments.csv"}},
    "baseModel": {"image": {"reference": "base-model-image:1", "path": "/model"}},
    "training": {"gpus": 0, "resources": {"limits": {"cpu": "1500m", "memory": "8Gi"}}},
    "quantization": {"gpus": 0},
    "serving": {"gpus": 0, "resources": {"limits": {"cpu": 2, "memory": "8Gi"}}},
    "qualityGate": {"minF1": 0.5, "maxF1Drop": 0.2},
}


@dataclass(frozen=True)
class ModelBuilder:
    """A resource as a person would apply it; every `with_` gives a changed copy."""

    name: str = "ru-toxicity"
    namespace: str = "default"
    uid: str = "uid-1"
    generation: int = 1
    spec: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(SPEC))

    def with_spec(self, path: str, value: Any) -> ModelBuilder:
        """Sets the field at a dotted path; None removes it."""
        spec = copy.deepcopy(self.spec)
        *parents, last = path.split(".")
        node = spec
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
        return ModelBuilder(self.name, self.namespace, self.uid, self.generation, spec)

    def raw(self) -> dict[str, Any]:
        """The resource as the API server returns it."""
        return {
            "apiVersion": f"{API_GROUP}/{API_VERSION}",
            "kind": KIND,
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": self.uid,
                "generation": self.generation,
            },
            "spec": copy.deepcopy(self.spec),
        }

    def build(self) -> Model:
        """The resource as the operator sees it."""
        return read_model(self.raw())


def a_model() -> ModelBuilder:
    """A CPU model from images, with the quality gate set and no autoscaling."""
    return ModelBuilder()


def metrics(f1: float = 0.9, **changes: float) -> Metrics:
    """Plausible figures on 100 test rows."""
    values: dict[str, Any] = {
        "f1": f1, "macro_f1": f1 - 0.01, "precision": 0.88, "recall": 0.92, "roc_auc": 0.96, "threshold": 0.4375,
        "test_samples": 100,
    }  # fmt: skip
    return Metrics(**(values | changes))


def progress(step: int, **changes: float) -> Progress:
    """How far a training of 70 steps is; figures as a log line has them."""
    values: dict[str, Any] = {"epoch": step / 50, "loss": 0.2312, "seconds_left": 3 * (70 - step)}
    return Progress(step=step, steps=70, **(values | changes))


def training_result(fingerprint: str, f1: float = 0.9) -> StageResult:
    """What a training Job says when it is done."""
    training = TrainingResult(
        metrics=metrics(f1), train_samples=800, loss=0.31, duration_seconds=61.5, normal_form=NORMAL_FORM_VERSION
    )
    return StageResult(stage="train", fingerprint=fingerprint, outcome="succeeded", training=training)


def drop_figures(drop: float, spread: float = 0.02) -> DropFigures:
    """What quantization cost, with an interval of `spread` to both sides."""
    return DropFigures(
        f1_drop=drop, f1_drop_low=drop - spread, f1_drop_high=drop + spread,
        macro_f1_drop=drop, macro_f1_drop_low=drop - spread, macro_f1_drop_high=drop + spread, agreement=0.97,
    )  # fmt: skip


def evaluation_result(
    fingerprint: str, f1: float = 0.88, drop: float | None = 0.02, **changes: float
) -> StageResult:
    """What an evaluation Job says when it is done; `drop` is None without quantization."""
    speed = {"load_seconds": 60.0, "texts_per_second": 12.0, "memory_bytes": 3 << 30}
    evaluation = EvaluationResult(
        engine="vllm 0.32.0",
        metrics=metrics(f1, f1_low=f1 - 0.05, f1_high=f1 + 0.05, **changes),
        figures=EngineFigures(weights="native-4bit", **speed),
        original_metrics=None if drop is None else metrics(f1 + drop),
        original_figures=None
        if drop is None
        else EngineFigures(weights="unquantized", load_seconds=50.0, texts_per_second=20.0, memory_bytes=4 << 30),
        drop=None if drop is None else drop_figures(drop),
        duration_seconds=150.0,
    )
    return StageResult(stage="evaluate", fingerprint=fingerprint, outcome="succeeded", evaluation=evaluation)


def quantization_result(fingerprint: str, f1: float = 0.88, drop: float = 0.02) -> StageResult:
    """What a quantization Job says when it is done."""
    quantization = QuantizationResult(
        metrics=metrics(f1), f1_drop=drop, macro_f1_drop=drop, size_bytes=300, original_size_bytes=1000,
        method="awq", backend="llm-compressor", duration_seconds=30.0, quantized_layers=126, kept_layers=1,
        mean_error=0.10341, max_error=0.17259, calibration_samples=32, calibration_hash="5a" * 32,
    )  # fmt: skip
    return StageResult(stage="quantize", fingerprint=fingerprint, outcome="succeeded", quantization=quantization)
