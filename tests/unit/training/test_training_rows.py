"""Training rows: the prompt, then the label, with targets on the label only."""

from __future__ import annotations

import pytest

from support.training.letter_tokenizer import LetterTokenizer
from toxicity_api.spec import Labels, TrainingSpec
from toxicity_stage.errors import ModelError
from toxicity_training.dataset import Example
from toxicity_training.engines.rows import build_rows


def spec(toxic: str, other: str, length: int = 16) -> TrainingSpec:
    return TrainingSpec(
        gpus=0,
        prompt_template="<{text}>",
        labels=Labels(toxic=toxic, non_toxic=other),
        max_input_length=length,
    )


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_a_label_of_one_token_is_the_target_of_the_prompt_s_last_position() -> None:
    rows = build_rows(LetterTokenizer(), [Example("ab", True), Example("c", False)], spec("Y", "N"))
    assert rows == [
        {"input_ids": [1, *letters("<ab>")], "targets": letters("Y")},
        {"input_ids": [1, *letters("<c>")], "targets": letters("N")},
    ]


def test_all_tokens_of_a_longer_label_are_targets() -> None:
    rows = build_rows(LetterTokenizer(), [Example("ab", True), Example("c", False)], spec("yes", "no"))
    assert rows[0] == {"input_ids": [1, *letters("<ab>ye")], "targets": letters("yes")}
    assert rows[1] == {"input_ids": [1, *letters("<c>n")], "targets": letters("no")}


def test_a_long_text_is_cut_and_the_question_stays() -> None:
    (row,) = build_rows(LetterTokenizer(), [Example("x" * 50, True)], spec("Y", "N", length=16))
    assert row["input_ids"] == [1, *letters("<" + "x" * 13 + ">")]


def test_labels_that_begin_alike_are_refused() -> None:
    with pytest.raises(ModelError) as caught:
        build_rows(LetterTokenizer(), [Example("a", True)], spec("ya", "yb"))
    assert caught.value.reason == "LabelsNotDistinct"
    assert "training.labels" in str(caught.value)


def test_a_template_without_room_for_text_is_refused() -> None:
    long = spec("Y", "N").model_copy(update={"prompt_template": "q" * 40 + "{text}"})
    with pytest.raises(ModelError, match=r"training\.maxInputLength") as caught:
        build_rows(LetterTokenizer(), [Example("a", True)], long)
    assert caught.value.reason == "PromptTooLong"
