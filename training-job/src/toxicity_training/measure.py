"""The figures of a model, measured in one way before and after quantization; the last step of both model stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from toxicity_api.results import Metrics
from toxicity_api.spec import TrainingSpec
from toxicity_training.data import Example
from toxicity_training.evaluate import choose_threshold, evaluate_scores
from toxicity_training.scoring import score_texts

EVALUATION_BATCH = 16


def measure(
    model: Any,
    tokenizer: Any,
    validation: Sequence[Example],
    test: Sequence[Example],
    spec: TrainingSpec,
    say: Callable[[str], None],
) -> Metrics:
    """Figures on `test` at the threshold that is best for this model on `validation`; told through `say`.

    Each model has a threshold of its own: quantization keeps the order of the scores far better than their scale.
    """

    def score(examples: Sequence[Example]) -> list[float]:
        return score_texts(
            model,
            tokenizer,
            [e.text for e in examples],
            template=spec.prompt_template,
            labels=spec.labels,
            max_tokens=spec.max_input_tokens,
            batch_size=EVALUATION_BATCH,
        )

    started = time.monotonic()
    threshold = choose_threshold(score(validation), [e.toxic for e in validation])
    metrics = evaluate_scores(score(test), [e.toxic for e in test], threshold)
    say(
        f"evaluated in {time.monotonic() - started:.0f} s: F1 {metrics.f1:.3f}, macro F1 {metrics.macro_f1:.3f},"
        f" ROC-AUC {metrics.roc_auc:.3f} at threshold {metrics.threshold:.3f} on {metrics.test_samples} rows"
    )
    return metrics
