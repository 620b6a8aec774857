"""The baseline learns from words and parts of words, and is measured on unseen rows."""

from __future__ import annotations

from random import Random

import pytest

from toxicity_stage.errors import DatasetError
from toxicity_training.dataset import Example
from toxicity_training.evaluation.baseline import STRENGTHS, measure_baseline

RUDE = ("дурак", "идиот", "тупица")
KIND = ("спасибо", "хорошо", "молодец")
FILLER = ("сегодня", "вчера", "опять", "этот", "город", "поезд", "человек", "пишет")


def comments(count: int, seed: int) -> list[Example]:
    """Texts, half of them toxic; one word decides the label."""
    random = Random(seed)
    rows = []
    for number in range(count):
        words = [*random.sample(FILLER, 4), random.choice(RUDE if number % 2 else KIND)]
        random.shuffle(words)
        rows.append(Example(" ".join(words), toxic=bool(number % 2)))
    return rows


def test_it_tells_apart_what_words_tell_apart() -> None:
    result = measure_baseline(comments(80, 1), comments(20, 2), comments(20, 3))
    assert result.metrics.f1 == 1.0
    assert result.metrics.roc_auc == 1.0
    assert (result.train_samples, result.metrics.test_samples) == (80, 20)
    assert result.c in STRENGTHS
    assert result.duration_seconds >= 0


def test_it_knows_other_forms_of_a_word_by_their_parts() -> None:
    test = [Example("какие дураки и идиоты", True), Example("хорошие молодцы", False)]
    assert measure_baseline(comments(80, 1), comments(20, 2), test).metrics.roc_auc == 1.0


def test_it_cannot_tell_apart_what_nothing_tells_apart() -> None:
    random = Random(5)
    shuffled = [Example(e.text, random.random() < 0.5) for e in comments(200, 1)]
    result = measure_baseline(shuffled, comments(40, 2), comments(100, 3))
    assert result.metrics.roc_auc < 0.8


def test_it_reads_the_normal_form_that_the_model_reads() -> None:
    hidden = [Example("\u200b".join(example.text), example.toxic) for example in comments(20, 3)]
    arguments = comments(80, 1), comments(20, 2), hidden
    assert measure_baseline(*arguments, normal_form=1).metrics.f1 == 1.0
    assert measure_baseline(*arguments, normal_form=0).metrics.f1 < 0.9


def test_it_gives_the_same_figures_twice() -> None:
    noisy = [Example(e.text, e.toxic != (index % 7 == 0)) for index, e in enumerate(comments(80, 1))]
    first, second = (measure_baseline(noisy, noisy[:20], noisy[20:60]) for _ in range(2))
    assert first.metrics == second.metrics


def test_one_label_in_validation_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"dataset\.split\.validation"):
        measure_baseline(comments(20, 1), [Example("привет", False)], comments(20, 3))
