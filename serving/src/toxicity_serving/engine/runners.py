"""Run vLLM's engine: on a CPU in a thread of this process, on a GPU in a subprocess.

On a CPU, a subprocess would import vLLM a second time, which is a third of the start, and compete for few cores. On a
GPU, a subprocess keeps the GPU busy while this process handles HTTP. In one process they would share Python's GIL.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, Self

from toxicity_serving.engine.protocol import EngineError, PromptRefusedError
from toxicity_serving.engine.steps import StepLoop

logger = logging.getLogger(__name__)

VLLM_NAMES = (
    "vllm.AsyncEngineArgs",
    "vllm.AsyncLLMEngine.abort",
    "vllm.AsyncLLMEngine.dead_error",
    "vllm.AsyncLLMEngine.errored",
    "vllm.AsyncLLMEngine.from_engine_args",
    "vllm.AsyncLLMEngine.generate",
    "vllm.AsyncLLMEngine.shutdown",
    "vllm.EngineArgs",
    "vllm.LLMEngine.abort_request",
    "vllm.LLMEngine.add_request",
    "vllm.LLMEngine.from_engine_args",
    "vllm.LLMEngine.has_unfinished_requests",
    "vllm.LLMEngine.step",
    "vllm.PoolingParams",
    "vllm.SamplingParams",
)
"""The names of vLLM's public API that this package uses."""

VLLM_INTERNAL_NAMES = (
    "vllm.config.ModelConfig.get_vocab_size",
    "vllm.inputs.tokens_input",  # TokensPrompt would be converted in a thread pool
    "vllm.sampling_params.RequestOutputKind",
    "vllm.v1.core.sched.scheduler.Scheduler.schedule",  # `scheduler_cls` is public, its interface is not yet
    "vllm.v1.engine.core_client.EngineCoreClient.shutdown",  # LLMEngine has no method for it
    "vllm.v1.engine.exceptions.EngineDeadError",
)
"""The names without a public equivalent. A test fails when a new version of vLLM lacks one."""


LARGE_PRIORITY = 1
"""vLLM's `priority` of the prompts of large requests; 0 is that of the others."""

PREFILL_CHUNK = 48
"""Tokens of each prompt in a step while large and small requests meet: 0.03 s with a Gemma 3 270M on two cores."""

STOP_SECONDS = 10.0
"""How long the stop waits for the current step."""


class Runner(Protocol):
    """A loaded engine. Not thread-safe: create and use it on the event loop."""

    vocabulary: int
    prefill_chunk: int | None
    """Tokens of a prompt in one step while large and small requests meet; None means all."""

    @classmethod
    async def load(cls, arguments: dict[str, Any]) -> Self:
        """Load an engine with the arguments of vLLM's EngineArgs. Raises EngineError."""
        ...

    async def generate(self, request_id: str, prompt_ids: list[int], parameters: Any, *, large: bool) -> Any:
        """Return vLLM's RequestOutput or PoolingRequestOutput, by the type of the parameters.

        Cancelling the call aborts the prompt in the engine. `large` marks a prompt of a large request.
        Raises PromptRefusedError, EngineError.
        """
        ...

    def failure(self) -> str | None:
        """Return why the engine has died, or None while it works."""
        ...

    async def stop(self) -> None:
        """Shut down the engine and drop unfinished prompts."""
        ...


