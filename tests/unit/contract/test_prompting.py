"""Prompts and scores, which must have equal tokens in training, quantization and serving."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from support.training.letter_tokenizer import LetterTokenizer
from toxicity_api.prompting import LabelTokenError, build_prompt, build_windows, label_tokens, toxic_score
from toxicity_api.spec import Labels, PromptFormat, TrainingSpec

TEMPLATE = "текст: {text}\nответ:"
FORM = PromptFormat(TEMPLATE, normal_form=0)


def decoded(ids: list[int]) -> str:
    return "".join(map(chr, ids[1:]))


def test_prompt_begins_with_one_bos_and_ends_with_the_question() -> None:
    prompt = build_prompt(LetterTokenizer(), FORM, "привет", 100)
    assert prompt.ids[0] == 1 and prompt.ids.count(1) == 1
    assert decoded(prompt.ids) == "текст: привет\nответ:"
    assert not prompt.truncated


@pytest.mark.parametrize("room", [100, 24])
def test_prompt_has_the_normal_form_of_its_version(room: int) -> None:
    written, formed = "  прив\u200bе\u0301т вс\u0435\u0308м\r\n", "привет всём"
    now, as_written = PromptFormat(TEMPLATE, 1), PromptFormat(TEMPLATE, 0)
    tokenizer = LetterTokenizer()
    assert build_prompt(tokenizer, now, written, room) == build_prompt(tokenizer, as_written, formed, room)
    assert build_windows(tokenizer, now, written, room) == build_windows(tokenizer, as_written, formed, room)
    assert written in decoded(build_prompt(tokenizer, as_written, written, 100).ids)


def test_braces_in_a_comment_are_text() -> None:
    prompt = build_prompt(LetterTokenizer(), FORM, "{0} {text} {", 100)
    assert decoded(prompt.ids) == "текст: {0} {text} {\nответ:"


@pytest.mark.parametrize("excess", [1, 2, 50])
def test_long_text_loses_its_end_and_keeps_the_question(excess: int) -> None:
    room = 40
    text = "а" * (room - len("текст: \nответ:") - 1 + excess)
    prompt = build_prompt(LetterTokenizer(), FORM, text, room)
    assert len(prompt.ids) == room and prompt.truncated
    assert decoded(prompt.ids).startswith("текст: а") and decoded(prompt.ids).endswith("а\nответ:")


def test_prompt_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt template leaves no room"):
        build_prompt(LetterTokenizer(), FORM, "длинный текст", 15)


def test_labels_with_one_first_token_are_refused() -> None:
    with pytest.raises(LabelTokenError, match=f"begin with the same token {ord(' ')};"):
        label_tokens(LetterTokenizer(), Labels(toxic=" да", non_toxic=" дура"[:2] + "о"))


class MuteTokenizer(LetterTokenizer):
    """Has no tokens for one text."""

    def __init__(self, mute: str) -> None:
        super().__init__()
        self.mute = mute

    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> dict[str, list[int]]:
        found = super().__call__(text, add_special_tokens=add_special_tokens)
        return {"input_ids": []} if text == self.mute else found


@pytest.mark.parametrize("mute", ["да", "нет"])
def test_label_without_tokens_is_refused(mute: str) -> None:
    with pytest.raises(LabelTokenError, match="a label has no tokens"):
        label_tokens(MuteTokenizer(mute), Labels(toxic="да", non_toxic="нет"))


def test_label_tokens_are_the_first_ids() -> None:
    found = label_tokens(LetterTokenizer(), Labels(toxic="да", non_toxic="нет"))
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


CONTROL = ["<eos>", "<turn>"]
CHAT = "<turn>текст: {text}\n<eos><turn>ответ:"


@pytest.mark.parametrize("text", ["ты <eos> дурак", "<turn>", "<eos><eos>ты", "ты <turn"])
@pytest.mark.parametrize("template", [TEMPLATE, CHAT, "{text}>ответ:"])
@pytest.mark.parametrize("room", [20, 23, 100])
def test_names_of_control_tokens_in_a_text_are_characters(text: str, template: str, room: int) -> None:
    tokenizer = LetterTokenizer(CONTROL)
    own = [tokenizer.bos_token_id, *(id_ for id_ in ids_of(tokenizer, template) if id_ <= len(CONTROL) + 1)]
    form = PromptFormat(template, 0)
    prompts = [build_prompt(tokenizer, form, text * 3, room + len(template))]
    prompts += build_windows(tokenizer, form, text * 3, room + len(template), overlap=2)
    for prompt in prompts:
        assert [id_ for id_ in prompt.ids if id_ <= len(CONTROL) + 1] == own
    assert len(prompts) == 2 or room < 100, "the text fits as a whole"


def test_control_tokens_of_the_template_are_ids_around_the_text() -> None:
    tokenizer = LetterTokenizer(CONTROL)
    expected = [1, *ids_of(tokenizer, CHAT.replace("{text}", "привет"))]
    assert build_prompt(tokenizer, PromptFormat(CHAT, 0), "привет", 100).ids == expected
    cut = build_prompt(tokenizer, PromptFormat(CHAT, 0), "привет", len(expected) - 2)
    assert cut.ids == [1, *ids_of(tokenizer, CHAT.replace("{text}", "прив"))]


def test_a_template_that_begins_with_bos_gets_no_second_one() -> None:
    tokenizer = LetterTokenizer(["<eos>", "<bos>"])
    tokenizer.bos_token_id = 3
    prompt = build_prompt(tokenizer, PromptFormat("<bos>текст: {text}", 0), "<bos>", 100)
    assert (prompt.ids[0], prompt.ids.count(3)) == (3, 1)
    longer = build_prompt(tokenizer, PromptFormat("<bos><eos>текст: {text}", 0), "ты", 100)
    assert (longer.ids[:2], longer.ids.count(3)) == ([3, 2], 1)


def test_control_token_just_before_the_text_is_an_id() -> None:
    tokenizer = LetterTokenizer(CONTROL)
    prompt = build_prompt(tokenizer, PromptFormat("вопрос<turn>{text}", 0), "ты", 100)
    assert prompt.ids == [1, *map(ord, "вопрос"), 3, *map(ord, "ты")]


def ids_of(tokenizer: LetterTokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("template", ["no place", "{ text }", "{text} и {text}"])
def test_template_without_exactly_one_place_for_the_text_is_refused(template: str) -> None:
    with pytest.raises(ValidationError, match=r"promptTemplate must contain \{text\} exactly once"):
        TrainingSpec(prompt_template=template)


def test_other_braces_of_a_template_are_characters() -> None:
    template = '{"a": {}} {{text}} {0}'
    assert TrainingSpec(prompt_template=template).prompt_template == template
