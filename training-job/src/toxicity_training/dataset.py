"""Labelled comments in memory, and which of them count as the same text; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from toxicity_api.normal_form.form import normalise_text


@dataclass(frozen=True)
class Example:
    """One labelled comment."""

    text: str
    toxic: bool


@dataclass(frozen=True)
class DatasetSummary:
    rows: int
    toxic: int
    duplicates: int
    """rows beyond the first one of each group of texts that are equal after normalisation"""
    contradictions: int
    """groups of such texts that have both labels"""

    def __str__(self) -> str:
        share = self.toxic / self.rows if self.rows else 0.0
        return (
            f"{self.rows} rows, {self.toxic} toxic ({share:.1%}), {self.duplicates} duplicates,"
            f" {self.contradictions} texts with both labels"
        )


def normalise(text: str) -> str:
    """What equal texts have in common: the normal form in lower case, ё as е, letters and digits only.

    The normal form itself if none of its characters is a letter or digit.
    """
    text = normalise_text(text)
    kept = "".join(c for c in text.lower().replace("ё", "е") if c.isalnum())
    return kept or text


def group_equal(examples: Iterable[Example]) -> list[list[Example]]:
    """Groups of examples with equal normalised texts, in the order of first occurrence."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(normalise(example.text), []).append(example)
    return list(groups.values())


def summarise(examples: Sequence[Example]) -> DatasetSummary:
    """The counts that the stage logs before it trains."""
    groups = group_equal(examples)
    return DatasetSummary(
        rows=len(examples),
        toxic=sum(e.toxic for e in examples),
        duplicates=len(examples) - len(groups),
        contradictions=sum(len({e.toxic for e in group}) > 1 for group in groups),
    )
