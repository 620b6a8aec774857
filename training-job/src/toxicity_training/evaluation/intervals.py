"""95 % bootstrap intervals of F1 and of its drop by quantization; pure, from decisions and labels.

Percentile intervals: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; stratified by label and
seeded. F1 depends only on counts, and resampling the rows of a label with replacement gives multinomial counts of its
decisions. The counts are therefore drawn directly, instead of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 1000
"""bootstrap resamples behind an interval"""
INTERVAL_PERCENT = 95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """(low, high) of the toxic class's F1 and of macro F1, or of their drops."""

    f1: Interval
    macro_f1: Interval


def f1_intervals(decisions: Sequence[bool], labels: Sequence[bool], seed: int) -> Intervals:
    """The intervals of toxic F1 and macro F1 of `decisions` (True: classified as toxic)."""
    f1, macro_f1 = _resample([decisions], labels, seed)[0]
    return Intervals(_interval(f1), _interval(macro_f1))


def drop_intervals(before: Sequence[bool], after: Sequence[bool], labels: Sequence[bool], seed: int) -> Intervals:
    """The intervals of the drops of toxic F1 and macro F1 from `before` to `after`, paired by row."""
    (f1_before, macro_before), (f1_after, macro_after) = _resample([before, after], labels, seed)
    return Intervals(_interval(f1_before - f1_after), _interval(macro_before - macro_after))


def _resample(
    answers: Sequence[Sequence[bool]], labels: Sequence[bool], seed: int
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """(toxic F1, macro F1) of each classifier, RESAMPLES values each; all classifiers see the same resamples."""
    import numpy as np

    random = np.random.default_rng(seed)
    said, toxic_rows = np.array(answers, dtype=int).T, np.array(labels, dtype=bool)
    hits, toxic = _called_toxic(said[toxic_rows], random)
    alarms, harmless = _called_toxic(said[~toxic_rows], random)
    return [_figures(hits[:, index], alarms[:, index], toxic, harmless) for index in range(len(answers))]


def _called_toxic(said: NDArray[Any], random: Any) -> tuple[NDArray[Any], int]:
    """Counts (RESAMPLES x classifiers) of one label's rows classified as toxic, and the number of its rows."""
    import numpy as np

    if not len(said):
        return np.zeros((RESAMPLES, said.shape[1]), dtype=int), 0
    patterns, counts = np.unique(said, axis=0, return_counts=True)
    return random.multinomial(len(said), counts / len(said), RESAMPLES) @ patterns, len(said)


def _figures(
    hits: NDArray[Any], alarms: NDArray[Any], toxic: int, harmless: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Toxic and macro F1, 2 TP / (2 TP + FP + FN) of each class; 0 if a class neither occurs nor is predicted."""
    import numpy as np

    # for the harmless class, TN are the hits; a denominator is zero only if the class neither occurs nor is predicted
    f1 = 2 * hits / np.maximum(hits + alarms + toxic, 1)
    spared = harmless - alarms
    other = 2 * spared / np.maximum(spared + harmless + toxic - hits, 1)
    return f1, (f1 + other) / 2


def _interval(figures: NDArray[Any]) -> Interval:
    import numpy as np

    tail = (100 - INTERVAL_PERCENT) / 2
    low, high = np.percentile(figures, [tail, 100 - tail])
    return float(low), float(high)
