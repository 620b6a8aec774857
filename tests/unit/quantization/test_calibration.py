"""Calibration sees the training split through the very prompt that is served."""

from __future__ import annotations

import pytest

from toxicity_api.spec import TrainingSpec
from toxicity_quantization.calibrate import calibration_prompts
from toxicity_training.data import Example
from toxicity_training.errors import ModelError

TRAIN = [Example(f"текст {index}", index % 4 == 0) for index in range(200)]
SPEC = TrainingSpec(gpus=0, prompt_template="<{text}>")


class LetterTokenizer:
    """One token a letter; BOS is 1."""

    bos_token_id = 1

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


def texts(prompts: list[list[int]]) -> list[str]:
    return ["".join(map(chr, prompt[1:])) for prompt in prompts]


def test_calibration_prompts_are_training_texts_in_the_template_stratified_and_seeded() -> None:
    prompts = calibration_prompts(LetterTokenizer(), TRAIN, SPEC, 32, 64)
    toxic = {f"<{e.text}>" for e in TRAIN if e.toxic}
    everything = {f"<{e.text}>" for e in TRAIN}
    assert len(set(texts(prompts))) == 32
    assert set(texts(prompts)) <= everything
    assert sum(text in toxic for text in texts(prompts)) == 8
    assert prompts == calibration_prompts(LetterTokenizer(), TRAIN, SPEC, 32, 64)
    other = SPEC.model_copy(update={"seed": 7})
    assert prompts != calibration_prompts(LetterTokenizer(), TRAIN, other, 32, 64)


def test_calibration_prompts_keep_to_the_length_and_the_question() -> None:
    long = [Example("я" * 300 + str(index), index % 2 == 0) for index in range(20)]
    prompts = calibration_prompts(LetterTokenizer(), long, SPEC, 8, 40)
    assert {len(prompt) for prompt in prompts} == {40}
    assert all(text.endswith(">") for text in texts(prompts))


def test_calibration_prompts_name_the_field_when_the_length_is_too_small() -> None:
    spec = SPEC.model_copy(update={"prompt_template": "q" * 40 + "{text}"})
    with pytest.raises(ModelError, match=r"quantization\.calibrationLength"):
        calibration_prompts(LetterTokenizer(), TRAIN, spec, 8, 20)
