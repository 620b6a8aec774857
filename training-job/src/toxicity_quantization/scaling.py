"""Checks that the factors by which AWQ scales weights cancel out.

AWQ multiplies the columns of a layer by factors, and divides by them what feeds the layer: the weights of a norm, or
the rows of the previous layer. The factors are not stored, so they are fitted (`fit_factors`). A factor that nothing
cancels changes what the model computes, however well its weights fit.

For each layer, the columns may be unscaled or cancelled by a norm of the same block, and the rows unscaled or cancelled
by the columns of a layer that they feed. For the rows, the check takes the explanation with the smallest spread. For
the columns, where bf16 rounds the norms, it takes the most favourable one that applies to most columns. What remains is
one number for each layer, 1 if all factors cancel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from toxicity_quantization.tensors import Array, StoredTensor, read_values

LARGEST_FACTOR = 1.5
"""Upper bound of a layer's factor that nothing cancels, and of its reciprocal. Rounding to 4 bit changes it by 0.01."""
LARGEST_SPREAD = 4.0
"""Ratio of the 90th to the 10th percentile above which an explanation does not apply. Norms in bf16 leave up to 2."""
SCALED_SPREAD = 1.1
"""Ratio of the 90th to the 10th percentile above which rows are scaled. Rounding to 4 bit leaves 1.02."""

_BLOCK = re.compile(r".*?\.\d+\.")


@dataclass(frozen=True)
class Factors:
    """The fitted factors of a layer's rows and columns; only their products are determined. 0: nothing is left."""

    rows: Array
    columns: Array


@dataclass(frozen=True)
class _Rest:
    """The median of factors, and the ratio of their 90th to their 10th percentile."""

    middle: float
    spread: float


def remaining_factors(
    factors: Mapping[str, Factors], original: Mapping[str, StoredTensor], saved: Mapping[str, StoredTensor]
) -> dict[str, float]:
    """The factor of each layer that nothing cancels, for the layers whose scaling is understood.

    A layer whose columns take over the rows of another one is left out: the check of the other one includes it.
    """
    found = {}
    for name, fitted in factors.items():
        block = _block(name)
        others = [each for other, each in factors.items() if other != name and _block(other) == block]
        if _takes_over(fitted, others):
            continue
        norms = _norm_ratios(block, len(fitted.columns), original, saved)
        columns = [rest for rest in _rests(fitted.columns, norms) if rest.spread <= LARGEST_SPREAD]
        rows = min(_rests(fitted.rows, map(_absolute, others)), key=lambda rest: rest.spread)
        if columns and rows.spread <= LARGEST_SPREAD:
            found[name] = min(
                (rest.middle * rows.middle for rest in columns), key=lambda left: abs(math.log(left))
            )
    return found


def _block(name: str) -> str:
    match = _BLOCK.match(name)
    return match.group() if match else ""


def _absolute(factors: Factors) -> Array:
    """The factors of the columns of a layer whose rows are not scaled."""
    absolute: Array = factors.columns * np.median(factors.rows)
    return absolute


def _takes_over(fitted: Factors, others: Iterable[Factors]) -> bool:
    """Whether the columns cancel scaled rows of another layer."""
    alone = _rest(fitted.columns).spread
    rows = [each.rows for each in others if len(each.rows) == len(fitted.columns)]
    return any(_rest(each).spread > SCALED_SPREAD and _rest(fitted.columns * each).spread < alone for each in rows)


def _norm_ratios(
    block: str, length: int, original: Mapping[str, StoredTensor], saved: Mapping[str, StoredTensor]
) -> Iterator[Array]:
    """By what each vector of the block was multiplied, if it scales by its weight or, as Gemma's, by 1 + weight."""
    for name, tensor in saved.items():
        before = original.get(name)
        if not name.startswith(block) or tensor.shape != (length,) or before is None or before.shape != (length,):
            continue
        old, new = read_values(before), read_values(tensor)
        for offset in (0, 1):
            yield np.divide(new + offset, old + offset, out=np.zeros_like(old), where=old + offset != 0)


def _rests(factors: Array, explanations: Iterable[Array]) -> list[_Rest]:
    """What is left of the factors without an explanation and after each one."""
    return list(map(_rest, (factors, *(factors * each for each in explanations if len(each) == len(factors)))))


def _rest(products: Array) -> _Rest:
    positive = products[products > 0]
    if 2 * len(positive) < len(products):
        return _Rest(1.0, np.inf)
    low, middle, high = np.percentile(positive, [10, 50, 90])
    return _Rest(float(middle), float(high / low))