def _loaded(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # vLLM, torch and kernels raise many types, and all are fatal
        logger.exception("engine_not_loaded")
        raise EngineError(f"the engine did not start: {type(error).__name__}: {error}") from error


class SubprocessRunner:
    """vLLM's AsyncLLMEngine, whose engine core runs in a subprocess."""

    prefill_chunk: int | None = None

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self.vocabulary: int = llm.model_config.get_vocab_size()

    @classmethod
    async def load(cls, arguments: dict[str, Any]) -> Self:
        def make() -> Any:
            from vllm import AsyncEngineArgs, AsyncLLMEngine

            return AsyncLLMEngine.from_engine_args(AsyncEngineArgs(**arguments))

        # in a thread, so that the probes are answered during the half minute of loading
        return cls(await asyncio.to_thread(_loaded, make))

    async def generate(self, request_id: str, prompt_ids: list[int], parameters: Any, *, large: bool) -> Any:
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        last: Any = None
        try:
            # tokens_input: vLLM converts other kinds of prompts in a thread pool
            async for output in self._llm.generate(tokens_input(prompt_ids), parameters, request_id):
                last = output
        except EngineDeadError as error:
            raise EngineError(str(error)) from error
        except ValueError as error:
            raise _refused(error) from error
        return last

    def failure(self) -> str | None:
        return str(self._llm.dead_error) if self._llm.errored else None

    async def stop(self) -> None:
        await asyncio.to_thread(self._llm.shutdown)


class InProcessRunner:
    """vLLM's LLMEngine with its core in this process. One thread loads it, steps it and shuts it down."""

    prefill_chunk: int | None = PREFILL_CHUNK

    def __init__(self, llm: Any, thread: ThreadPoolExecutor) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._llm, self._thread = llm, thread
        self.vocabulary: int = llm.model_config.get_vocab_size()
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._steps = StepLoop(llm, lambda outputs: loop.call_soon_threadsafe(self._deliver, outputs))
        self._running = loop.run_in_executor(thread, self._steps.run)
        self._running.add_done_callback(self._ended)

    @classmethod
    async def load(cls, arguments: dict[str, Any]) -> Self:
        def make() -> Any:
            from vllm import EngineArgs, LLMEngine

            return LLMEngine.from_engine_args(EngineArgs(**arguments))

        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vllm")
        return cls(await asyncio.get_running_loop().run_in_executor(thread, _loaded, make), thread)

    async def generate(self, request_id: str, prompt_ids: list[int], parameters: Any, *, large: bool) -> Any:
        if (reason := self.failure()) is not None:
            raise EngineError(f"vLLM's engine died: {reason}")
        answer = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        self._steps.submit(
            functools.partial(_add, request_id, prompt_ids, parameters, LARGE_PRIORITY if large else 0),
            lambda error: self._loop.call_soon_threadsafe(self._refuse, request_id, error),
        )
        try:
            return await answer
        finally:
            if self._waiting.pop(request_id, None) is not None:  # cancelled
                self._steps.submit(lambda llm: llm.abort_request([request_id]))

    def _deliver(self, outputs: list[Any]) -> None:
        for output in outputs:
            answer = self._waiting.pop(output.request_id, None)
            if answer is not None and not answer.done():
                answer.set_result(output)

    def _refuse(self, request_id: str, error: Exception) -> None:
        answer = self._waiting.pop(request_id, None)
        if answer is not None and not answer.done():
            answer.set_exception(_refused(error))

    def _ended(self, running: asyncio.Future[None]) -> None:
        """Fail all pending requests: the engine is no longer stepped."""
        error = running.exception()
        reason = "was stopped" if error is None else f"died: {error!r}"
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(EngineError(f"vLLM's engine {reason}"))

    def failure(self) -> str | None:
        return repr(self._running.exception()) if self._running.done() else None

    async def stop(self) -> None:
        self._steps.stop()
        await asyncio.wait([self._running], timeout=STOP_SECONDS)
        if not self._running.done():
            logger.error("engine_not_stopped reason=%r", f"it hangs in a step for {STOP_SECONDS} s")
            return
        await asyncio.get_running_loop().run_in_executor(self._thread, self._llm.engine_core.shutdown)
        self._thread.shutdown(wait=False)


def _refused(error: Exception) -> PromptRefusedError:
    return PromptRefusedError(f"the engine refused a prompt: {type(error).__name__}")


def _add(request_id: str, prompt_ids: list[int], parameters: Any, priority: int, llm: Any) -> None:
    from vllm.inputs import tokens_input

    llm.add_request(request_id, tokens_input(prompt_ids), parameters, priority=priority)
