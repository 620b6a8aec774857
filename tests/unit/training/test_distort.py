"""Distorted spelling stays readable: the inverse map restores the letters, and half of the words are unchanged."""

from __future__ import annotations

import math
import re

import pytest

from toxicity_api.normal_form.form import normalise_text
from toxicity_training.evaluation.distort import DIGITS, LOOK_ALIKES, MOST_CUTS, SHARE, distort
from toxicity_training.words import SHORTEST_WORD

TEXTS = [
    "Верблюдов-то за что? Дебилы, бл...",
    "Собаке - собачья смерть",
    "Страницу обнови, дебил. Это тоже не оскорбление, а доказанный факт.",
    "ЁЖИК и ещё чёрный ёжик; 6-страничный PDF, Windows7 и мир2",
    "слово",
    "строка\nвторая строка\tтретья",
    "😀 эмодзи 😀 среди слов",
]
SEEDS = range(12)
INVERSE = {ord(new): old for table in (LOOK_ALIKES, DIGITS) for old, new in table.items()}
WORD = re.compile(r"[а-яё]+", re.IGNORECASE)


def fold(text: str) -> str:
    """The text with its distortion undone: look-alikes and digits as letters, without spaces and dots."""
    return text.translate(INVERSE).replace(" ", "").replace(".", "").lower()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("text", TEXTS)
def test_the_letters_come_back_under_the_inverse_map(text: str, seed: int) -> None:
    assert fold(distort(text, seed)) == fold(text)


@pytest.mark.parametrize("text", TEXTS)
def test_the_normal_form_undoes_look_alikes_and_separated_words(text: str) -> None:
    look_alikes = str.maketrans(LOOK_ALIKES)
    for word in re.findall("[А-Яа-яё]{4,}", text):
        for evasion in (word.translate(look_alikes), " ".join(word), ".".join(word)):
            # a word of look-alikes alone is a Latin word, such as `coco`
            assert normalise_text(evasion) == word or evasion.isascii()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("text", TEXTS)
def test_equal_seed_and_text_give_equal_results_and_no_empty_one(text: str, seed: int) -> None:
    assert distort(text, seed) == distort(text, seed)
    assert distort(text, seed).strip()


def test_the_result_is_the_same_in_every_process_and_release() -> None:
    # a change here changes distortedF1 of every model: it is a change of the measurement
    assert distort("Страницу обнови, дебил", 42) == "Страниц у обнови, дeбил"


def test_other_seeds_give_other_results() -> None:
    assert len({distort(TEXTS[2], seed) for seed in SEEDS}) > len(SEEDS) // 2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("words", [1, 2, 3, 7, 40])
def test_half_of_the_long_words_are_distorted_rounded_up(words: int, seed: int) -> None:
    originals = ["молоко", "песок", "хлебница", "чайник"] * 10
    # a comma is no distortion, so that it tells where a word ended
    text = ", ".join(originals[:words])
    pairs = zip(originals[:words], distort(text, seed).split(", "), strict=True)
    assert sum(old != new for old, new in pairs) == math.ceil(words * SHARE)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("text", ["", "да не то", "the quick brown fox", "123 4567", "xрен мир2мир v1абвг", "!!!"])
def test_a_text_without_long_cyrillic_words_stays(text: str, seed: int) -> None:
    assert distort(text, seed) == text


def kind_of(old: str, new: str) -> str:
    if len(new) > len(old):
        assert len(new) - len(old) <= MOST_CUTS
        (separator,) = set(new) - set(old)
        return {" ": "spaces", ".": "dots"}[separator]
    changed = {(a, b) for a, b in zip(old, new, strict=True) if a != b}
    kinds = {
        name for name, table in (("look-alikes", LOOK_ALIKES), ("digits", DIGITS)) if changed <= set(table.items())
    }
    assert len(kinds) == 1, (old, new)
    return kinds.pop()


def test_each_way_occurs_and_a_word_has_one_only() -> None:
    kinds = [kind_of("собачонка", distort("собачонка", seed)) for seed in range(200)]
    assert {kind: kinds.count(kind) > 25 for kind in kinds} == dict.fromkeys(
        ("look-alikes", "digits", "spaces", "dots"), True
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_word_without_replaceable_letters_is_cut_inside(seed: int) -> None:
    new = distort("пиит", seed)
    assert new != "пиит"
    assert new[0] == "п" and new[-1] == "т"
    assert kind_of("пиит", new) in ("spaces", "dots")


def test_no_map_loses_a_letter() -> None:
    for table in (LOOK_ALIKES, DIGITS):
        assert all(WORD.fullmatch(old) and len(new) == 1 and not WORD.match(new) for old, new in table.items())
    assert len(set(LOOK_ALIKES.values())) == len(LOOK_ALIKES)
    assert len({(new, old.lower()) for old, new in DIGITS.items()}) == len(set(DIGITS.values()))
    assert MOST_CUTS < SHORTEST_WORD
