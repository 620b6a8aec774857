"""The protocol of an inference engine. It works on token ids; `classifier` converts texts and scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from toxicity_api.prompting import Tokenizer


class EngineError(RuntimeError):
    """The engine has failed for good. The process must be restarted."""


class LabelTokenMissing(RuntimeError):
    """The engine's output lacks the log-probability of a label token."""


class PromptRefusedError(RuntimeError):
    """The engine did not accept a prompt. It works on."""


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model; `verified` is set when the weights match their checksums.

    `normal_form` is the version of the texts' normal form that the model was trained with, 0 for none.

    While large and small requests meet, the engine computes at most `prefill_chunk` tokens of a prompt in one step;
    None means all.

    The weights have the token ids below `vocabulary`. A tokenizer can have more ids, which would crash the engine.
    """

    tokenizer: Tokenizer
    vocabulary: int
    engine: str
    weights: str
    dtype: str
    verified: bool = False
    normal_form: int = 0
    prefill_chunk: int | None = None


class Engine(Protocol):
    """One causal language model that scores the next token."""

    async def start(self) -> LoadedModel:
        """Load the model, and return when it is ready for prompts.

        Raises EngineError, and toxicity_api.prompting.LabelTokenError when both labels begin with the same token.
        """
        ...

    async def label_logits(self, prompt_ids: list[int], *, large: bool = False) -> tuple[float, float]:
        """Return the logits of the (toxic, non-toxic) labels after the prompt, or their log-probabilities.

        `large` marks a prompt of a large request, which may take longer beside those of small ones.
        Cancelling the call aborts the prompt in the engine.
        Raises LabelTokenMissing when the output lacks one, PromptRefusedError when the engine does not accept the
        prompt, EngineError when the engine is dead.
        """
        ...

    async def check(self) -> None:
        """Check the engine. Raises EngineError when it has died."""
        ...

    async def stop(self) -> None:
        """Release the engine's resources, also after a failed start."""
        ...
