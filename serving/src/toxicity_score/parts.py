"""Parts: runs of rows that are written together. The input alone decides where a part ends, so every run agrees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from toxicity_score.rows import Row

PART_CHARACTERS = 8_000_000
"""Characters after which a part ends early, so that long texts do not fill the memory."""


@dataclass(frozen=True)
class Part:
    """Consecutive rows of the input; the first part is 0."""

    number: int
    rows: Sequence[Row]


@dataclass(frozen=True)
class Scored:
    """A row with its answer: a score and a label, or an error."""

    row: Row
    score: float | None = None
    toxic: bool | None = None
    error: str = ""


def split_parts(rows: Iterable[Row], rows_per_part: int) -> Iterator[Part]:
    """Yield the parts in order. The last one may be shorter."""
    number, taken, size = 0, list[Row](), 0
    for row in rows:
        taken.append(row)
        size += len(row.text)
        if len(taken) == rows_per_part or size >= PART_CHARACTERS:
            yield Part(number, taken)
            number, taken, size = number + 1, [], 0
    if taken:
        yield Part(number, taken)
