"""Admission control: limit the sequences in the service, and refuse requests that exceed the limit.

The engine queues and batches the sequences itself. A text is one sequence; a long text is one sequence per window.
Sequences beyond `maxNumSeqs` wait.

The number of windows is known only after tokenization, so each request is checked twice: by its texts before
tokenization, and by its windows before the engine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client import Gauge


class OverloadedError(RuntimeError):
    """The queue is full. The client may retry later."""


class Admission:
    """The number of admitted sequences and its limit. Not thread-safe: use it on the event loop only."""

    def __init__(self, running: int, waiting: int, depth: Gauge) -> None:
        """The engine batches `running` sequences, and `waiting` more may queue. `depth` exports the queue's length."""
        self._running = running
        self._waiting = waiting
        self._depth = depth
        self._sequences = 0
        self._in_engine = 0  # requests

    @contextlib.contextmanager
    def admitted(self, texts: int) -> Iterator[Callable[[int], None]]:
        """Admit so many texts until the block ends.

        The caller calls the yielded function once, before the engine, with the number of windows beyond one per text.
        An idle service admits any request. Both checks raise OverloadedError when the sequences exceed the limit.
        """
        held, entered = texts, False

        def add(windows: int) -> None:
            nonlocal held, entered
            # Only requests in the engine can cause a refusal here. If requests in tokenization counted as well, long
            # requests that arrive continuously would refuse each other, and none would be served.
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
        """The number of sequences that wait."""
        return max(0, self._sequences - self._running)

    def _check(self, sequences: int, noun: str) -> None:
        if self._sequences + sequences > self._running + self._waiting:
            raise OverloadedError(
                f"the queue is full: {self.depth} texts wait, and {sequences} more {noun} exceed the limit of"
                f" {self._waiting}"
            )

    def _change(self, sequences: int) -> None:
        self._sequences += sequences
        self._depth.set(self.depth)
