"""Augmented training rows: reproducible for a seed and an epoch, with the labels and the lengths of the plain ones."""

from __future__ import annotations

import re
from random import Random

import pytest

from support.training.letter_tokenizer import LetterTokenizer
from toxicity_api.spec import Augmentation, Labels, TrainingSpec
from toxicity_training.augmentation import FAMILIES, augment
from toxicity_training.dataset import Example
from toxicity_training.engines.batches import GroupedBatches, plan_batches
from toxicity_training.engines.rows import EpochRows, build_rows, training_rows

TEXTS = [
    "Верблюдов-то за что? Дебилы, бл...",
    "Собаке - собачья смерть",
    "Страницу обнови, дебил. Это тоже не оскорбление, а доказанный факт.",
    "ЁЖИК и ещё чёрный ёжик; 6-страничный PDF, Windows7 и мир2",
    "строка\nвторая строка\tтретья",
]
SEEDS = [str(number) for number in range(40)]
EXAMPLES = [Example(f"{text} {number}", number % 3 == 0) for number in range(12) for text in TEXTS]


def spec(share: float, seed: int = 7, length: int = 200) -> TrainingSpec:
    return TrainingSpec(
        gpus=0,
        prompt_template="<{text}>",
        labels=Labels(toxic="Y", non_toxic="N"),
        max_input_length=length,
        seed=seed,
        augmentation=Augmentation(share=share),
    )


def of_epoch(rows: EpochRows, epoch: int) -> list[dict[str, list[int]]]:
    rows.set_epoch(epoch)
    return list(rows)


def text_of(row: dict[str, list[int]]) -> str:
    return "".join(map(chr, row["input_ids"][2:-1]))


def test_without_augmentation_rows_and_batches_are_the_plain_ones_in_each_epoch() -> None:
    plain = build_rows(LetterTokenizer(), EXAMPLES, spec(0))
    rows = training_rows(LetterTokenizer(), EXAMPLES, spec(0))
    batches = GroupedBatches(rows, spec(0))
    for epoch in range(3):
        batches.set_epoch(epoch)
        assert list(rows) == plain
        assert list(batches) == plan_batches([len(row["input_ids"]) for row in plain], 8, 1, 7, epoch)


def test_each_epoch_has_other_variants_of_a_share_of_the_rows_and_the_same_labels() -> None:
    plain = build_rows(LetterTokenizer(), EXAMPLES, spec(0))
    rows = training_rows(LetterTokenizer(), EXAMPLES, spec(0.5))
    epochs = [of_epoch(rows, epoch) for epoch in range(4)]
    changed = [{i for i, row in enumerate(epoch) if row != plain[i]} for epoch in epochs]
    assert all(0.25 * len(plain) < len(indices) <= 0.5 * len(plain) for indices in changed)
    assert len(set(map(frozenset, changed))) == 4
    assert [[row["targets"] for row in epoch] for epoch in epochs] == [[row["targets"] for row in plain]] * 4
    both = changed[0] & changed[1]
    assert sum(epochs[0][i] != epochs[1][i] for i in both) > len(both) * 0.8


def test_rows_depend_on_seed_and_epoch_alone_so_that_a_resumed_training_sees_the_same() -> None:
    walked = training_rows(LetterTokenizer(), EXAMPLES, spec(0.5))
    walked.set_epoch(1)
    resumed = training_rows(LetterTokenizer(), EXAMPLES, spec(0.5))
    assert of_epoch(walked, 2) == of_epoch(resumed, 2)
    assert of_epoch(training_rows(LetterTokenizer(), EXAMPLES, spec(0.5, seed=8)), 2) != of_epoch(walked, 2)


def test_no_variant_is_cut_or_longer_than_the_longest_plain_row() -> None:
    plain = build_rows(LetterTokenizer(), EXAMPLES, spec(0, length=60))
    rows = training_rows(LetterTokenizer(), EXAMPLES, spec(1, length=60))
    longest = max(len(row["input_ids"]) for row in plain)
    for epoch in range(3):
        for row, old in zip(of_epoch(rows, epoch), plain, strict=True):
            assert len(row["input_ids"]) <= longest
            # the number at the end of each text tells whether it was cut
            assert row == old or re.search(r"\d", text_of(row)[-30:])


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_always_changed_and_the_same_way_for_a_seed(text: str) -> None:
    for seed in SEEDS:
        assert augment(text, seed) == augment(text, seed) != text


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_changes_some_text_and_keeps_most_of_its_letters(name: str) -> None:
    changed = 0
    for text in TEXTS:
        for seed in SEEDS:
            new = FAMILIES[name](text, Random(seed))
            changed += new != text
            letters = [letter for letter in text.lower() if letter.isalpha()]
            kept = sum(letter in new.lower() for letter in letters)
            assert kept > 0.4 * len(letters), (text, new)
    assert changed > 5


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("masked letters", r"[*@#_…]|\.\.\."),
        ("leetspeak", r"[а-яА-Я][@$0-9]|[@$0-9][а-яА-Я]"),
        ("repeated letters", r"(.)\1\1"),
        ("separated letters", r"(?i)[а-яё]([ .*_-])[а-яё]\1[а-яё]\1[а-яё]"),
        ("quotes", r"[«\"“„].*[»\"”“]"),
        ("mentions", r"^(\[user\]|@user|\[имя\])"),
        ("links", r" (https://\S+|\[link\])$"),
    ],
)
def test_a_family_does_what_its_name_says(name: str, pattern: str) -> None:
    for seed in SEEDS:
        new = FAMILIES[name]("Страницу обнови дебил немедленно", Random(seed))
        assert re.search(pattern, new), new


def test_letters_and_marks() -> None:
    random = Random(1)
    assert FAMILIES["lower case"]("ДЕБИЛ Ты", random) == "дебил ты"
    assert FAMILIES["no punctuation"]("Да, ты - кто-то. Что?!", random) == "Да ты кто-то Что"


def test_every_family_occurs() -> None:
    text = "Страницу обнови, дебил. Это факт"
    alone = {name: {family(text, Random(seed)) for seed in SEEDS} for name, family in FAMILIES.items()}
    assert all(alone.values())
    firsts = [augment(text, str(seed)) for seed in range(400)]
    assert sum("«" in new or "„" in new for new in firsts) > 10
    assert sum("http" in new or "[link]" in new for new in firsts) > 10
    assert sum("user" in new or "[имя]" in new for new in firsts) > 10
