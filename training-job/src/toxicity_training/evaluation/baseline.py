"""A baseline for the language model: n-grams and logistic regression on the same rows.

TF-IDF as in scikit-learn's user guide (smoothed idf, unit length), with 1 + log(count) for the counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.normal_form import NORMAL_FORM_VERSION
from toxicity_api.normal_form.form import normalise_text
from toxicity_api.results import Metrics
from toxicity_training.dataset import Example
from toxicity_training.evaluation.metrics import choose_threshold, evaluate_scores

STRENGTHS = (1.0, 4.0, 16.0, 64.0)
"""Candidates for the regression's C (inverse regularisation strength), chosen on validation."""


class BaselineResult(Document):
    metrics: Metrics = Field(description="metrics on the test rows.")
    train_samples: int = Field(description="trainSamples it was fitted on.")
    c: float = Field(description="c of the logistic regression, chosen on validation.")
    duration_seconds: float = Field(description="durationSeconds of fitting and scoring.")


@dataclass(frozen=True)
class _Fit:
    """A fitted regression with its threshold and its average precision on validation."""

    c: float
    model: Any
    threshold: float
    precision: float


def measure_baseline(
    train: Sequence[Example],
    validation: Sequence[Example],
    test: Sequence[Example],
    *,
    normal_form: int = NORMAL_FORM_VERSION,
) -> BaselineResult:
    """Metrics on `test`. C maximises average precision on `validation`, the threshold F1.

    The texts are read in the version `normal_form` of their normal form, as the compared model reads them. Raises
    DatasetError unless validation and test have both labels.
    """
    started = time.monotonic()
    features = build_features()
    fitted = features.fit_transform(_texts(train, normal_form))
    seen, unseen = (features.transform(_texts(part, normal_form)) for part in (validation, test))
    fits = [_fit(c, fitted, _labels(train), seen, _labels(validation)) for c in STRENGTHS]
    best = max(fits, key=lambda fit: fit.precision)
    return BaselineResult(
        metrics=evaluate_scores(_scores(best.model, unseen), _labels(test), best.threshold),
        train_samples=len(train),
        c=best.c,
        duration_seconds=round(time.monotonic() - started, 1),
    )


def build_features() -> Any:
    """TF-IDF of word n-grams (1-2) and of character n-grams (2-5, within word boundaries), concatenated."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return make_union(words, characters)


def _fit(c: float, fitted: Any, labels: list[bool], seen: Any, truth: list[bool]) -> _Fit:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score

    model = LogisticRegression(C=c, solver="liblinear", random_state=0).fit(fitted, labels)
    scores = _scores(model, seen)
    threshold = choose_threshold(scores, truth)
    return _Fit(c, model, threshold, float(average_precision_score(truth, scores)))


def _scores(model: Any, features: Any) -> list[float]:
    return [float(score) for score in model.predict_proba(features)[:, 1]]


def _texts(examples: Sequence[Example], normal_form: int) -> list[str]:
    return [normalise_text(example.text, normal_form) for example in examples]


def _labels(examples: Sequence[Example]) -> list[bool]:
    return [example.toxic for example in examples]
