"""The inference engine behind a small protocol. It knows token ids; texts and scores are `classify`'s business."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from toxicity_api.prompting import LabelTokens, Tokenizer


class EngineError(RuntimeError):
    """The engine cannot work any more; the process has to be replaced."""


class LabelTokenMissing(RuntimeError):
    """The engine's answer lacks the log-probability of a label token."""


@dataclass(frozen=True)
class LoadedModel:
    """What an engine has after its start; `verified` when the weights were found to be those of their checksums.

    The weights know the token ids below `vocabulary`; a tokenizer may have more, which would end the engine.
    """

    tokenizer: Tokenizer
    vocabulary: int
    engine: str
    weights: str
    dtype: str
    verified: bool = False


class Engine(Protocol):
    """One causal language model that scores the next token."""

    async def start(self) -> LoadedModel:
        """Loads the model; returns when it can answer. Raises EngineError."""
        ...

    async def label_logprobs(self, prompt_ids: list[int], labels: LabelTokens) -> tuple[float, float]:
        """Log-probabilities of the (toxic, non-toxic) token after the prompt.

        Cancelling it takes the prompt out of the engine.
        Raises LabelTokenMissing when one is not in the answer, EngineError when the engine is dead.
        """
        ...

    async def check(self) -> None:
        """Raises EngineError when the engine has died."""
        ...

    async def stop(self) -> None:
        """Frees what `start` took; also after a failed start."""
        ...
