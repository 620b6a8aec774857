"""Score texts: build the prompts as in training, ask the engine once per prompt, apply softmax to the label tokens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from toxicity_api.prompting import Prompt, build_prompt, build_windows, label_tokens, toxic_score
from toxicity_api.spec import LongTexts
from toxicity_api.stage_config import EngineConfig
from toxicity_serving.engine.protocol import Engine, LabelTokenMissing, LoadedModel


class UnknownTokenError(ValueError):
    """A text contains a token id that the tokenizer has and the weights do not."""


@dataclass(frozen=True)
class Score:
    """`value` is p(toxic) in [0, 1], the highest of all windows; `truncated` is set when the end was cut."""

    value: float
    truncated: bool
    windows: int


class Classifier:
    """A started engine with its tokenizer and label tokens."""

    def __init__(self, config: EngineConfig, engine: Engine, loaded: LoadedModel) -> None:
        """Raises toxicity_api.prompting.LabelTokenError when both labels begin with the same token."""
        self._engine = engine
        self._tokenizer = loaded.tokenizer
        self._vocabulary = loaded.vocabulary
        self._template = config.prompt_template
        self._max_prompt_tokens = config.max_model_len - 1  # one is generated
        self._long_texts = config.long_texts
        self._labels = label_tokens(loaded.tokenizer, config.labels)
        # One thread, because a fast tokenizer fails with "Already borrowed" when two threads use it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize")

    async def scores(self, texts: Sequence[str]) -> list[Score]:
        """Return one score per text, in order. Raises UnknownTokenError, LabelTokenMissing, EngineError."""
        return await self.score_prompts(await self.build_prompts(texts))

    async def build_prompts(self, texts: Sequence[str], long_texts: LongTexts | None = None) -> list[list[Prompt]]:
        """Return the prompts of each text: several when the text is longer than the window and is not truncated.

        `long_texts` None means the configured setting. Raises UnknownTokenError.
        """
        loop, cancelled = asyncio.get_running_loop(), threading.Event()
        work = (texts, long_texts or self._long_texts, cancelled)
        try:
            return await loop.run_in_executor(self._thread, self._prompts, *work)
        except asyncio.CancelledError:
            cancelled.set()  # all requests share the thread, and cancelling the future does not stop it
            raise

    def _prompts(
        self, texts: Sequence[str], long_texts: LongTexts, cancelled: threading.Event
    ) -> list[list[Prompt]]:
        built: list[list[Prompt]] = []
        for position, text in enumerate(texts):
            if cancelled.is_set():
                return built
            prompts = self._prompts_of(text, long_texts)
            if (highest := max(max(prompt.ids) for prompt in prompts)) >= self._vocabulary:
                raise UnknownTokenError(
                    f"text {position} has token {highest}, but the model's vocabulary has {self._vocabulary} tokens"
                )
            built.append(prompts)
        return built

    def _prompts_of(self, text: str, long_texts: LongTexts) -> list[Prompt]:
        if long_texts == "window":
            return build_windows(self._tokenizer, self._template, text, self._max_prompt_tokens)
        return [build_prompt(self._tokenizer, self._template, text, self._max_prompt_tokens)]

    async def score_prompts(self, texts: Sequence[Sequence[Prompt]]) -> list[Score]:
        """Return one score per text, given its prompts. The first failure cancels the other prompts.

        Raises LabelTokenMissing, EngineError.
        """
        try:
            async with asyncio.TaskGroup() as group:
                asked = [
                    (prompts, [group.create_task(self._value(prompt)) for prompt in prompts]) for prompts in texts
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return [
            Score(max(task.result() for task in tasks), any(p.truncated for p in prompts), len(prompts))
            for prompts, tasks in asked
        ]

    async def _value(self, prompt: Prompt) -> float:
        toxic, non_toxic = await self._engine.label_logprobs(prompt.ids, self._labels)
        try:
            return toxic_score(toxic, non_toxic)
        except ValueError as error:
            raise LabelTokenMissing(str(error)) from error
