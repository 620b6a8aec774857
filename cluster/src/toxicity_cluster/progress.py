"""Progress lines on stderr, with the seconds since the start of the command."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """Writes `[ 12.3s] text`; the seconds count from the creation of this object."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, stream: TextIO | None = None) -> None:
        self._clock = clock
        self._stream = stream
        self._began = clock()

    def say(self, text: str) -> None:
        elapsed = self._clock() - self._began
        print(f"[{elapsed:6.1f}s] {text}", file=self._stream or sys.stderr, flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print `text`, run the body, then print its duration in seconds; an error passes through."""
        began = self._clock()
        self.say(f"{text} ...")
        try:
            yield
        except BaseException:
            self.say(f"{text}: failed after {self._clock() - began:.1f} s")
            raise
        self.say(f"{text}: {self._clock() - began:.1f} s")
