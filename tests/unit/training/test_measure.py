"""The measurement of a model with known scores: the texts it scores, the threshold, and the log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from toxicity_api.spec import TrainingSpec
from toxicity_training.dataset import Example
from toxicity_training.evaluation import scoring
from toxicity_training.evaluation.distort import distort
from toxicity_training.evaluation.intervals import f1_intervals
from toxicity_training.evaluation.measure import Evaluation, measure
from toxicity_training.evaluation.metrics import evaluate_scores
from toxicity_training.evaluation.misspell import misspell

SPEC = TrainingSpec(gpus=0, seed=7)
VALIDATION = [Example("дурак", True), Example("здравствуйте", False)]
TEST = [
    *[Example(f"дурак номер {i}", True) for i in range(6)],
    *[Example(f"здравствуйте, друзья {'и так далее ' * i}", False) for i in range(12)],
]
STAGE_PREFIX, TERMINAL_WIDTH = "quantization: ", 80


class WordModel:
    """Scores 0.9 for a text with its word and 0.1 otherwise; records its inputs."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def score(self, _model: Any, _tokenizer: Any, texts: Sequence[str], **options: Any) -> list[float]:
        assert options["max_tokens"] == SPEC.max_input_tokens
        self.asked.append(list(texts))
        return [0.9 if "дурак" in text else 0.1 for text in texts]


def run(monkeypatch: pytest.MonkeyPatch) -> tuple[Evaluation, WordModel, list[str]]:
    model = WordModel()
    monkeypatch.setattr(scoring, "score_texts", model.score)
    said: list[str] = []
    return measure(None, None, VALIDATION, TEST, SPEC, said.append), model, said


def copies() -> tuple[list[str], list[str], list[str]]:
    texts = [example.text for example in TEST]
    distorted = [distort(text, SPEC.seed) for text in texts]
    return texts, distorted, [misspell(text, SPEC.seed)[0] for text in texts]


def test_measure_scores_validation_and_the_three_forms_of_test(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, _ = run(monkeypatch)
    texts, distorted, misspelled = copies()
    assert model.asked == [["дурак", "здравствуйте", *texts, *distorted, *misspelled]]
    assert texts != distorted != misspelled != texts


def test_measure_applies_the_same_threshold_to_the_distorted_and_the_misspelled_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluation, _, _ = run(monkeypatch)
    metrics = evaluation.metrics
    assert (metrics.f1, metrics.threshold) == pytest.approx((1.0, 0.5))
    for figure, texts in zip((metrics.distorted_f1, metrics.misspelled_f1), copies()[1:], strict=True):
        found = sum("дурак" in text for text in texts[:6])
        assert 0 < found < 6
        assert figure == pytest.approx(2 * found / (found + 6))
    assert metrics.distorted_f1 != metrics.misspelled_f1
    decisions = ["дурак" in text for text in copies()[1]]
    interval = f1_intervals(decisions, evaluation.labels, SPEC.seed).f1
    assert (metrics.distorted_f1_low, metrics.distorted_f1_high) == interval


def test_measure_counts_each_misspelled_row_in_its_family(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation, _, _ = run(monkeypatch)
    names = [misspell(example.text, SPEC.seed)[1] for example in TEST]
    assert {f.name: f.rows for f in evaluation.families} == {name: names.count(name) for name in set(names)}
    assert sum(f.toxic for f in evaluation.families) == 6
    assert {f.f1_before for f in evaluation.families} <= {1.0, None}
    lost = [f for f in evaluation.families if f.f1 == 0.0]
    assert lost, "a family that the model does not read"


def test_measure_returns_what_the_artifacts_need(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation, _, _ = run(monkeypatch)
    assert evaluation.labels == [example.toxic for example in TEST]
    assert evaluation.scores == [0.9] * 6 + [0.1] * 12
    expected = evaluate_scores(evaluation.scores, evaluation.labels, evaluation.metrics.threshold, seed=SPEC.seed)
    of_copies = ("distorted_f1", "distorted_f1_low", "distorted_f1_high", "misspelled_f1")
    assert evaluation.metrics.model_copy(update=dict.fromkeys(of_copies)) == expected
    assert sum(bucket.rows for bucket in evaluation.buckets) == len(TEST)
    assert sum(part.rows for part in evaluation.reliability) == len(TEST)


def test_measure_tells_the_figures_and_a_table_that_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation, _, said = run(monkeypatch)
    assert all(len(STAGE_PREFIX + line) <= TERMINAL_WIDTH for line in said)
    told = "\n".join(said)
    assert re.search(r"^evaluated 18 rows in \d{1,3} s, threshold 0\.500$", told, re.MULTILINE)
    metrics = evaluation.metrics
    assert f"F1 distorted {metrics.distorted_f1:.3f}, misspelled {metrics.misspelled_f1:.3f}" in told
    header = next(line for line in said if line.startswith("characters"))
    assert header.split() == ["characters", "rows", "toxic", "F1", "precision", "recall"]
    families = next(line for line in said if line.startswith("misspelled"))
    table = said[said.index(header) + 1 : said.index(families)]
    assert [line.split()[0] for line in table] == [b.name for b in evaluation.buckets if b.rows]
    assert table[0].split() == ["1-100", str(evaluation.buckets[0].rows), "6", "1.000", "1.000", "1.000"]
    assert table[1].split()[2:] == ["0", "-", "-", "-"]
    assert len({len(line) for line in [header, *table]}) == 1
    assert [line[:22].strip() for line in said[said.index(families) + 1 :]] == [
        f.name for f in evaluation.families
    ]
