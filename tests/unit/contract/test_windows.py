"""Windows over a long text: they cover every token, neighbours overlap, and each has the whole template."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import pytest

from support.training.letter_tokenizer import LetterTokenizer
from toxicity_api.prompting import Prompt, build_prompt, build_windows, window_starts
from toxicity_api.spec import PromptFormat

TEMPLATE = "текст: {text}\nответ:"
FORM = PromptFormat(TEMPLATE, normal_form=0)
BEFORE, AFTER = "текст: ", "\nответ:"
AROUND = 1 + len(BEFORE) + len(AFTER)


class WordTokenizer:
    """A token is a word with the space before it, as in SentencePiece, so a prefix's last space joins the text."""

    bos_token_id: int | None = None

    def __init__(self) -> None:
        self.words: list[str] = []

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        return {}

    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> dict[str, list[int]]:
        ids = []
        for word in re.findall(r" ?[^ ]+| ", text):
            if word not in self.words:
                self.words.append(word)
            ids.append(self.words.index(word))
        return {"input_ids": ids}

    def decoded(self, prompt: Prompt) -> str:
        return "".join(self.words[token] for token in prompt.ids)


def text_of(prompt: Prompt) -> str:
    whole = "".join(map(chr, prompt.ids[1:]))
    assert prompt.ids[0] == 1
    assert whole.startswith(BEFORE) and whole.endswith(AFTER), whole
    return whole[len(BEFORE) : -len(AFTER)]


def letters(count: int) -> str:
    """Return distinct characters, so that each position in the text can be identified."""
    return "".join(chr(0x4E00 + index) for index in range(count))


def test_a_text_that_fits_is_one_prompt_as_ever() -> None:
    text = letters(40)
    [prompt] = build_windows(LetterTokenizer(), FORM, text, 40 + AROUND)
    assert prompt == build_prompt(LetterTokenizer(), FORM, text, 40 + AROUND)
    assert not prompt.truncated


