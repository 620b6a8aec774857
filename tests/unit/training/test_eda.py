"""Label counts and lengths of data sets, compared with known percentiles."""

from __future__ import annotations

import json
import math
from random import Random

import pytest

from toxicity_api.spec import LONGEST_INPUT, SHORTEST_INPUT, TrainingSpec
from toxicity_training.dataset import Example
from toxicity_training.eda import Eda, auto_length, explore, measure_lengths


def test_percentiles_of_0_to_100_are_themselves() -> None:
    lengths = list(range(101))
    Random(1).shuffle(lengths)
    figures = measure_lengths(lengths)
    assert (figures.rows, figures.min, figures.mean, figures.max) == (101, 0, 50.0, 100)
    percentiles = (figures.p25, figures.p50, figures.p75, figures.p85, figures.p95, figures.p98, figures.p99)
    assert percentiles == pytest.approx((25, 50, 75, 85, 95, 98, 99))


def test_percentiles_interpolate_linearly() -> None:
    # position 0.25 * 3 = 0.75 between 10 and 20, 1.5 between 20 and 40, 0.98 * 3 = 2.94 between 40 and 80
    figures = measure_lengths([10, 20, 40, 80])
    assert (figures.p25, figures.p50, figures.p98) == pytest.approx((17.5, 30.0, 40 + 0.94 * 40))


def percentile(lengths: list[int], percent: float) -> float:
    """The percentile by definition 7 of Hyndman and Fan."""
    ordered = sorted(lengths)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@pytest.mark.parametrize("rows", [1, 2, 17, 500])
def test_percentiles_equal_the_definition(rows: int) -> None:
    random = Random(rows)
    lengths = [int(random.lognormvariate(4, 1)) + 1 for _ in range(rows)]
    figures = measure_lengths(lengths)
    for percent in (25, 50, 75, 85, 95, 98, 99):
        assert getattr(figures, f"p{percent}") == pytest.approx(percentile(lengths, percent))


def test_explore_counts_all_rows_and_each_label() -> None:
    eda = explore([Example("абв", True), Example("абвгд", False), Example("я", False)], [10, 30, 20])
    assert (eda.rows, eda.toxic, eda.toxic_share) == pytest.approx((3, 1, 1 / 3))
    toxic, harmless = eda.characters.toxic, eda.characters.harmless
    assert toxic is not None and harmless is not None
    assert (eda.characters.all.min, eda.characters.all.mean, eda.characters.all.max) == (1, 3.0, 5)
    assert (toxic.rows, toxic.min, toxic.max) == (1, 3, 3)
    assert (harmless.rows, harmless.min, harmless.mean, harmless.max) == (2, 1, 3.0, 5)
    assert eda.tokens.all.p50 == 20
    assert eda.tokens.harmless is not None and eda.tokens.harmless.p50 == 25


def test_explore_leaves_out_a_label_without_rows_and_writes_camel_case() -> None:
    wire = explore([Example("абв", False)], [4]).to_wire()
    assert wire["toxicShare"] == 0.0
    assert json.loads(json.dumps(wire))["characters"]["all"]["p98"] == 3.0
    assert "toxic" not in json.loads(json.dumps(wire))["characters"]
    assert Eda.model_validate(wire).to_wire() == wire


@pytest.mark.parametrize(("texts", "lengths"), [([], []), (["а"], []), (["а"], [1, 2])])
def test_explore_refuses_what_does_not_match(texts: list[str], lengths: list[int]) -> None:
    with pytest.raises(ValueError, match=f"{len(texts)} examples and {len(lengths)} token lengths"):
        explore([Example(text, True) for text in texts], lengths)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        (range(101), 98),
        ([20, 40], 40),  # 39.6
        ([100, 150], 149),  # 149 exactly
        ([100] * 50, 100),
        ([3] * 50, 16),
        ([9000] * 50, 8192),
    ],
    ids=["whole", "rounded up", "whole between neighbours", "equal", "at least 16", "at most 8192"],
)
def test_auto_length_is_the_98th_percentile_within_bounds(lengths: list[int], expected: int) -> None:
    assert auto_length(lengths) == expected


@pytest.mark.parametrize("gap", [50, 100, 150, 1000])
def test_auto_length_of_a_whole_percentile_costs_no_token_more(gap: int) -> None:
    for rows in range(2, 400):
        lengths = [20] * rows
        lengths[-max(1, rows // 50) :] = [20 + gap] * max(1, rows // 50)
        # in whole numbers: the place is 98 (rows - 1) / 100
        low, rest = divmod(98 * (rows - 1), 100)
        ordered = sorted(lengths)
        exact = -(-(ordered[low] * 100 + (ordered[min(low + 1, rows - 1)] - ordered[low]) * rest) // 100)
        assert auto_length(lengths) == exact


def test_auto_length_is_a_limit_that_the_spec_accepts() -> None:
    for limit in (SHORTEST_INPUT, LONGEST_INPUT):
        assert TrainingSpec(gpus=0, max_input_length=limit).max_input_length == limit
    for limit in (SHORTEST_INPUT - 1, LONGEST_INPUT + 1):
        with pytest.raises(ValueError, match="16 to 8192"):
            TrainingSpec(gpus=0, max_input_length=limit)
