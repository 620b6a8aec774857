"""Properties of splits and samples, over many seeds, and the counts on the genuine data set."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from toxicity_api.spec import Split
from toxicity_training.data import (
    Example,
    Splits,
    cap_evaluation,
    group_equal,
    normalise,
    read_dataset,
    read_split,
    sample,
    split_examples,
    summarise,
    write_splits,
)
from toxicity_training.errors import DatasetError

SEEDS = range(25)


def examples_of(seed: int, rows: int = 600, share: float = 0.3) -> list[Example]:
    """Distinct texts, a tenth of which come back in other spelling, half of those with the other label."""
    random = Random(seed)
    plain = [Example(f"Ёлка номер {index}!", random.random() < share) for index in range(rows)]
    copies = [
        Example(f"  елка, НОМЕР {index}", example.toxic if random.random() < 0.5 else not example.toxic)
        for index, example in enumerate(plain)
        if random.random() < 0.1
    ]
    everything = plain + copies
    random.shuffle(everything)
    return everything


def keys(examples: list[Example]) -> set[str]:
    return {normalise(e.text) for e in examples}


def share_of(examples: list[Example]) -> float:
    return sum(e.toxic for e in examples) / len(examples)


def test_normalise_joins_spellings_and_keeps_what_has_no_letters() -> None:
    assert normalise("Ёж, ТУТ!") == normalise("еж тут") == "ежтут"
    assert normalise(" !!! ") == "!!!"
    assert normalise("...") != normalise("!!!")


def test_split_puts_every_row_on_exactly_one_side_and_no_text_on_two() -> None:
    for seed in SEEDS:
        examples = examples_of(seed)
        splits = split_examples(examples, Split(validation=0.1, test=0.15, seed=seed))
        parts = [part for _, part in splits.items()]
        together = sorted((e.text, e.toxic) for part in parts for e in part)
        assert together == sorted((e.text, e.toxic) for e in examples)
        train, validation, test = map(keys, parts)
        assert not train & validation
        assert not train & test
        assert not validation & test


def test_split_keeps_sizes_and_the_share_of_toxic_rows() -> None:
    for seed in SEEDS:
        examples = examples_of(seed)
        splits = split_examples(examples, Split(validation=0.1, test=0.15, seed=seed))
        assert abs(len(splits.validation) - 0.1 * len(examples)) <= 3
        assert abs(len(splits.test) - 0.15 * len(examples)) <= 3
        for _, part in splits.items():
            assert abs(share_of(part) - share_of(examples)) < 0.06


def test_split_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    examples = examples_of(1)
    assert split_examples(examples, Split(seed=3)) == split_examples(examples, Split(seed=3))
    assert split_examples(examples, Split(seed=3)) != split_examples(examples, Split(seed=4))


def test_split_holds_a_text_repeated_many_times_together() -> None:
    examples = examples_of(2) + [Example("одно и то же", True)] * 150
    splits = split_examples(examples, Split(validation=0.1, test=0.1))
    assert (
        sum("однои" in key for part in (splits.train, splits.validation, splits.test) for key in keys(part)) == 1
    )


@pytest.mark.parametrize("toxic", [0, 1])
def test_split_names_the_field_when_a_label_is_missing(toxic: int) -> None:
    examples = [Example(f"текст {index}", index < toxic) for index in range(50)]
    with pytest.raises(DatasetError) as caught:
        split_examples(examples, Split())
    assert caught.value.reason == "OneClassSplit"
    assert "both are needed; raise" in str(caught.value)


def test_sample_draws_about_the_limit_stratified_and_seeded() -> None:
    for seed in SEEDS:
        examples = examples_of(seed)
        drawn = sample(examples, 200, seed)
        assert 198 <= len(drawn) <= 200
        assert abs(share_of(drawn) - share_of(examples)) < 0.05
        assert drawn == sample(examples, 200, seed)
    assert sample(examples, 200, 1) != sample(examples, 200, 2)


def test_sample_returns_everything_when_it_fits() -> None:
    examples = examples_of(0)
    assert sample(examples, None, 0) == examples
    assert sample(examples, len(examples), 0) == examples


def test_cap_evaluation_cuts_validation_and_test_only() -> None:
    splits = split_examples(examples_of(0), Split(validation=0.2, test=0.2))
    capped = cap_evaluation(splits, 30, 7)
    assert capped.train == splits.train
    assert 28 <= len(capped.validation) <= 30
    assert 28 <= len(capped.test) <= 30
    assert set(capped.test) <= set(splits.test)


def test_cap_evaluation_refuses_a_test_split_of_one_label() -> None:
    both = [Example("a", True), Example("b", False)]
    with pytest.raises(DatasetError, match=r"dataset\.split\.test"):
        cap_evaluation(Splits(both, both, [Example("c", False)]), 8, 0)


def test_splits_come_back_from_their_files_as_they_were(tmp_path: Path) -> None:
    awkward = [
        Example('запятая, "кавычки"', True),
        Example("две\nстроки\r\nи ещё", False),
        Example(" пробелы ", True),
    ]
    splits = Splits(awkward, awkward[:2], awkward[1:])
    write_splits(splits, tmp_path)
    for name, part in splits.items():
        assert read_split(tmp_path, name) == part


def test_summarise_counts_duplicates_and_contradictions() -> None:
    rows = [Example("Ёж", True), Example("еж!", False), Example("еж", True), Example("кот", False)]
    summary = summarise(rows)
    assert (summary.rows, summary.toxic, summary.duplicates, summary.contradictions) == (4, 2, 2, 1)


@pytest.fixture
def genuine() -> list[Example]:
    path = os.environ.get("TOXICITY_DATASET", "")
    if not Path(path).is_file():
        pytest.skip("TOXICITY_DATASET names no file: the genuine data set is not at hand")
    return read_dataset(Path(path), "comment", "toxic")


def test_genuine_data_set_has_its_published_counts_and_splits_without_leaks(genuine: list[Example]) -> None:
    summary = summarise(genuine)
    assert (summary.rows, summary.toxic) == (14412, 4826)
    assert sum(len(group) > 1 for group in group_equal(genuine)) >= 257
    splits = split_examples(genuine, Split())
    assert [len(part) for _, part in splits.items()] == [11530, 1441, 1441]
    assert not keys(splits.train) & (keys(splits.validation) | keys(splits.test))
    for _, part in splits.items():
        assert abs(share_of(part) - 0.335) < 0.005
