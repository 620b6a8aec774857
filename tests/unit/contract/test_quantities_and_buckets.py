"""Amounts of Kubernetes in one spelling, and the length buckets at their bounds."""

from __future__ import annotations

from decimal import Decimal

import pytest

from toxicity_api.buckets import Bucket, length_buckets
from toxicity_api.quantities import canonical, quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", "1"), ("1n", "1e-9"), ("1u", "1e-6"), ("1m", "1e-3"), ("1k", "1e3"), ("1M", "1e6"), ("1G", "1e9"),
        ("1T", "1e12"), ("1P", "1e15"), ("1E", "1e18"), ("1Ki", "1024"), ("1Mi", "1048576"), ("1Gi", "1073741824"),
        ("1Ti", "1099511627776"), ("1Pi", "1125899906842624"), ("1Ei", "1152921504606846976"), ("1.5Gi", "1610612736"),
        (".5", "0.5"), ("2.", "2"), ("1e3", "1000"), ("-2", "-2"), ("+2", "2"), ("2e-1", "0.2"),
    ],
)  # fmt: skip
def test_quantity_is_the_number_times_its_suffix(text: str, amount: str) -> None:
    assert quantity(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "Gi", "1GiB", "1 Gi", "1gi", "one", ".", "1Gi\n"])
def test_what_is_no_quantity_is_refused_and_stays_as_it_is_in_canonical_form(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity(text)
    assert canonical(text) == text


@pytest.mark.parametrize(
    ("text", "same"), [("2.0", "2"), ("2000m", "2"), ("1Gi", "1073741824"), ("500m", "0.5"), ("0", "0")]
)
def test_amount_has_one_spelling(text: str, same: str) -> None:
    assert canonical(text) == same


def test_buckets_join_without_a_gap_and_the_last_one_ends_with_the_longest_text() -> None:
    assert length_buckets(100, 250) == [Bucket(1, 100), Bucket(101, 200), Bucket(201, 250)]
    assert length_buckets(100, 200) == [Bucket(1, 100), Bucket(101, 200)]
    assert length_buckets(100, 201) == [Bucket(1, 100), Bucket(101, 200), Bucket(201, 201)]
    assert length_buckets(1, 2) == [Bucket(1, 1), Bucket(2, 2)]
    assert length_buckets(5, 1) == [Bucket(1, 1)]


@pytest.mark.parametrize(("step", "longest"), [(0, 1), (1, 0), (-1, 5), (5, -1)])
def test_buckets_of_no_length_are_refused(step: int, longest: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        length_buckets(step, longest)


def test_bucket_holds_both_of_its_ends_and_is_named_after_them() -> None:
    bucket = Bucket(101, 200)
    assert [bucket.holds(characters) for characters in (100, 101, 150, 200, 201)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert bucket.name == "101-200"
