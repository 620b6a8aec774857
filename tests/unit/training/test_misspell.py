"""Misspelt texts stay readable and Cyrillic or Latin words, reproducible, and unlike anything that training uses."""

from __future__ import annotations

import difflib
import re
from random import Random

import pytest

from toxicity_api.normal_form.form import normalise_text
from toxicity_training import augmentation
from toxicity_training.evaluation.misspell import FAMILIES, LATIN, misspell

TEXTS = [
    "Верблюдов-то за что? Дебилы, бл...",
    "Собаке - собачья смерть",
    "Страницу обнови, дебил. Это тоже не оскорбление, а доказанный факт.",
    "ЁЖИК и ещё чёрный ёжик; 6-страничный PDF, Windows7 и мир2",
    "конечно, его счастье в том, что он не жирный и учиться не хочет",
    "строка\nвторая строка\tтретья",
]
SEEDS = range(30)


@pytest.mark.parametrize("text", TEXTS)
def test_equal_seed_and_text_give_equal_results_and_another_text(text: str) -> None:
    for seed in SEEDS:
        assert misspell(text, seed) == misspell(text, seed)
        misspelt, family = misspell(text, seed)
        assert misspelt != text and misspelt.strip() and family in FAMILIES
    assert len({misspell(text, seed)[1] for seed in SEEDS}) > 3


def test_the_result_is_the_same_in_every_process_and_release() -> None:
    # a change here changes misspelledF1 of every model: it is a change of the measurement
    assert misspell("Страницу обнови, дебил", 42) == ("Страинцу обнови, дбеил", "swapped letters")


@pytest.mark.parametrize("text", ["", "!!!", "123 4567", "the quick", "да"])
def test_a_text_that_no_family_changes_stays(text: str) -> None:
    changed = text == "да"
    for seed in SEEDS:
        misspelt, family = misspell(text, seed)
        assert (misspelt == text) == (family is None) == (not changed)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("by ear", "жирный", {"жырный"}),
        ("by ear", "учиться", {"учится"}),
        ("by ear", "конечно", {"конешно"}),
        ("by ear", "молоко", {"малоко", "молако", "молока"}),
        ("by ear", "лето", {"лета", "лито"}),
        ("keyboard neighbours", "жжжж", {"жджж", "жждж", "жжжд", "жэжж", "жжэж", "жжжэ"}),
        ("swapped letters", "дура", {"друа", "дуар"}),
        ("dropped letters", "дура", {"дра", "дуа", "дур"}),
        ("doubled letters", "дура", {"дуура", "дурра", "дураа"}),
        ("doubled letters", "сссс", {"сссс"}),
        ("dropped signs", "Объявление, семь", {"Обявление, сем"}),
        ("Latin letters", "Ты щенок, ЁЖ!", {"Ty schenok, YoZh!"}),
        ("merged words", "ты дурак", {"тыдурак", "ты дурак"}),
        ("merged words", "да - нет", {"да - нет"}),
    ],
)
def test_a_family_does_what_its_name_says(name: str, text: str, expected: set[str]) -> None:
    found = {FAMILIES[name](text, Random(seed)) for seed in range(60)}
    assert found <= expected | {text}
    assert found & expected


@pytest.mark.parametrize("name", FAMILIES)
def test_a_reader_recognises_the_text(name: str) -> None:
    for text in TEXTS:
        for seed in SEEDS:
            misspelt = FAMILIES[name](text, Random(seed))
            expected = "".join(LATIN.get(c, c) for c in text.lower()) if name == "Latin letters" else text.lower()
            alike = difflib.SequenceMatcher(None, expected, misspelt.lower(), autojunk=False).ratio()
            assert alike > 0.8, (text, misspelt)


def test_judgement_uses_no_family_of_training() -> None:
    """No word comes out of a family of training as it comes out of a family of judgement, whatever the seed."""
    assert not set(FAMILIES) & set(augmentation.FAMILIES)
    words = sorted({word for text in TEXTS for word in re.findall("[А-Яа-яё]{4,}", text)})
    for word in words:
        trained, judged = (
            {family(word, Random(seed)) for family in families.values() for seed in range(50)} - {word}
            for families in (augmentation.FAMILIES, FAMILIES)
        )
        assert trained and judged
        assert not trained & judged


@pytest.mark.parametrize("name", FAMILIES)
def test_misspellings_have_nothing_that_a_filter_evasion_has(name: str) -> None:
    """No digits, symbols or Latin letters inside Cyrillic words, nor letters thrice: the normal form undoes those."""
    for text in TEXTS:
        for seed in SEEDS:
            misspelt = FAMILIES[name](text, Random(seed))
            assert set(re.findall(r"[^\w\s]", misspelt)) <= set(re.findall(r"[^\w\s]", text))
            for word in re.findall(r"\w+", misspelt):
                mixed = re.search("[а-яё]", word, re.I) and re.search("[a-z0-9]", word, re.I)
                assert not mixed or "мир2" in misspelt
                assert not re.search(r"(\w)\1\1", word)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_normal_form_undoes_no_misspelling(name: str) -> None:
    for text in TEXTS:
        plain = normalise_text(text)
        for seed in SEEDS:
            misspelt = FAMILIES[name](plain, Random(seed))
            assert normalise_text(misspelt) == misspelt
