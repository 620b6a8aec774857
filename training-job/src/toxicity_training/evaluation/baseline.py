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
class Baseline:
    """A fitted regression with its threshold and its average precision on validation.

    It reads texts in the version `normal_form` of their normal form.
    """

    c: float
    features: Any
    model: Any
    threshold: float
    precision: float
    normal_form: int

    def scores(self, texts: Sequence[str]) -> list[float]:
        """p(toxic) of each text."""
        return _scores(self.model, self.features.transform(_forms(texts, self.normal_form)))


def measure_baseline(
    train: Sequence[Example],
    validation: Sequence[Example],
    test: Sequence[Example],
    *,
    normal_form: int = NORMAL_FORM_VERSION,
) -> BaselineResult:
    """Metrics on `test` of the regression that `fit_baseline` fits.

    Raises DatasetError unless validation and test have both labels.
    """
    started = time.monotonic()
    best = fit_baseline(train, validation, normal_form=normal_form)
    scores = best.scores([example.text for example in test])
    return BaselineResult(
        metrics=evaluate_scores(scores, _labels(test), best.threshold),
        train_samples=len(train),
        c=best.c,
        duration_seconds=round(time.monotonic() - started, 1),
    )


def fit_baseline(train: Sequence[Example], validation: Sequence[Example], *, normal_form: int) -> Baseline:
    """The regression whose C maximises average precision on `validation`. Its threshold maximises F1 there.

    The texts are read in the version `normal_form` of their normal form, as the compared model reads them. Raises
    DatasetError unless validation has both labels.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score

    features, truth = build_features(), _labels(validation)
    fitted = features.fit_transform(_forms([example.text for example in train], normal_form))
    seen = features.transform(_forms([example.text for example in validation], normal_form))
    found = []
    for c in STRENGTHS:
        model = LogisticRegression(C=c, solver="liblinear", random_state=0).fit(fitted, _labels(train))
        scores = _scores(model, seen)
        threshold = choose_threshold(scores, truth)
        precision = float(average_precision_score(truth, scores))
        found.append(Baseline(c, features, model, threshold, precision, normal_form))
    return max(found, key=lambda fit: fit.precision)


def build_features() -> Any:
    """TF-IDF of word n-grams (1-2) and of character n-grams (2-5, within word boundaries), concatenated."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return make_union(words, characters)


def _scores(model: Any, features: Any) -> list[float]:
    return [float(score) for score in model.predict_proba(features)[:, 1]]


def _forms(texts: Sequence[str], normal_form: int) -> list[str]:
    return [normalise_text(text, normal_form) for text in texts]


def _labels(examples: Sequence[Example]) -> list[bool]:
    return [example.toxic for example in examples]
