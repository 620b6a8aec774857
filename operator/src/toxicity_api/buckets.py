"""Length buckets in characters, the axis along which load is offered and reported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bucket:
    """Texts of `low` to `high` characters, both included."""

    low: int
    high: int

    @property
    def name(self) -> str:
        return f"{self.low}-{self.high}"

    def holds(self, characters: int) -> bool:
        """Whether a text of this many characters belongs here."""
        return self.low <= characters <= self.high


def length_buckets(step: int, max_length: int) -> list[Bucket]:
    """The buckets 1-step, step+1-2*step, ... up to `max_length`, which ends the last one.

    Raises ValueError when either is below 1.
    """
    if step < 1 or max_length < 1:
        raise ValueError(f"bucketStep and maxLength must be at least 1, not {step} and {max_length}")
    return [Bucket(low, min(low + step - 1, max_length)) for low in range(1, max_length + 1, step)]
