"""Test that short texts are tokenized at once, and long ones in a thread, never both at the same time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from support.serving.word_engine import CONFIG, VOCABULARY, WordEngine
from support.training.letter_tokenizer import LetterTokenizer
from toxicity_serving.classifier import INLINE_CHARACTERS, Classifier
from toxicity_serving.engine.protocol import LoadedModel

LONG = "а" * (INLINE_CHARACTERS + 1)


class Watched(LetterTokenizer):
    """Records which thread tokenizes, and fails when two do. Long texts wait for `may_go_on`."""

    def __init__(self) -> None:
        super().__init__([])
        self.threads: list[str] = []
        self.may_go_on, self.in_long = threading.Event(), threading.Event()
        self._users = threading.Lock()

    def __call__(self, text: str, **options: Any) -> Any:
        assert self._users.acquire(blocking=False), "Already borrowed"
        try:
            self.threads.append(threading.current_thread().name)
            if LONG in text:
                self.in_long.set()
                assert self.may_go_on.wait(10)
            return super().__call__(text, **options)
        finally:
            self._users.release()


def test_short_text_is_tokenized_at_once_unless_a_long_one_is() -> None:
    async def run() -> None:
        tokenizer = Watched()
        loaded = LoadedModel(tokenizer, VOCABULARY, "words", "unquantized", "float32")
        classifier = Classifier(CONFIG, WordEngine(), loaded)
        tokenizer.threads.clear()
        await classifier.build_prompts(["а" * INLINE_CHARACTERS])
        assert set(tokenizer.threads) == {threading.current_thread().name}
        tokenizer.threads.clear()
        long = asyncio.create_task(classifier.build_prompts([LONG]))
        await asyncio.to_thread(tokenizer.in_long.wait, 10)
        short = asyncio.create_task(classifier.build_prompts(["б"]))
        await asyncio.sleep(0.01)
        assert not short.done()
        tokenizer.may_go_on.set()
        assert len(await long) == len(await short) == 1
        assert {name.partition("_")[0] for name in tokenizer.threads} == {"tokenize"}

    asyncio.run(run())


def test_batch_is_tokenized_in_turn_with_others() -> None:
    async def run() -> list[str]:
        order: list[str] = []

        class Ordered(LetterTokenizer):
            def __call__(self, text: str, **options: Any) -> Any:
                order.append("batch" if "б" in text else "other")
                return super().__call__(text, **options)

        loaded = LoadedModel(Ordered([]), VOCABULARY, "words", "unquantized", "float32")
        classifier = Classifier(CONFIG, WordEngine(), loaded)
        order.clear()
        batch = asyncio.create_task(classifier.build_prompts(["б" * 15_000] * 20))
        await asyncio.sleep(0)
        await classifier.build_prompts([LONG])
        seen = list(order)
        await batch
        return seen

    assert asyncio.run(run()).count("batch") <= 12, "one or two of twenty texts, each tokenized a few times"
