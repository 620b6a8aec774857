"""How far the run is: a bar on a terminal, else a line in the log now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tqdm import tqdm

logger = logging.getLogger(__name__)

LOG_SECONDS = 10.0


@dataclass
class Counts:
    """Rows of this run. `skipped` rows were already written by an earlier one."""

    skipped: int = 0
    scored: int = 0
    toxic: int = 0
    errors: int = 0


class Progress:
    """Shows the counts, the rows per second and the number of open requests."""

    def __init__(
        self, counts: Counts, limit: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counts = counts
        self._limit = limit
        self._clock = clock
        self._began = self._logged = clock()
        self._bar = tqdm(unit=" rows", dynamic_ncols=True) if sys.stderr.isatty() else None

    def add(self, rows: int) -> None:
        """Show that so many rows were answered or skipped."""
        if self._bar is not None:
            self._bar.set_postfix(errors=self._counts.errors, requests=self._limit(), refresh=False)
            self._bar.update(rows)
        elif self._clock() - self._logged >= LOG_SECONDS:
            self._logged = self._clock()
            logger.info("progress %s", self.describe())

    def describe(self) -> str:
        """The state in one line."""
        counts = self._counts
        rate = (counts.scored + counts.errors) / max(self._clock() - self._began, 1e-9)
        return (
            f"scored={counts.scored} toxic={counts.toxic} errors={counts.errors} skipped={counts.skipped}"
            f" rows_per_second={rate:.1f} requests={self._limit()}"
        )

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
