"""Score texts: build the prompts as in training, ask the engine once per prompt, apply softmax to the label tokens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from toxicity_api.prompting import Prompt, build_prompt, build_windows, toxic_score
from toxicity_api.spec import LongTexts, PromptFormat
from toxicity_api.stage_config import EngineConfig
from toxicity_serving.engine.protocol import Engine, LabelTokenMissing, LoadedModel
from toxicity_serving.fair_queue import FairQueue, Flow

CHUNK_CHARACTERS = 20_000
"""Characters that are tokenized in one go, a few milliseconds. Then other requests have their turn."""

INLINE_CHARACTERS = 400
"""Characters that are tokenized on the event loop, a fifth of a millisecond. A switch of threads would cost as much."""

ENGINE_BATCHES = 4
"""Batches of `maxNumSeqs` prompts that the engine has at most: the one that it computes, and some to come."""


class TooManyWindowsError(ValueError):
    """The texts of a request have more windows together than a request may have."""


class UnknownTokenError(ValueError):
    """A text contains a token id that the tokenizer has and the weights do not."""


@dataclass(frozen=True)
class Score:
    """`value` is p(toxic) in [0, 1], the highest of all windows; `truncated` is set when the end was cut."""

    value: float
    truncated: bool
    windows: int


@dataclass(frozen=True)
class Scored:
    """The scores of one request, and the longest time that one of its prompts waited before the engine, in seconds."""

    scores: list[Score]
    queue_seconds: float


class Classifier:
    """A started engine with its tokenizer."""

    def __init__(self, config: EngineConfig, engine: Engine, loaded: LoadedModel) -> None:
        self._engine = engine
        self._tokenizer = loaded.tokenizer
        self._vocabulary = loaded.vocabulary
        self._form = PromptFormat(config.prompt_template, loaded.normal_form)
        self._max_prompt_tokens = config.max_model_len - 1  # one is generated
        self._long_texts = config.long_texts
        self.queue = FairQueue(ENGINE_BATCHES * config.max_num_seqs, loaded.prefill_chunk)
        # A fast tokenizer fails with "Already borrowed" when two threads use it.
        self._tokenizer_lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize")

    async def scores(self, texts: Sequence[str]) -> list[Score]:
        """Return one score per text, in order. Raises UnknownTokenError, LabelTokenMissing, EngineError."""
        return (await self.score_prompts(await self.build_prompts(texts))).scores

    async def build_prompts(
        self,
        texts: Sequence[str],
        long_texts: LongTexts | None = None,
        max_extra: int | None = None,
        noun: str = "text",
    ) -> list[list[Prompt]]:
        """Return the prompts of each text: several when the text is longer than the window and is not truncated.

        `long_texts` None means the configured setting. Several texts may have at most `max_extra` prompts beyond one
        per text. Errors call one of them a `noun`.
        Raises UnknownTokenError, TooManyWindowsError.
        """
        loop, cancelled = asyncio.get_running_loop(), threading.Event()
        built: list[list[Prompt]] = []
        extra = 0
        for chunk in _chunks(texts):
            work = (chunk, len(built), long_texts or self._long_texts, noun, cancelled)
            try:
                found = self._prompts_inline(*work) or await loop.run_in_executor(
                    self._thread, self._prompts_locked, *work
                )
            except asyncio.CancelledError:
                cancelled.set()  # all requests share the thread, and cancelling the future does not stop it
                raise
            built += found
            extra += sum(map(len, found)) - len(found)
            if max_extra is not None and extra > max_extra and len(texts) > 1:
                raise TooManyWindowsError(
                    f"the long texts have more than {max_extra} windows beyond one per text; send fewer long texts, or"
                    " set long_texts to truncate"
                )
        return built

    def _prompts_inline(self, texts: Sequence[str], *work: Any) -> list[list[Prompt]]:
        """Return the prompts of short texts, or nothing for longer ones and while the thread tokenizes."""
        if sum(map(len, texts)) > INLINE_CHARACTERS or not self._tokenizer_lock.acquire(blocking=False):
            return []
        try:
            return self._prompts(texts, *work)
        finally:
            self._tokenizer_lock.release()

    def _prompts_locked(self, *work: Any) -> list[list[Prompt]]:
        with self._tokenizer_lock:
            return self._prompts(*work)

    def _prompts(
        self, texts: Sequence[str], first: int, long_texts: LongTexts, noun: str, cancelled: threading.Event
    ) -> list[list[Prompt]]:
        built: list[list[Prompt]] = []
        for position, text in enumerate(texts, first):
            if cancelled.is_set():
                return built
            prompts = self._prompts_of(text, long_texts)
            if (highest := max(max(prompt.ids) for prompt in prompts)) >= self._vocabulary:
                raise UnknownTokenError(
                    f"{noun} {position} has token {highest}, but the model's vocabulary has {self._vocabulary} tokens"
                )
            built.append(prompts)
        return built

    def _prompts_of(self, text: str, long_texts: LongTexts) -> list[Prompt]:
        if long_texts == "window":
            return build_windows(self._tokenizer, self._form, text, self._max_prompt_tokens)
        return [build_prompt(self._tokenizer, self._form, text, self._max_prompt_tokens)]

    async def score_prompts(self, texts: Sequence[Sequence[Prompt]]) -> Scored:
        """Return one score per text, given its prompts. The first failure cancels the other prompts.

        Raises LabelTokenMissing, EngineError.
        """
        flow = self.queue.flow(sum(len(prompt.ids) for prompts in texts for prompt in prompts))
        if [len(prompts) for prompts in texts] == [1]:  # most requests; a task group costs more than the queue
            values = [[await self._value(flow, texts[0][0])]]
        else:
            values = await self._values(flow, texts)
        scores = [
            Score(max(windows), any(prompt.truncated for prompt in prompts), len(prompts))
            for windows, prompts in zip(values, texts, strict=True)
        ]
        return Scored(scores, flow.longest_wait)

    async def _values(self, flow: Flow, texts: Sequence[Sequence[Prompt]]) -> list[list[float]]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [[group.create_task(self._value(flow, prompt)) for prompt in prompts] for prompts in texts]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return [[task.result() for task in windows] for windows in tasks]

    async def _value(self, flow: Flow, prompt: Prompt) -> float:
        turn = await self.queue.enter(flow, len(prompt.ids))
        answered = False
        try:
            toxic, non_toxic = await self._engine.label_logits(prompt.ids, large=flow.large)
            answered = True
        finally:
            self.queue.leave(turn, answered=answered)
        try:
            return toxic_score(toxic, non_toxic)
        except ValueError as error:
            raise LabelTokenMissing(str(error)) from error


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the texts in order, in chunks of CHUNK_CHARACTERS or of one longer text."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        if chunk and size + len(text) > CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    yield chunk
