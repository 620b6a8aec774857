"""The bounded queue: counts the texts in the service, and refuses at once what would wait too long.

The engine itself queues and batches. What is counted here is the sequences given to it: a text is one, a long text as
many as it has windows. Those beyond `maxNumSeqs` wait.

How many windows a text has is known only once it is tokenized, so a request is asked twice: it is let in by its texts,
and goes on to the engine by its windows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client import Gauge


class OverloadedError(RuntimeError):
    """The queue is full; the request may be repeated a moment later."""


class Admission:
    """Used on the event loop only."""

    def __init__(self, running: int, waiting: int, depth: Gauge) -> None:
        """`running` sequences are batched by the engine, `waiting` more may queue; `depth` shows how many do."""
        self._running = running
        self._waiting = waiting
        self._depth = depth
        self._sequences = 0
        self._in_engine = 0  # requests

    @contextlib.contextmanager
    def admitted(self, texts: int) -> Iterator[Callable[[int], None]]:
        """A place for that many texts until the block ends.

        What it yields is called once, before the engine, with the windows beyond one a text. An idle service takes any
        request. Both raise OverloadedError when the sequences do not fit the queue.
        """
        held, entered = texts, False

        def add(windows: int) -> None:
            nonlocal held, entered
            # The engine's requests are asked about, not the places: were those that still are tokenized to count, long
            # requests that keep coming would refuse each other, and none would be served.
            if windows and self._in_engine:
                self._check(windows, "windows")
            held += windows
            entered = True
            self._in_engine += 1
            self._change(windows)

        if self._sequences:
            self._check(texts, "texts")
        self._change(texts)
        try:
            yield add
        finally:
            self._in_engine -= entered
            self._change(-held)

    @property
    def depth(self) -> int:
        """Sequences that wait."""
        return max(0, self._sequences - self._running)

    def _check(self, sequences: int, noun: str) -> None:
        if self._sequences + sequences > self._running + self._waiting:
            raise OverloadedError(
                f"the queue is full: {self.depth} texts wait and {sequences} more {noun} would be above {self._waiting}"
            )

    def _change(self, sequences: int) -> None:
        self._sequences += sequences
        self._depth.set(self.depth)