@pytest.mark.parametrize("length", [41, 60, 70, 71, 99, 100, 101, 399])
def test_windows_lose_nothing_and_overlap(length: int) -> None:
    size, overlap, text = 40, 10, letters(length)
    windows = build_windows(LetterTokenizer(), FORM, text, size + AROUND, overlap)
    parts = [text_of(window) for window in windows]
    assert {len(part) for part in parts} == {size}, "each window is full"
    assert not any(window.truncated for window in windows)
    assert text.startswith(parts[0]) and text.endswith(parts[-1])
    places = [text.index(part) for part in parts]
    shared = [before + size - after for before, after in itertools.pairwise(places)]
    assert set(shared[:-1]) <= {overlap} and shared[-1] >= overlap
    assert len(parts) == -(-(length - overlap) // (size - overlap)), "no more windows than needed"


def test_a_phrase_as_long_as_the_overlap_is_whole_in_one_window() -> None:
    text = letters(500)
    parts = [text_of(w) for w in build_windows(LetterTokenizer(), FORM, text, 60 + AROUND, 16)]
    assert all(any(text[at : at + 16] in part for part in parts) for at in range(len(text) - 15))


def test_an_overlap_beyond_half_a_window_still_gets_on() -> None:
    windows = build_windows(LetterTokenizer(), FORM, letters(100), 20 + AROUND, 64)
    assert [text_of(window)[0] for window in windows] == list(letters(100)[0:81:10])


def test_a_text_of_too_many_windows_is_cut_and_flagged() -> None:
    windows = build_windows(LetterTokenizer(), FORM, letters(500), 20 + AROUND, 5, most=3)
    assert [window.truncated for window in windows] == [False, False, True]
    assert text_of(windows[-1]) == letters(500)[30:50]


def test_the_usual_limit_of_windows_holds() -> None:
    windows = build_windows(LetterTokenizer(), FORM, letters(9000), 200 + AROUND)
    assert len(windows) == 32 and windows[-1].truncated
    assert text_of(windows[0])[-64:] == text_of(windows[1])[:64], "neighbours share 64 tokens"
    assert text_of(windows[0])[-65] not in text_of(windows[1])


QUOTED = PromptFormat("ответь:«{text}»", normal_form=0)


def test_tokens_across_the_ends_of_a_text_that_fits_are_those_of_the_whole() -> None:
    """Both builders tokenize a text that fits together with the template, however the tokens fall."""
    tokenizer, text = WordTokenizer(), "слово ещё одно"
    whole = tokenizer("ответь:«слово ещё одно»", add_special_tokens=False)["input_ids"]
    assert [tokenizer.words[token] for token in whole] == ["ответь:«слово", " ещё", " одно»"]
    assert build_windows(tokenizer, QUOTED, text, len(whole)) == [Prompt(whole, truncated=False)]
    assert build_prompt(tokenizer, QUOTED, text, len(whole)) == Prompt(whole, truncated=False)


def test_room_for_one_token_of_text_is_enough() -> None:
    prompt = build_prompt(LetterTokenizer(), FORM, "длинный текст", AROUND + 1)
    assert (text_of(prompt), prompt.truncated) == ("д", True)


def test_a_token_across_prefix_and_text_is_kept_with_the_text() -> None:
    tokenizer, text = WordTokenizer(), " ".join(f"слово{index}" for index in range(40))
    windows = build_windows(tokenizer, FORM, text, 14, 3)
    assert all(tokenizer.decoded(window).startswith(BEFORE) for window in windows)
    assert all(tokenizer.decoded(window).endswith(AFTER) for window in windows)
    seen = {word for window in windows for word in tokenizer.decoded(window).split()}
    assert set(text.split()) <= seen
    assert max(len(window.ids) for window in windows) <= 14


def test_a_template_that_fills_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt template leaves no room"):
        build_windows(LetterTokenizer(), FORM, "длинный текст", AROUND)


@pytest.mark.parametrize(
    ("length", "size", "overlap", "starts"),
    [
        (5, 10, 3, [0]),
        (10, 10, 3, [0]),
        (11, 10, 3, [0, 1]),
        (17, 10, 3, [0, 7]),
        (18, 10, 3, [0, 7, 8]),
        (3, 1, 1, [0, 1, 2]),
    ],
)
def test_window_starts(length: int, size: int, overlap: int, starts: list[int]) -> None:
    assert window_starts(length, size, overlap) == starts


@pytest.mark.parametrize(("length", "truncated"), [(50, False), (51, True)])
def test_text_that_fills_exactly_the_most_windows_is_not_cut(length: int, truncated: bool) -> None:
    """Windows of 20 letters that share 5 begin at 0, 15 and 30: three of them end at letter 50."""
    windows = build_windows(LetterTokenizer(), FORM, letters(length), 20 + AROUND, 5, most=3)
    assert len(windows) == 3
    assert [window.truncated for window in windows] == [False, False, truncated]
    assert text_of(windows[-1]).endswith(letters(length)[-1]) is not truncated


@pytest.mark.parametrize(("length", "count"), [(20, 1), (21, 2), (35, 2), (36, 3)])
def test_no_window_is_made_for_a_text_that_the_ones_before_have_shown(length: int, count: int) -> None:
    assert len(build_windows(LetterTokenizer(), FORM, letters(length), 20 + AROUND, 5)) == count


@pytest.mark.parametrize(
    ("length", "size", "overlap", "starts"),
    [
        (50, 20, 5, [0, 15, 30]),
        (51, 20, 5, [0, 15, 30, 31]),
        (20, 20, 5, [0]),
        (21, 20, 5, [0, 1]),
        (3, 1, 64, [0, 1, 2]),
        (5, 2, 64, [0, 1, 2, 3]),
        (10, 4, 2, [0, 2, 4, 6]),
        (10, 4, 3, [0, 2, 4, 6]),
    ],
)
def test_windows_begin_where_the_ones_before_leave_off(
    length: int, size: int, overlap: int, starts: list[int]
) -> None:
    assert window_starts(length, size, overlap) == starts
