"""Calibration uses the training split, with the prompts of serving."""

from __future__ import annotations

import pytest

from support.training.letter_tokenizer import LetterTokenizer
from toxicity_api.spec import TrainingSpec
from toxicity_quantization.calibrate import allot, calibration_prompts, choose, length_classes, prompts_hash
from toxicity_stage.errors import ModelError
from toxicity_training.dataset import Example

TRAIN = [Example(f"текст {index}", index % 4 == 0) for index in range(200)]
SPEC = TrainingSpec(gpus=0, prompt_template="<{text}>")


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


def test_calibration_prompts_are_of_different_texts() -> None:
    train = [Example(f"Текст {index % 10}!", index % 2 == 0) for index in range(100)]
    prompts = calibration_prompts(LetterTokenizer(), train, SPEC, 32, 64)
    assert len(prompts) == len(set(texts(prompts))) == 10


def test_choose_keeps_the_shares_of_labels_and_of_lengths() -> None:
    # a quarter is toxic; toxic texts are mostly long, the others mostly short
    labels = [index % 4 == 0 for index in range(1200)]
    lengths = [
        (30 if index % 3 else 10 + index % 7) if toxic else 10 + index % 20 for index, toxic in enumerate(labels)
    ]
    chosen = choose(labels, lengths, 120, seed=1)
    assert len(set(chosen)) == 120
    assert sum(labels[index] for index in chosen) == 30
    classes = length_classes(lengths)
    for part in range(3):
        for label in (True, False):
            everywhere = sum(classes[i] == part and labels[i] == label for i in range(1200))
            assert sum(classes[i] == part and labels[i] == label for i in chosen) == pytest.approx(
                everywhere / 10, abs=1
            )
    assert len({classes[index] for index in chosen}) == 3


def test_choose_takes_all_where_there_are_fewer() -> None:
    assert sorted(choose([True, False, False], [5, 6, 7], 8, seed=1)) == [0, 1, 2]
    assert choose([True], [5], 8, seed=1) == [0]
    assert sorted(choose([False] * 9, [5] * 9, 4, seed=1)) != [0, 1, 2, 3]


def test_length_classes_are_terciles_and_equal_lengths_stay_together() -> None:
    assert length_classes([9, 1, 5, 2, 8, 4]) == [2, 0, 1, 0, 2, 1]
    assert len(set(length_classes([7] * 10))) == 1
    assert length_classes([]) == []


@pytest.mark.parametrize(
    ("sizes", "count", "quotas"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([1, 1, 1], 2, [1, 1, 0]),
        ([5, 0, 3], 4, [3, 0, 1]),
        ([2, 3], 9, [2, 3]),
        ([0, 0], 4, [0, 0]),
        ([997, 2, 1], 8, [8, 0, 0]),
    ],
)
def test_allot_divides_by_largest_remainder(sizes: list[int], count: int, quotas: list[int]) -> None:
    assert allot(sizes, count) == quotas


def test_prompts_hash_tells_order_and_borders() -> None:
    hashes = {prompts_hash(prompts) for prompts in ([[1, 2], [3]], [[3], [1, 2]], [[1], [2, 3]], [[1, 2]])}
    assert len(hashes) == 4
    assert prompts_hash([(1, 2), (3,)]) == prompts_hash([[1, 2], [3]])
