"""Prompts and scores of many texts: their limits, failures and cancellation."""

from __future__ import annotations

import asyncio
import threading
from typing import Literal

import pytest

from support.serving.word_engine import CONFIG, VOCABULARY, WordEngine
from support.training.letter_tokenizer import LetterTokenizer
from toxicity_api.prompting import LabelTokens
from toxicity_serving.classifier import INLINE_CHARACTERS, Classifier
from toxicity_serving.engine.protocol import EngineError, LoadedModel

TEXTS = [f"чай номер {number}." + " чай" * INLINE_CHARACTERS for number in range(50)]
"""Too long to be tokenized on the event loop."""


class HeldTokenizer(LetterTokenizer):
    """Blocks at its first text until `let_on` is set, and records the texts and the threads."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.let_on = threading.Event(), threading.Event()
        self.texts: set[str] = set()
        self.threads: set[int] = set()

    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> dict[str, list[int]]:
        if found := [one for one in TEXTS if one in text]:
            self.texts.update(found)
            self.threads.add(threading.get_ident())
            self.reached.set()
            assert self.let_on.wait(10)
        return super().__call__(
            text, add_special_tokens=add_special_tokens, split_special_tokens=split_special_tokens
        )


async def give_up(classifier: Classifier, tokenizer: HeldTokenizer, how: str) -> None:
    """Request the prompts of TEXTS, and cancel the request while the first prompt is built."""
    asked = asyncio.create_task(classifier.build_prompts(TEXTS))
    await asyncio.to_thread(tokenizer.reached.wait, 10)
    if how == "cancelled":
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asked
    tokenizer.let_on.set()
    assert await classifier.build_prompts(["чай"])


@pytest.mark.parametrize("how", ["cancelled", "past its deadline"])
def test_cancelled_request_frees_the_thread_after_the_current_text(how: str) -> None:
    tokenizer = HeldTokenizer()
    classifier = Classifier(CONFIG, WordEngine(), LoadedModel(tokenizer, VOCABULARY, "words", "none", "none"))
    asyncio.run(give_up(classifier, tokenizer, how))
    assert tokenizer.texts == {TEXTS[0]}


def classifier_of(engine: WordEngine) -> Classifier:
    return Classifier(CONFIG, engine, LoadedModel(LetterTokenizer(), VOCABULARY, "words", "none", "none"))


@pytest.mark.parametrize("long_texts", ["window", "truncate"])
def test_prompt_leaves_room_for_the_one_token_that_is_generated(long_texts: Literal["window", "truncate"]) -> None:
    """An engine refuses a prompt as long as its window."""
    [prompts] = asyncio.run(classifier_of(WordEngine()).build_prompts(["а" * 1000], long_texts))
    assert max(len(prompt.ids) for prompt in prompts) == CONFIG.max_model_len - 1


class FailingEngine(WordEngine):
    """Fails with the text of the prompt."""

    async def label_logprobs(self, prompt_ids: list[int], labels: LabelTokens) -> tuple[float, float]:
        raise EngineError("".join(map(chr, prompt_ids[1:])))


def test_first_of_several_failures_is_raised() -> None:
    with pytest.raises(EngineError, match="раз"):
        asyncio.run(classifier_of(FailingEngine()).scores(["раз", "два", "три"]))


async def build_two(classifier: Classifier, tokenizer: HeldTokenizer) -> None:
    """Request prompts while those of another request are built."""
    first = asyncio.create_task(classifier.build_prompts(TEXTS[:1]))
    await asyncio.to_thread(tokenizer.reached.wait, 10)
    second = asyncio.create_task(classifier.build_prompts(TEXTS[1:2]))
    await asyncio.sleep(0)
    tokenizer.let_on.set()
    await asyncio.gather(first, second)


def test_tokenizer_is_never_used_by_two_threads() -> None:
    """A fast tokenizer would fail with "Already borrowed"."""
    tokenizer = HeldTokenizer()
    classifier = Classifier(CONFIG, WordEngine(), LoadedModel(tokenizer, VOCABULARY, "words", "none", "none"))
    asyncio.run(build_two(classifier, tokenizer))
    assert tokenizer.texts == {TEXTS[0], TEXTS[1]}
    assert len(tokenizer.threads) == 1
