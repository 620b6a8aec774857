"""Admission control: limit the texts and windows in the service, and refuse requests that exceed a limit.

A text is one prompt; a long text is one prompt per window. `fair_queue` decides whose prompt is next, so admission
limits how many requests share the engine, and the memory that waiting prompts take.

- Texts: `maxNumSeqs` + `queueLimit`. The last quarter of the queue is for requests with one text, so that batches
  cannot refuse them.
- Windows beyond one per text: as many again. They are known only after tokenization.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client import Gauge

from toxicity_api.prompting import MOST_WINDOWS


class OverloadedError(RuntimeError):
    """The queue is full. The client may retry later."""


class Admission:
    """The number of admitted texts and windows, and its limits. Not thread-safe: use it on the event loop only."""

    def __init__(self, running: int, waiting: int, depth: Gauge) -> None:
        """The engine batches `running` prompts, and `waiting` more may queue. `depth` exports the queue's length."""
        self._running = running
        self._waiting = waiting
        self._limit = running + waiting
        self._depth = depth
        self._texts = 0
        self._extra = 0  # windows beyond one per text
        self._prompts = 0

    @property
    def max_extra(self) -> int:
        """The number of windows beyond one per text that a request with several texts may have."""
        return max(self._limit, MOST_WINDOWS)

    @contextlib.contextmanager
    def admitted(self, texts: int) -> Iterator[Callable[[int], None]]:
        """Admit so many texts until the block ends.

        The caller calls the yielded function once, before the engine, with the number of windows beyond one per text.
        An idle service admits any request, and a service without long texts admits any long text. Both checks raise
        OverloadedError when a limit would be exceeded.
        """
        extra = 0

        def add(windows: int) -> None:
            nonlocal extra
            if windows and self._extra and self._extra + windows > self._limit:
                raise self._error(windows, "windows")
            extra = windows
            self._extra += windows
            self._change(windows)

        reserved = self._waiting // 4 if texts > 1 else 0
        if self._texts and self._texts + texts > self._limit - reserved:
            raise self._error(texts, "texts")
        self._texts += texts
        self._change(texts)
        try:
            yield add
        finally:
            self._texts -= texts
            self._extra -= extra
            self._change(-texts - extra)

    @property
    def depth(self) -> int:
        """The number of prompts that wait."""
        return max(0, self._prompts - self._running)

    def _error(self, prompts: int, noun: str) -> OverloadedError:
        return OverloadedError(
            f"the queue is full: {self.depth} texts wait, and {prompts} more {noun} exceed the limit of {self._waiting}"
        )

    def _change(self, prompts: int) -> None:
        self._prompts += prompts
        self._depth.set(self.depth)
