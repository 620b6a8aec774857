"""From texts to scores: prompt ids as in training, one engine call per prompt, softmax over the two label tokens."""

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
    """A text has a token that the tokenizer knows and the weights do not."""


@dataclass(frozen=True)
class Score:
    """`value` is p(toxic) in [0, 1], the highest of all windows; `truncated` when something of the text was cut."""

    value: float
    truncated: bool
    windows: int = 1


class Classifier:
    """A started engine with its tokenizer and label tokens."""

    def __init__(self, config: EngineConfig, engine: Engine, loaded: LoadedModel) -> None:
        """Raises toxicity_api.prompting.LabelTokenError when the labels cannot be told apart."""
        self._engine = engine
        self._tokenizer = loaded.tokenizer
        self._vocabulary = loaded.vocabulary
        self._template = config.prompt_template
        self._max_prompt_tokens = config.max_model_len - 1  # one is generated
        self._long_texts = config.long_texts
        self._labels = label_tokens(loaded.tokenizer, config.labels)
        # one thread: a fast tokenizer must not be used by two at once ("Already borrowed")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize")

    async def scores(self, texts: Sequence[str]) -> list[Score]:
        """One score per text, in order. Raises UnknownTokenError, LabelTokenMissing, EngineError."""
        return await self.score_prompts(await self.build_prompts(texts))

    async def build_prompts(self, texts: Sequence[str], long_texts: LongTexts | None = None) -> list[list[Prompt]]:
        """The prompts of each text, several where it is longer than the model's window and not to be cut.

        `long_texts` None means the configuration's. Raises UnknownTokenError.
        """
        loop, given_up = asyncio.get_running_loop(), threading.Event()
        work = (texts, long_texts or self._long_texts, given_up)
        try:
            return await loop.run_in_executor(self._thread, self._prompts, *work)
        except asyncio.CancelledError:
            given_up.set()  # nothing else stops the thread, for which everybody else waits
            raise

    def _prompts(
        self, texts: Sequence[str], long_texts: LongTexts, given_up: threading.Event
    ) -> list[list[Prompt]]:
        made: list[list[Prompt]] = []
        for position, text in enumerate(texts):
            if given_up.is_set():
                return made
            prompts = self._prompts_of(text, long_texts)
            if (highest := max(max(prompt.ids) for prompt in prompts)) >= self._vocabulary:
                raise UnknownTokenError(
                    f"text {position} has token {highest}, the model knows those below {self._vocabulary} only"
                )
            made.append(prompts)
        return made

    def _prompts_of(self, text: str, long_texts: LongTexts) -> list[Prompt]:
        if long_texts == "window":
            return build_windows(self._tokenizer, self._template, text, self._max_prompt_tokens)
        return [build_prompt(self._tokenizer, self._template, text, self._max_prompt_tokens)]

    async def score_prompts(self, texts: Sequence[Sequence[Prompt]]) -> list[Score]:
        """One score per text, given as its prompts. The first failure ends the others' work in the engine.

        Raises LabelTokenMissing, EngineError.
        """
        try:
            async with asyncio.TaskGroup() as group:
                asked = [[group.create_task(self._value(prompt)) for prompt in prompts] for prompts in texts]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return [
            Score(max(task.result() for task in tasks), any(p.truncated for p in prompts), len(prompts))
            for tasks, prompts in zip(asked, texts, strict=True)
        ]

    async def _value(self, prompt: Prompt) -> float:
        toxic, non_toxic = await self._engine.label_logprobs(prompt.ids, self._labels)
        try:
            return toxic_score(toxic, non_toxic)
        except ValueError as error:
            raise LabelTokenMissing(str(error)) from error
