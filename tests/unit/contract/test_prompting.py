"""Prompts and scores: what training, quantization and serving must agree on to the token."""

from __future__ import annotations

import math

import pytest

from toxicity_api.prompting import LabelTokenError, build_prompt, label_tokens, toxic_score
from toxicity_api.spec import Labels

TEMPLATE = "текст: {text}\nответ:"


class CharacterTokenizer:
    """One token per character, BOS 1: the smallest tokenizer with the real call's shape."""

    bos_token_id: int | None = 1

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens, "the prompt places BOS itself; the tokenizer must not add a second one"
        return {"input_ids": [ord(character) for character in text]}


def decoded(ids: list[int]) -> str:
    return "".join(map(chr, ids[1:]))


def test_prompt_begins_with_one_bos_and_ends_with_the_question() -> None:
    prompt = build_prompt(CharacterTokenizer(), TEMPLATE, "привет", 100)
    assert prompt.ids[0] == 1 and prompt.ids.count(1) == 1
    assert decoded(prompt.ids) == "текст: привет\nответ:"
    assert not prompt.truncated


def test_braces_in_a_comment_are_text() -> None:
    prompt = build_prompt(CharacterTokenizer(), TEMPLATE, "{0} {text} {", 100)
    assert decoded(prompt.ids) == "текст: {0} {text} {\nответ:"


@pytest.mark.parametrize("excess", [1, 2, 50])
def test_long_text_loses_its_end_and_keeps_the_question(excess: int) -> None:
    room = 40
    text = "а" * (room - len("текст: \nответ:") - 1 + excess)
    prompt = build_prompt(CharacterTokenizer(), TEMPLATE, text, room)
    assert len(prompt.ids) == room and prompt.truncated
    assert decoded(prompt.ids).startswith("текст: а") and decoded(prompt.ids).endswith("а\nответ:")


def test_prompt_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt template alone"):
        build_prompt(CharacterTokenizer(), TEMPLATE, "длинный текст", 15)


def test_labels_with_one_first_token_are_refused() -> None:
    with pytest.raises(LabelTokenError, match="begin with the same token"):
        label_tokens(CharacterTokenizer(), Labels(toxic=" да", non_toxic=" дура"[:2] + "о"))


def test_label_tokens_are_the_first_ids() -> None:
    found = label_tokens(CharacterTokenizer(), Labels(toxic="да", non_toxic="нет"))
    assert (found.toxic, found.non_toxic) == (ord("д"), ord("н"))


@pytest.mark.parametrize(
    ("toxic", "clean", "score"),
    [
        (0.0, 0.0, 0.5),
        (math.log(3), 0.0, 0.75),
        (-5.0, -5.0 + math.log(3), 0.25),
        (0.0, 2000.0, 0.0),
        (2000.0, 0.0, 1.0),
    ],
)
def test_score_is_the_softmax_of_both_labels(toxic: float, clean: float, score: float) -> None:
    assert toxic_score(toxic, clean) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("logit", [math.nan, math.inf, -math.inf])
def test_score_of_a_logit_that_is_not_finite_is_an_error(logit: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        toxic_score(logit, 0.0)
