"""Scores the validation and test splits with a Transformers model and computes its metrics.

The training and quantization stages both measure with `measure`, so their metrics are comparable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from toxicity_api.results import Metrics
from toxicity_api.spec import TrainingSpec
from toxicity_training.dataset import Example
from toxicity_training.evaluation.distort import distort
from toxicity_training.evaluation.intervals import f1_intervals
from toxicity_training.evaluation.metrics import (
    Bin,
    BucketFigures,
    FamilyFigures,
    by_family,
    by_length,
    choose_threshold,
    count_confusion,
    decide,
    evaluate_scores,
    reliability,
)
from toxicity_training.evaluation.misspell import misspell
from toxicity_training.evaluation.scoring import scores_of
from toxicity_training.evaluation.tables import describe_metrics, family_table, length_table


@dataclass(frozen=True)
class Evaluation:
    """A model's results on the test split.

    `texts`, `scores` (p(toxic) in [0, 1]) and `labels` (True for toxic) are in the order of the split.
    """

    metrics: Metrics
    texts: list[str]
    scores: list[float]
    labels: list[bool]
    buckets: list[BucketFigures]
    families: list[FamilyFigures]
    reliability: list[Bin]


def measure(
    model: Any,
    tokenizer: Any,
    validation: Sequence[Example],
    test: Sequence[Example],
    spec: TrainingSpec,
    say: Callable[[str], None],
) -> Evaluation:
    """Metrics on `test` at the threshold with the best F1 on `validation`; progress and results go to `say`.

    Each model gets its own threshold: quantization preserves the order of the scores better than their scale.
    The same threshold is applied to two copies of `test`, distorted and misspelled. Raises DatasetError unless both
    splits have both labels.
    """
    started = time.monotonic()
    texts, labels = [e.text for e in test], [e.toxic for e in test]
    misspelled = [misspell(text, spec.seed) for text in texts]
    parts = [
        [e.text for e in validation],
        texts,
        [distort(text, spec.seed) for text in texts],
        [text for text, _ in misspelled],
    ]
    say(f"scoring {sum(map(len, parts))} texts: validation, and test in three spellings")
    scored = iter(scores_of(model, tokenizer, [text for part in parts for text in part], spec))
    seen, scores, on_distorted, on_misspelled = (list(islice(scored, len(part))) for part in parts)
    threshold = choose_threshold(seen, [e.toxic for e in validation])
    of_distorted = f1_intervals(decide(on_distorted, threshold), labels, spec.seed).f1
    robustness = {
        "distorted_f1": count_confusion(on_distorted, labels, threshold).f1,
        "distorted_f1_low": of_distorted[0],
        "distorted_f1_high": of_distorted[1],
        "misspelled_f1": count_confusion(on_misspelled, labels, threshold).f1,
    }
    evaluation = Evaluation(
        metrics=evaluate_scores(scores, labels, threshold, seed=spec.seed).model_copy(update=robustness),
        texts=texts,
        scores=scores,
        labels=labels,
        buckets=by_length(scores, labels, [len(text) for text in texts], threshold),
        families=by_family([family for _, family in misspelled], scores, on_misspelled, labels, threshold),
        reliability=reliability(scores, labels),
    )
    say(f"evaluated {len(texts)} rows in {time.monotonic() - started:.0f} s, threshold {threshold:.3f}")
    tables = [*length_table(evaluation.buckets), *family_table(evaluation.families)]
    for line in [*describe_metrics(evaluation.metrics), *tables]:
        say(line)
    return evaluation
