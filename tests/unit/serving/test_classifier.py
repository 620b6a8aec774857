"""Prompts and scores of many texts: their limits, failures and cancellation."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Literal

import pytest

from support.serving.word_engine import CONFIG, HELD_WORD, TOXIC_WORD, UNKNOWN_CHARACTER, VOCABULARY, WordEngine
from support.training.letter_tokenizer import LetterTokenizer
from toxicity_api.prompting import MOST_WINDOWS
from toxicity_serving.classifier import (
    CHUNK_CHARACTERS,
    INLINE_CHARACTERS,
    Classifier,
    TooManyWindowsError,
    UnknownTokenError,
)
from toxicity_serving.engine.protocol import EngineError, LabelTokenMissing, LoadedModel

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

    async def label_logits(self, prompt_ids: list[int], *, large: bool = False) -> tuple[float, float]:
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


async def build_on_loop(classifier: Classifier, tokenizer: HeldTokenizer) -> None:
    """Request the prompts of a short text while the thread is at a long one, which goes on only afterwards."""
    long = asyncio.create_task(classifier.build_prompts(TEXTS[:1]))
    await asyncio.to_thread(tokenizer.reached.wait, 10)
    short = asyncio.create_task(classifier.build_prompts(["чай"]))
    await asyncio.sleep(0)
    assert not long.done() and not short.done()
    tokenizer.let_on.set()
    await asyncio.gather(long, short)


def test_short_text_does_not_block_the_event_loop_while_the_thread_tokenizes() -> None:
    tokenizer = HeldTokenizer()
    classifier = Classifier(CONFIG, WordEngine(), LoadedModel(tokenizer, VOCABULARY, "words", "none", "none"))
    asyncio.run(build_on_loop(classifier, tokenizer))


class CountingTokenizer(LetterTokenizer):
    """Counts the texts that it gets. Each text has one digit."""

    def __init__(self) -> None:
        super().__init__()
        self.digits: set[str] = set()

    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> dict[str, list[int]]:
        self.digits.update(filter(str.isdigit, text))
        return super().__call__(
            text, add_special_tokens=add_special_tokens, split_special_tokens=split_special_tokens
        )


EXTRA = MOST_WINDOWS - 1
"""Windows beyond one of a text that has at least the most windows."""


def texts_of(*lengths: int) -> list[str]:
    return [str(number).ljust(length, "а") for number, length in enumerate(lengths)]


@pytest.mark.parametrize(
    ("lengths", "max_extra", "read"),
    [
        ([CHUNK_CHARACTERS - 1, 1, 1], 0, 2),
        ([CHUNK_CHARACTERS - 1, 2, 1], 0, 1),
        ([CHUNK_CHARACTERS + 1, 1], 0, 1),
        ([9000, 9000], 2 * EXTRA - 1, 2),
        ([CHUNK_CHARACTERS, CHUNK_CHARACTERS - 1, 1, 1], EXTRA, 3),
        ([CHUNK_CHARACTERS, CHUNK_CHARACTERS - 1, 2, 1], EXTRA, 2),
    ],
)
def test_request_with_too_many_windows_is_refused_after_the_chunk_that_has_them(
    lengths: list[int], max_extra: int, read: int
) -> None:
    """Its other texts cost the thread no time."""
    tokenizer = CountingTokenizer()
    classifier = Classifier(CONFIG, WordEngine(), LoadedModel(tokenizer, VOCABULARY, "words", "none", "none"))
    with pytest.raises(TooManyWindowsError, match=f"more than {max_extra} windows beyond one per text"):
        asyncio.run(classifier.build_prompts(texts_of(*lengths), "window", max_extra))
    assert len(tokenizer.digits) == read


@pytest.mark.parametrize(
    ("lengths", "max_extra"),
    [([9000], 0), ([9000, 9000, 5], 2 * EXTRA), ([9000, 9000], None), ([5, 5], 0)],
)
def test_request_may_have_the_windows_that_it_is_allowed(lengths: list[int], max_extra: int | None) -> None:
    """A single text may have the most windows in any case."""
    found = asyncio.run(classifier_of(WordEngine()).build_prompts(texts_of(*lengths), "window", max_extra))
    assert [len(prompts) for prompts in found] == [MOST_WINDOWS if length > 5 else 1 for length in lengths]


def test_text_is_as_toxic_as_its_worst_window() -> None:
    classifier = classifier_of(WordEngine())
    plain, rude = asyncio.run(classifier.scores(["а" * 250, "а" * 250 + TOXIC_WORD]))
    [alone] = asyncio.run(classifier.scores(["а" * 250 + TOXIC_WORD]))
    assert plain.value < 0.5 < rude.value == alone.value
    assert (plain.windows, rude.windows, alone.windows, alone.truncated) == (2, 2, 2, False)


@pytest.mark.parametrize("texts", [["чай"], ["чай", "кофе"]])
def test_engine_owes_no_answer_after_the_last_one(texts: list[str]) -> None:
    """The watchdog takes an engine that owes one for too long as stalled."""
    answering, failing = classifier_of(WordEngine()), classifier_of(FailingEngine())
    asyncio.run(answering.scores(texts))
    with pytest.raises(EngineError):
        asyncio.run(failing.scores(texts))
    assert answering.queue.unanswered_seconds() == 0
    assert failing.queue.unanswered_seconds() > 0


async def fill(engine: WordEngine, classifier: Classifier, count: int) -> int:
    """Return how many of `count` prompts the engine has at a time."""
    await engine.start()
    task = asyncio.create_task(classifier.scores([HELD_WORD] * count))
    while not engine.active:
        await asyncio.sleep(0)
    at_once = classifier.queue.in_engine
    engine.release()
    assert len(await task) == count
    return at_once


def test_engine_has_four_batches_at_most() -> None:
    engine = WordEngine()
    config = CONFIG.model_copy(update={"max_num_seqs": 2})
    loaded = LoadedModel(LetterTokenizer(), VOCABULARY, "words", "none", "none")
    assert asyncio.run(fill(engine, Classifier(config, engine, loaded), 11)) == 8


@pytest.mark.parametrize("before", [["чай", "кофе"], ["а" * CHUNK_CHARACTERS, "чай"]])
def test_text_with_an_unknown_token_is_named_by_its_place_in_the_request(before: list[str]) -> None:
    texts = [*before, chr(VOCABULARY - 1), f"чай{UNKNOWN_CHARACTER}", UNKNOWN_CHARACTER]
    with pytest.raises(UnknownTokenError, match=f"text 3 has token {VOCABULARY}, but .* has {VOCABULARY} tokens"):
        asyncio.run(classifier_of(WordEngine()).build_prompts(texts))


class VagueEngine(WordEngine):
    """Returns log-probabilities that are not numbers."""

    async def label_logits(self, prompt_ids: list[int], *, large: bool = False) -> tuple[float, float]:
        return math.nan, -1.0


def test_log_probability_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(LabelTokenMissing, match="not finite"):
        asyncio.run(classifier_of(VagueEngine()).scores(["чай"]))
