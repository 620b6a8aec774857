"""The measurement of a model with known scores: the texts it scores, the threshold, and the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from toxicity_api.spec import TrainingSpec
from toxicity_training.dataset import Example
from toxicity_training.evaluation import measure as measuring
from toxicity_training.evaluation.distort import distort
from toxicity_training.evaluation.measure import Evaluation, measure
from toxicity_training.evaluation.metrics import evaluate_scores

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
    monkeypatch.setattr(measuring, "score_texts", model.score)
    said: list[str] = []
    return measure(None, None, VALIDATION, TEST, SPEC, said.append), model, said


def test_measure_scores_validation_test_and_the_distorted_test(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, _ = run(monkeypatch)
    texts = [example.text for example in TEST]
    assert model.asked == [["дурак", "здравствуйте"], texts, [distort(text, SPEC.seed) for text in texts]]


def test_measure_holds_the_distorted_copy_against_the_same_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation, model, _ = run(monkeypatch)
    metrics = evaluation.metrics
    assert (metrics.f1, metrics.threshold) == pytest.approx((1.0, 0.5))
    found = sum("дурак" in text for text in model.asked[2][:6])
    assert 0 < found < 6
    assert metrics.distorted_f1 == pytest.approx(2 * found / (found + 6))


def test_measure_returns_what_the_artifacts_need(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation, _, _ = run(monkeypatch)
    assert evaluation.labels == [example.toxic for example in TEST]
    assert evaluation.scores == [0.9] * 6 + [0.1] * 12
    expected = evaluate_scores(evaluation.scores, evaluation.labels, evaluation.metrics.threshold, seed=SPEC.seed)
    assert evaluation.metrics.model_copy(update={"distorted_f1": None}) == expected
    assert sum(bucket.rows for bucket in evaluation.buckets) == len(TEST)
    assert sum(part.rows for part in evaluation.reliability) == len(TEST)


def test_measure_tells_the_figures_and_a_table_that_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation, _, said = run(monkeypatch)
    assert all(len(STAGE_PREFIX + line) <= TERMINAL_WIDTH for line in said)
    told = "\n".join(said)
    assert f"on distorted spelling {evaluation.metrics.distorted_f1:.3f}" in told
    header = next(line for line in said if line.startswith("characters"))
    assert header.split() == ["characters", "rows", "toxic", "F1", "precision", "recall"]
    table = said[said.index(header) + 1 :]
    assert [line.split()[0] for line in table] == [b.name for b in evaluation.buckets if b.rows]
    assert table[0].split() == ["1-100", str(evaluation.buckets[0].rows), "6", "1.000", "1.000", "1.000"]
    assert table[1].split()[2:] == ["0", "-", "-", "-"]
    assert len({len(line) for line in [header, *table]}) == 1
