"""The folds of a data set; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toxicity_stage.errors import DatasetError
from toxicity_training.dataset import Example, normalise
from toxicity_training.splits import Splits

VALIDATION_PARTS = 8
"""Parts of a fold's other rows, of which one is for validation: with five folds a tenth of all rows."""


@dataclass(frozen=True)
class Fold:
    """The splits of a fold, and the indices of its test rows in the data set."""

    splits: Splits
    test_rows: list[int]


def plan_folds(rows: Sequence[Example], folds: int, seed: int) -> list[Fold]:
    """Folds whose test rows are all rows, each once; stratified and seeded. Equal texts are in the same split.

    Raises DatasetError unless each split of each fold has both labels.
    """
    everything = list(range(len(rows)))
    return [_fold(rows, others, test, seed) for others, test in _parts(rows, everything, folds, seed)]


def _fold(rows: Sequence[Example], others: Sequence[int], test: Sequence[int], seed: int) -> Fold:
    train, validation = _parts(rows, others, VALIDATION_PARTS, seed)[0]
    splits = Splits(*([rows[index] for index in part] for part in (train, validation, test)))
    for name, part in splits.items():
        if len({example.toxic for example in part}) < 2:
            raise DatasetError("OneClassSplit", f"the {name} rows of a fold have one label; add labelled comments")
    return Fold(splits, list(test))


def _parts(
    rows: Sequence[Example], indices: Sequence[int], parts: int, seed: int
) -> list[tuple[list[int], list[int]]]:
    """(the other rows, the rows of the part) for each part of `indices`."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels = [rows[index].toxic for index in indices]
    fewest = min(sum(labels), len(labels) - sum(labels))
    if fewest < parts:
        raise DatasetError("TooFewRows", f"{fewest} rows of a label make no {parts} parts; add labelled comments")
    groups: dict[str, int] = {}
    of_row = [groups.setdefault(normalise(rows[index].text), len(groups)) for index in indices]
    found: Any = StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(of_row, labels, of_row)
    return [([indices[i] for i in kept], [indices[i] for i in part]) for kept, part in found]
