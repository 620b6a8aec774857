"""The rows that a model gets wrong, the most confident errors first, and which labels are suspicious; pure but for
`write_errors`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from toxicity_api.base import Document

COLUMNS = ("error", "confidence", "score", "toxic", "suspicious", "characters", "text")


class ErrorRow(Document):
    """A row whose label and decision differ."""

    error: Literal["false alarm", "missed"] = Field(
        description="error: false alarm if a harmless text was classified as toxic, missed if a toxic text was not."
    )
    confidence: float = Field(
        description="confidence of the error, 0 to 1: the share of the way from the threshold to the end of the score."
    )
    score: float = Field(description="score of the text.")
    toxic: bool = Field(description="toxic: the label.")
    suspicious: bool = Field(description="suspicious: whether the label may be wrong rather than the decision.")
    characters: int = Field(description="characters of the text.")
    text: str = Field(description="text of the row.")


def find_errors(
    texts: Sequence[str], scores: Sequence[float], labels: Sequence[bool], threshold: float
) -> list[ErrorRow]:
    """The rows with a wrong decision at `threshold`, by descending confidence.

    A label is suspicious if the score is at least as extreme as the mean score of the other label's rows: the rule of
    confident learning (Northcutt et al., JAIR 70, 2021, section 3.1).
    """
    means = {
        label: _mean([s for s, toxic in zip(scores, labels, strict=True) if toxic == label])
        for label in (True, False)
    }
    rows = [
        ErrorRow(
            error="missed" if toxic else "false alarm",
            confidence=_confidence(score, threshold),
            score=score,
            toxic=toxic,
            suspicious=score <= means[False] if toxic else score >= means[True],
            characters=len(text),
            text=text,
        )
        for text, score, toxic in zip(texts, scores, labels, strict=True)
        if (score >= threshold) != toxic
    ]
    return sorted(rows, key=lambda row: -row.confidence)


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)


def _confidence(score: float, threshold: float) -> float:
    whole = 1 - threshold if score >= threshold else threshold
    return abs(score - threshold) / whole if whole else 1.0


def write_errors(rows: Sequence[ErrorRow], path: Path) -> None:
    """Writes a CSV file with a line per row, in order. The text is the last column."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            figures = (row.error, f"{row.confidence:.4f}", f"{row.score:.4f}", int(row.toxic), int(row.suspicious))
            writer.writerow([*figures, row.characters, row.text])
