"""The order of the batches: every row once, similar lengths together, reproducible for a seed and any batch size."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from toxicity_api.spec import TrainingSpec
from toxicity_training.engines.batches import GROUP_BATCHES, GroupedBatches, count_steps, plan_batches
from toxicity_training.engines.rows import EpochRows, Row


def lengths(rows: int, seed: int = 3) -> list[int]:
    """Lengths with many short ones and a long tail, like those of comments."""
    random = Random(seed)
    return [min(256, round(random.lognormvariate(3.5, 0.8)) + 9) for _ in range(rows)]


def plain(lengths: list[int]) -> list[Row]:
    return [{"input_ids": [1] * length, "targets": [1]} for length in lengths]


@pytest.mark.parametrize(("rows", "batch", "accumulation"), [(1, 8, 1), (7, 8, 1), (1000, 8, 1), (1003, 4, 3)])
def test_every_row_comes_once(rows: int, batch: int, accumulation: int) -> None:
    batches = plan_batches(lengths(rows), batch, accumulation, 1, 0)
    assert sorted(index for each in batches for index in each) == list(range(rows))
    assert all(0 < len(each) <= batch for each in batches)
    spec = TrainingSpec(batch_size=batch, gradient_accumulation_steps=accumulation)
    assert count_steps(rows, spec)[0] == -(-len(batches) // accumulation)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_step_has_the_same_rows_however_it_is_cut(batch: int) -> None:
    rows = lengths(500)
    whole = plan_batches(rows, 8, 1, 7, 2)
    cut = plan_batches(rows, batch, 8 // batch, 7, 2)
    flat = [index for each in cut for index in each]
    assert flat == [index for each in whole for index in each]


def test_the_seed_and_the_epoch_decide_the_order() -> None:
    rows = lengths(300)
    assert plan_batches(rows, 8, 1, 1, 0) == plan_batches(rows, 8, 1, 1, 0)
    assert plan_batches(rows, 8, 1, 1, 0) != plan_batches(rows, 8, 1, 1, 1)
    assert plan_batches(rows, 8, 1, 1, 0) != plan_batches(rows, 8, 1, 2, 0)


def test_the_longest_row_comes_first_so_that_memory_runs_out_at_once() -> None:
    rows = lengths(1000)
    assert max(rows) == max(rows[index] for index in plan_batches(rows, 8, 1, 5, 0)[0])


def test_the_longest_row_comes_first_although_some_rows_fill_no_step() -> None:
    rows = [*range(10, 10 + 84)]
    for seed in range(300):
        batches = plan_batches(rows, 8, 1, seed, 0)
        assert rows[batches[0][0]] == max(rows)
        assert sorted(index for batch in batches for index in batch) == list(range(84))


def test_rows_fewer_than_a_step_are_one_step() -> None:
    assert sorted(plan_batches([5, 9, 7], 8, 1, 1, 0)[0]) == [0, 1, 2]


def test_padding_is_a_small_part_where_random_batches_waste_much() -> None:
    rows = lengths(8 * GROUP_BATCHES * 2)
    grouped = plan_batches(rows, 8, 1, 1, 0)
    mixed = [list(range(start, start + 8)) for start in range(0, len(rows), 8)]
    columns = [
        sum(len(batch) * max(rows[index] for index in batch) for batch in batches) for batches in (grouped, mixed)
    ]
    assert columns[0] < 1.1 * sum(rows)
    assert columns[1] > 1.5 * sum(rows)


def test_steps_are_not_sorted_by_length() -> None:
    rows = lengths(1000)
    longest = [max(rows[index] for index in batch) for batch in plan_batches(rows, 8, 1, 1, 0)]
    rises = sum(later > earlier for earlier, later in pairwise(longest))
    assert len(longest) / 3 < rises < len(longest) * 2 / 3


@pytest.mark.parametrize(
    ("rows", "fields", "processes", "expected"),
    [
        (84, {"batch_size": 8}, 1, (11, 11)),
        (84, {"batch_size": 8, "epochs": 2.5}, 1, (11, 28)),
        (84, {"batch_size": 3, "gradient_accumulation_steps": 4}, 1, (7, 7)),
        (112, {"batch_size": 4}, 2, (14, 14)),
        (3, {"batch_size": 8}, 1, (1, 1)),
        (84, {"batch_size": 8}, 2, (6, 6)),
        (85, {"batch_size": 4, "gradient_accumulation_steps": 2}, 2, (6, 6)),
        (9, {"batch_size": 4, "epochs": 0.5}, 3, (1, 1)),
    ],
)
def test_steps_are_counted_as_the_trainer_counts_them(
    rows: int, fields: dict[str, float], processes: int, expected: tuple[int, int]
) -> None:
    assert count_steps(rows, TrainingSpec(**fields), processes) == expected


def test_the_sampler_follows_its_epoch() -> None:
    rows = EpochRows(plain(lengths(100)))
    batches = GroupedBatches(rows, TrainingSpec(batch_size=8, seed=4))
    first = list(batches)
    assert first == list(batches) == plan_batches([len(row["input_ids"]) for row in rows], 8, 1, 4, 0)
    assert len(batches) == len(first)
    batches.set_epoch(1)
    assert list(batches) != first


def test_steps_of_several_processes_share_rows_of_like_length() -> None:
    """Each step of all processes together is one of `plan_batches`, also a short one."""
    rows = EpochRows(plain(lengths(101)))
    spec = TrainingSpec(batch_size=4, gradient_accumulation_steps=3, seed=4)
    plan = plan_batches([len(row["input_ids"]) for row in rows], 4, 6, 4, 0)
    batches = GroupedBatches(rows, spec, processes=2)
    assert list(batches) == plan
    assert len(batches) == len(plan) == 26
    assert list(batches) != list(GroupedBatches(rows, spec))


def test_rows_that_fill_no_step_come_last() -> None:
    rows = lengths(50)
    batches = plan_batches(rows, 8, 2, 1, 0)
    assert [len(batch) for batch in batches] == [8] * 6 + [2]


def test_the_batches_of_an_epoch_are_planned_from_its_rows() -> None:
    short, long = lengths(100), [length + 300 for length in lengths(100)]
    rows = EpochRows(plain(short), lambda epoch: dict(enumerate(plain(long))) if epoch else {})
    batches = GroupedBatches(rows, TrainingSpec(batch_size=8, seed=4))
    assert list(batches) == plan_batches(short, 8, 1, 4, 0)
    batches.set_epoch(1)
    assert list(batches) == plan_batches(long, 8, 1, 4, 1)
    assert len(rows[0]["input_ids"]) == long[0]
    assert len(batches) == 13
