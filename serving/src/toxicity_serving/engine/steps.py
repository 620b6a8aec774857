"""The loop that steps vLLM's engine in one thread: other threads queue commands and receive the outputs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

logger = logging.getLogger(__name__)

Command = Callable[[Any], None]
OnError = Callable[[Exception], object]


class StepLoop:
    """Steps an `LLMEngine` whose core runs in this process. Only the thread that calls `run` uses the engine."""

    def __init__(self, llm: Any, deliver: Callable[[list[Any]], object]) -> None:
        """`deliver` is called in the stepping thread with the finished outputs of each step."""
        self._llm, self._deliver = llm, deliver
        self._commands: SimpleQueue[tuple[Command, OnError] | None] = SimpleQueue()

    def submit(self, command: Command, on_error: OnError = lambda error: None) -> None:
        """Call `command(llm)` between two steps. Thread-safe.

        If the command raises, `on_error(error)` is called in the stepping thread. The error concerns this command
        only, so the loop goes on.
        """
        self._commands.put((command, on_error))

    def stop(self) -> None:
        """Make `run` return after the current step. Thread-safe."""
        self._commands.put(None)

    def run(self) -> None:
        """Step while there is work, and wait while there is none, until `stop`. Raises the engine's exceptions."""
        while self._run_commands():
            finished = self._llm.step()
            if finished:
                self._deliver(finished)

    def _run_commands(self) -> bool:
        """Run all queued commands, and wait for one while the engine has no work. Returns False after `stop`."""
        while True:
            try:
                command = self._commands.get(block=not self._llm.has_unfinished_requests())
            except Empty:
                return True
            if command is None:
                return False
            self._run_command(*command)

    def _run_command(self, command: Command, on_error: OnError) -> None:
        try:
            command(self._llm)
        except Exception as error:  # vLLM validates prompts with many types
            logger.exception("engine_command_failed")
            on_error(error)
