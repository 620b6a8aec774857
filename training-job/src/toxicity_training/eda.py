"""Label counts and text lengths of a data set; pure. `plots.py` draws them, `report.py` writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.spec import LONGEST_INPUT, SHORTEST_INPUT
from toxicity_training.dataset import Example

AUTO_PERCENTILE = 98
"""percentage of the prompts that `maxInputLength: auto` does not truncate"""


class LengthFigures(Document):
    """Lengths of some rows, in characters or in tokens.

    Percentiles interpolate linearly (numpy's default; definition 7 of Hyndman and Fan, Sample Quantiles in Statistical
    Packages, 1996).
    """

    rows: int = Field(description="rows that were measured.")
    min: int = Field(description="min: the shortest.")
    mean: float = Field(description="mean length.")
    p25: float = Field(description="p25: 25th percentile.")
    p50: float = Field(description="p50: median.")
    p75: float = Field(description="p75: 75th percentile.")
    p85: float = Field(description="p85: 85th percentile.")
    p95: float = Field(description="p95: 95th percentile.")
    p98: float = Field(description="p98: 98th percentile.")
    p99: float = Field(description="p99: 99th percentile.")
    max: int = Field(description="max: the longest.")


class Lengths(Document):
    """Lengths in characters or in tokens, of all rows and by label; a label without rows is unset."""

    all: LengthFigures = Field(description="all rows.")
    toxic: LengthFigures | None = Field(None, description="toxic rows.")
    harmless: LengthFigures | None = Field(None, description="harmless rows.")


class Eda(Document):
    """Label counts and text lengths of a data set."""

    rows: int = Field(description="rows of the data set.")
    toxic: int = Field(description="toxic rows among them.")
    toxic_share: float = Field(description="toxicShare: toxic rows divided by rows, 0 to 1.")
    characters: Lengths = Field(description="characters of the texts.")
    tokens: Lengths = Field(description="tokens of the texts, as the caller counted them.")


def explore(examples: Sequence[Example], token_lengths: Sequence[int]) -> Eda:
    """Label counts and lengths of `examples`; `token_lengths` are their lengths in tokens.

    Raises ValueError if there are no examples, or not one length per example.
    """
    if not examples or len(examples) != len(token_lengths):
        raise ValueError(f"{len(examples)} examples and {len(token_lengths)} token lengths")
    labels = [example.toxic for example in examples]
    return Eda(
        rows=len(labels),
        toxic=sum(labels),
        toxic_share=sum(labels) / len(labels),
        characters=_by_label([len(example.text) for example in examples], labels),
        tokens=_by_label(token_lengths, labels),
    )


def _by_label(lengths: Sequence[int], labels: Sequence[bool]) -> Lengths:
    toxic = [length for length, label in zip(lengths, labels, strict=True) if label]
    harmless = [length for length, label in zip(lengths, labels, strict=True) if not label]
    return Lengths(
        all=measure_lengths(lengths),
        toxic=measure_lengths(toxic) if toxic else None,
        harmless=measure_lengths(harmless) if harmless else None,
    )


def measure_lengths(lengths: Sequence[int]) -> LengthFigures:
    """Percentiles, mean and range of `lengths`, which must not be empty."""
    import numpy as np

    p25, p50, p75, p85, p95, p98, p99 = np.percentile(lengths, [25, 50, 75, 85, 95, 98, 99]).tolist()
    return LengthFigures(
        rows=len(lengths),
        min=min(lengths),
        mean=sum(lengths) / len(lengths),
        p25=p25,
        p50=p50,
        p75=p75,
        p85=p85,
        p95=p95,
        p98=p98,
        p99=p99,
        max=max(lengths),
    )


def auto_length(token_lengths: Sequence[int]) -> int:
    """`maxInputLength: auto` in tokens: the 98th percentile rounded up, at least 16 and at most 8192.

    `token_lengths` must not be empty.
    """
    import numpy as np

    # interpolation may exceed a whole number by a rounding error, which must not add a token
    percentile = math.ceil(round(float(np.percentile(token_lengths, AUTO_PERCENTILE)), 6))
    return max(SHORTEST_INPUT, min(LONGEST_INPUT, percentile))
