"""vLLM's engine stepped by a thread of this process: whoever asks leaves a command, answers go back as they come."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

Command = Callable[[Any], None]


class StepLoop:
    """The one thread that touches the engine, an `LLMEngine` whose core runs in this process."""

    def __init__(self, llm: Any, deliver: Callable[[list[Any]], object]) -> None:
        """`deliver` gets the finished outputs of each step, in the stepping thread."""
        self._llm, self._deliver = llm, deliver
        self._commands: SimpleQueue[Command | None] = SimpleQueue()

    def submit(self, command: Command) -> None:
        """Has `command(llm)` called between two steps; from any thread."""
        self._commands.put(command)

    def stop(self) -> None:
        """Has `run` return after the step under way; from any thread."""
        self._commands.put(None)

    def run(self) -> None:
        """StepLoop while there is work and waits while there is none, until `end`. Raises what the engine raises."""
        while self._run_commands():
            finished = self._llm.step()
            if finished:
                self._deliver(finished)

    def _run_commands(self) -> bool:
        """Carries out all commands, and waits for one that makes work; False at the end."""
        while True:
            try:
                command = self._commands.get(block=not self._llm.has_unfinished_requests())
            except Empty:
                return True
            if command is None:
                return False
            command(self._llm)
