"""Length buckets in characters, by which the load test offers load and reports figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bucket:
    """Texts of `low` to `high` characters, inclusive."""

    low: int
    high: int

    @property
    def name(self) -> str:
        return f"{self.low}-{self.high}"

    def holds(self, characters: int) -> bool:
        """Whether the bucket contains a text of this many characters."""
        return self.low <= characters <= self.high


def length_buckets(step: int, max_length: int) -> list[Bucket]:
    """Return the buckets 1-step, step+1-2*step, ... in characters. `max_length` ends the last one.

    Raises ValueError if either argument is below 1.
    """
    if step < 1 or max_length < 1:
        raise ValueError(f"bucketStep and maxLength must be at least 1, not {step} and {max_length}")
    return [Bucket(low, min(low + step - 1, max_length)) for low in range(1, max_length + 1, step)]
