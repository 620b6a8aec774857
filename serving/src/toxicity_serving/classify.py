"""From texts to scores: prompt ids as in training, one engine call per text, softmax over the two label tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from toxicity_api.prompting import Prompt, Tokenizer, build_prompt, label_tokens, toxic_score
from toxicity_api.stage_config import ServingConfig
from toxicity_serving.engine import Engine, LabelTokenMissing


@dataclass(frozen=True)
class Score:
    """`value` is p(toxic) in [0, 1]; `truncated` when the end of the text was cut."""

    value: float
    truncated: bool


class Classifier:
    """A started engine with its tokenizer and label tokens."""

    def __init__(self, config: ServingConfig, engine: Engine, tokenizer: Tokenizer) -> None:
        """Raises toxicity_api.prompting.LabelTokenError when the labels cannot be told apart."""
        self._engine = engine
        self._tokenizer = tokenizer
        self._template = config.prompt_template
        self._max_prompt_tokens = config.max_model_len - 1  # one is generated
        self._labels = label_tokens(tokenizer, config.labels)
        # one thread: a fast tokenizer must not be used by two at once ("Already borrowed")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize")

    async def scores(self, texts: Sequence[str]) -> list[Score]:
        """One score per text, in order. Raises LabelTokenMissing, EngineError."""
        prompts = await asyncio.get_running_loop().run_in_executor(self._thread, self._prompts, texts)
        return await asyncio.gather(*map(self._score, prompts))

    def _prompts(self, texts: Sequence[str]) -> list[Prompt]:
        return [build_prompt(self._tokenizer, self._template, text, self._max_prompt_tokens) for text in texts]

    async def _score(self, prompt: Prompt) -> Score:
        toxic, non_toxic = await self._engine.label_logprobs(prompt.ids, self._labels)
        try:
            return Score(toxic_score(toxic, non_toxic), prompt.truncated)
        except ValueError as error:
            raise LabelTokenMissing(str(error)) from error
