"""The figures of a model, measured in one way before and after quantization; the last step of both model stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from toxicity_api.results import Metrics
from toxicity_api.spec import TrainingSpec
from toxicity_training.data import Example
from toxicity_training.distort import distort
from toxicity_training.evaluate import (
    Bin,
    BucketFigures,
    by_length,
    choose_threshold,
    count_confusion,
    evaluate_scores,
    reliability,
)
from toxicity_training.scoring import score_texts

EVALUATION_BATCH = 16


@dataclass(frozen=True)
class Evaluation:
    """A model on the test split. `scores` are p(toxic) in [0, 1] and `labels` say toxic, in the split's order."""

    metrics: Metrics
    scores: list[float]
    labels: list[bool]
    buckets: list[BucketFigures]
    reliability: list[Bin]


def measure(
    model: Any,
    tokenizer: Any,
    validation: Sequence[Example],
    test: Sequence[Example],
    spec: TrainingSpec,
    say: Callable[[str], None],
) -> Evaluation:
    """Figures on `test` at the threshold that is best for this model on `validation`; told through `say`.

    Each model has a threshold of its own: quantization keeps the order of the scores far better than their scale.
    The same threshold is then held against a copy of `test` with distorted spelling. Raises DatasetError unless
    both splits have both labels.
    """

    def score(name: str, texts: Sequence[str]) -> list[float]:
        say(f"scores {len(texts)} rows of {name}")
        return score_texts(
            model,
            tokenizer,
            texts,
            template=spec.prompt_template,
            labels=spec.labels,
            max_tokens=spec.max_input_tokens,
            batch_size=EVALUATION_BATCH,
        )

    started = time.monotonic()
    threshold = choose_threshold(score("validation", [e.text for e in validation]), [e.toxic for e in validation])
    texts, labels = [e.text for e in test], [e.toxic for e in test]
    scores = score("test", texts)
    metrics = evaluate_scores(scores, labels, threshold, seed=spec.seed)
    distorted = count_confusion(
        score("test, misspelt", [distort(text, spec.seed) for text in texts]), labels, threshold
    )
    evaluation = Evaluation(
        metrics=metrics.model_copy(update={"distorted_f1": distorted.f1}),
        scores=scores,
        labels=labels,
        buckets=by_length(scores, labels, [len(text) for text in texts], threshold),
        reliability=reliability(scores, labels),
    )
    say(f"evaluated {len(texts)} rows in {time.monotonic() - started:.0f} s, threshold {threshold:.3f}")
    for line in [*describe_metrics(evaluation.metrics), *length_table(evaluation.buckets)]:
        say(line)
    return evaluation


def describe_metrics(metrics: Metrics) -> list[str]:
    """The figures in lines that fit a terminal of 80 columns behind the stage's name."""
    return [
        f"F1 {_figure(metrics.f1)} (95 %: {_figure(metrics.f1_low)} to {_figure(metrics.f1_high)}),"
        f" on distorted spelling {_figure(metrics.distorted_f1)}",
        f"macro F1 {_figure(metrics.macro_f1)}, ROC-AUC {_figure(metrics.roc_auc)},"
        f" PR-AUC {_figure(metrics.pr_auc)}, ECE {_figure(metrics.calibration_error)}",
    ]


def length_table(buckets: Sequence[BucketFigures]) -> list[str]:
    """A header and a line for each bucket that has rows, as narrow as the lines above."""
    lines = [f"{'characters':<12}{'rows':>7}{'toxic':>7}{'F1':>8}{'precision':>11}{'recall':>8}"]
    for bucket in buckets:
        if bucket.rows:
            lines.append(
                f"{bucket.name:<12}{bucket.rows:>7}{bucket.toxic:>7}{_figure(bucket.f1):>8}"
                f"{_figure(bucket.precision):>11}{_figure(bucket.recall):>8}"
            )
    return lines


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
