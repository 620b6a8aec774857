"""Each figure of a stage's result stands in the field of its name: all values differ, so that swapped fields show."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import a_model, evaluation_result, training_result
from support.operator.pipeline import conditions, drive, message, settle, status
from toxicity_api.results import (
    DropFigures,
    EngineFigures,
    EvaluationResult,
    HeldOutFigures,
    Metrics,
    QuantizationResult,
    StageResult,
)
from toxicity_operator import names


def distinct_metrics(first: float) -> Metrics:
    """Every figure is another one; the first is F1."""
    fields = (
        "f1", "f1_low", "f1_high", "macro_f1", "macro_f1_low", "macro_f1_high", "precision", "recall", "roc_auc",
        "pr_auc", "calibration_error", "distorted_f1", "distorted_f1_low", "distorted_f1_high",
        "misspelled_f1", "threshold",
    )  # fmt: skip
    values: dict[str, Any] = {name: round(first + index / 1000, 4) for index, name in enumerate(fields)}
    return Metrics(**values, test_samples=100)


def wire(document: Metrics | DropFigures | EngineFigures) -> dict[str, Any]:
    return document.to_wire()


SERVED, ORIGINAL = distinct_metrics(0.81), distinct_metrics(0.91)
SPEED = EngineFigures(weights="native-4bit", load_seconds=61.0, texts_per_second=12.5, memory_bytes=3_000)
ORIGINAL_SPEED = EngineFigures(weights="unquantized", load_seconds=52.0, texts_per_second=20.0, memory_bytes=4_000)
DROP = DropFigures(
    f1_drop=0.011, f1_drop_low=0.001, f1_drop_high=0.021, macro_f1_drop=0.012, macro_f1_drop_low=0.002,
    macro_f1_drop_high=0.022, agreement=0.97,
)  # fmt: skip

FORUM = HeldOutFigures(
    name="forum", rows=210, left_out=4, f1=0.7, f1_low=0.65, f1_high=0.75, macro_f1=0.71, macro_f1_low=0.66,
    macro_f1_high=0.76, roc_auc=0.82, original_f1=0.72,
)  # fmt: skip
NEWS = FORUM.model_copy(update={"name": "news", "f1": 0.5, "f1_low": 0.45, "f1_high": 0.55, "original_f1": None})


def test_evaluation_s_figures_are_those_of_the_same_name() -> None:
    cluster = drive(a_model(), 2)
    fingerprint = cluster.job("evaluate")["metadata"]["labels"][names.FINGERPRINT_LABEL]
    evaluation = EvaluationResult(
        engine="vllm 1", metrics=SERVED, figures=SPEED, original_metrics=ORIGINAL, original_figures=ORIGINAL_SPEED,
        drop=DROP, test_sets=[FORUM, NEWS], duration_seconds=150.0,
    )  # fmt: skip
    result = StageResult(stage="evaluate", fingerprint=fingerprint, outcome="succeeded", evaluation=evaluation)
    cluster.finish_job("evaluate", result)
    settle(cluster)
    found = status(cluster)["evaluation"]
    assert {key: found[key] for key in wire(SERVED)} == wire(SERVED)
    assert (found["originalF1"], found["originalMacroF1"]) == (ORIGINAL.f1, ORIGINAL.macro_f1)
    assert (found["figures"], found["originalFigures"]) == (wire(SPEED), wire(ORIGINAL_SPEED))
    assert found["drop"] == wire(DROP)
    assert found["testSets"] == [FORUM.to_wire(), NEWS.to_wire()]
    assert "F1 0.810 in vllm 1, 12.5 texts per second" in message(cluster, "Evaluated")
    assert "before quantization F1 0.910, same decision for 97.0% of the rows" in message(cluster, "Evaluated")
    assert "4-bit has 0.62 times the throughput and 0.75 times the memory" in message(cluster, "Evaluated")


@pytest.mark.parametrize(("texts_per_second", "is_advised"), [(18.9, True), (19.0, False), (25.0, False)])
def test_other_method_is_advised_where_quantization_slows_the_model_down(
    texts_per_second: float, is_advised: bool
) -> None:
    """Before quantization it answers 20 texts per second; a twentieth less does not count."""
    cluster = drive(a_model(), 2)
    fingerprint = cluster.job("evaluate")["metadata"]["labels"][names.FINGERPRINT_LABEL]
    evaluation = EvaluationResult(
        engine="vllm 1", metrics=SERVED, original_metrics=ORIGINAL, original_figures=ORIGINAL_SPEED, drop=DROP,
        figures=SPEED.model_copy(update={"texts_per_second": texts_per_second}), duration_seconds=150.0,
    )  # fmt: skip
    result = StageResult(stage="evaluate", fingerprint=fingerprint, outcome="succeeded", evaluation=evaluation)
    cluster.finish_job("evaluate", result)
    settle(cluster)
    assert ("quantization.method: none is faster" in message(cluster, "Evaluated")) is is_advised


@pytest.mark.parametrize("missing", ["original_figures", "drop"])
def test_evaluation_without_all_figures_before_quantization_is_not_compared(missing: str) -> None:
    cluster = drive(a_model(), 2)
    fingerprint = cluster.job("evaluate")["metadata"]["labels"][names.FINGERPRINT_LABEL]
    evaluation = EvaluationResult(
        engine="vllm 1", metrics=SERVED, figures=SPEED, original_metrics=ORIGINAL, original_figures=ORIGINAL_SPEED,
        drop=DROP, duration_seconds=150.0,
    ).model_copy(update={missing: None})  # fmt: skip
    result = StageResult(stage="evaluate", fingerprint=fingerprint, outcome="succeeded", evaluation=evaluation)
    cluster.finish_job("evaluate", result)
    settle(cluster)
    assert message(cluster, "Evaluated") == "F1 0.810 in vllm 1, 12.5 texts per second"


@pytest.mark.parametrize("missing", ["f1", "figures"])
def test_evaluation_of_an_earlier_operator_without_a_figure_has_succeeded(missing: str) -> None:
    cluster = drive(a_model())
    del status(cluster)["evaluation"][missing]
    cluster.remove("Job")
    settle(cluster)
    assert conditions(cluster)["Evaluated"] == ("True", "Succeeded")
    assert message(cluster, "Evaluated") == f"Job {status(cluster)['evaluation']['jobName']} succeeded"


@pytest.mark.parametrize(
    ("component", "steps", "kind"),
    [("train", 0, "Trained"), ("quantize", 1, "Quantized"), ("evaluate", 2, "Evaluated")],
)
def test_result_of_another_stage_is_no_result(component: str, steps: int, kind: str) -> None:
    cluster = drive(a_model(), steps)
    fingerprint = cluster.job(component)["metadata"]["labels"][names.FINGERPRINT_LABEL]
    other = evaluation_result(fingerprint) if component != "evaluate" else training_result(fingerprint)
    cluster.finish_job(component, other.model_copy(update={"stage": component}))
    settle(cluster)
    assert conditions(cluster)[kind] == ("False", "ResultMissing")


def test_pulled_image_is_recorded_once_the_node_reports_it() -> None:
    cluster = drive(a_model(), 0)
    assert "imageId" not in status(cluster)["training"]
    pod = cluster.objects["Pod", cluster.run_pod("train")]
    pod["status"]["containerStatuses"][0]["imageID"] = "registry/train@sha256:4f"
    settle(cluster)
    assert status(cluster)["training"]["imageId"] == "registry/train@sha256:4f"


def test_quantization_s_figures_are_those_of_the_same_name() -> None:
    cluster = drive(a_model(), 1)
    fingerprint = cluster.job("quantize")["metadata"]["labels"][names.FINGERPRINT_LABEL]
    values: dict[str, Any] = {
        "f1_drop": 0.011, "macro_f1_drop": 0.012, "size_bytes": 300, "original_size_bytes": 1000, "method": "awq",
        "backend": "llm-compressor", "duration_seconds": 30.0, "quantized_layers": 126, "kept_layers": 1,
        "mean_error": 0.1034, "max_error": 0.1726, "calibration_samples": 32, "calibration_hash": "5a" * 32,
    }  # fmt: skip
    quantization = QuantizationResult(metrics=SERVED, **values)
    result = StageResult(stage="quantize", fingerprint=fingerprint, outcome="succeeded", quantization=quantization)
    cluster.finish_job("quantize", result)
    settle(cluster)
    found, expected = status(cluster)["quantization"], quantization.to_wire()
    assert {key: found[key] for key in wire(SERVED)} == wire(SERVED)
    assert {key: found[key] for key in expected if key != "metrics"} == {
        key: value for key, value in expected.items() if key != "metrics"
    }


def test_threshold_is_recorded_with_all_of_its_digits() -> None:
    cluster = drive(a_model(), 2)
    fingerprint = cluster.job("evaluate")["metadata"]["labels"][names.FINGERPRINT_LABEL]
    exact = SERVED.model_copy(update={"threshold": 0.123456789, "f1": 0.123456789})
    evaluation = EvaluationResult(engine="vllm 1", metrics=exact, figures=SPEED, duration_seconds=1.0)
    result = StageResult(stage="evaluate", fingerprint=fingerprint, outcome="succeeded", evaluation=evaluation)
    cluster.finish_job("evaluate", result)
    settle(cluster)
    found = status(cluster)["evaluation"]
    assert (found["threshold"], found["f1"]) == (0.123456789, 0.1235)


def test_model_below_the_minimum_of_a_test_set_does_not_serve() -> None:
    test_set = {"name": "forum", "configMap": {"name": "forum", "key": "rows.csv"}, "minF1": 0.8}
    cluster = drive(a_model().with_spec("evaluation.testSets", [test_set]), 2)
    fingerprint = cluster.job("evaluate")["metadata"]["labels"][names.FINGERPRINT_LABEL]
    result = evaluation_result(fingerprint)
    assert result.evaluation is not None
    evaluation = result.evaluation.model_copy(update={"test_sets": [FORUM]})
    cluster.finish_job("evaluate", result.model_copy(update={"evaluation": evaluation}))
    settle(cluster)
    assert conditions(cluster)["QualityAccepted"] == ("False", "BelowMinimumF1")
    assert "test set forum 0.7000 (95 %: 0.6500 to 0.7500) is below" in message(cluster, "QualityAccepted")
