"""Test that a cancelled request does not block the thread that builds the prompts of all requests."""

from __future__ import annotations

import asyncio
import threading

import pytest

from support.serving.word_engine import CONFIG, VOCABULARY, WordEngine
from support.training.letter_tokenizer import LetterTokenizer
from toxicity_serving.classifier import Classifier
from toxicity_serving.engine.protocol import LoadedModel

TEXTS = [f"чай номер {number}." for number in range(50)]


class HeldTokenizer(LetterTokenizer):
    """Blocks at its first text until `let_on` is set, and records the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.let_on = threading.Event(), threading.Event()
        self.texts: set[str] = set()

    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> dict[str, list[int]]:
        if found := [one for one in TEXTS if one in text]:
            self.texts.update(found)
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
