"""The bounded queue: counts the texts in the service, and refuses at once what would wait too long.

The engine itself queues and batches. What is counted here is the sequences given to it: a text is one, a long text as
many as it has windows. Those beyond `maxNumSeqs` wait.
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

    @contextlib.contextmanager
    def admitted(self, texts: int) -> Iterator[Callable[[int], None]]:
        """A place for that many texts until the block ends; what it yields adds the windows found later.

        An idle service takes any request. Raises OverloadedError when the texts do not fit the queue.
        """
        held = 0

        def add(sequences: int) -> None:
            nonlocal held
            held += sequences
            self._change(sequences)

        if self._sequences and self._sequences + texts > self._running + self._waiting:
            raise OverloadedError(
                f"the queue is full: {self.depth} texts wait and {texts} more would be above {self._waiting}"
            )
        add(texts)
        try:
            yield add
        finally:
            self._change(-held)

    @property
    def depth(self) -> int:
        """Sequences that wait."""
        return max(0, self._sequences - self._running)

    def _change(self, sequences: int) -> None:
        self._sequences += sequences
        self._depth.set(self.depth)
