"""The further test sets of the evaluation: what is scored, what is left out, and what a bad file says."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.training.tiny import write_dataset
from toxicity_api.prompting import LabelTokens
from toxicity_api.results import (
    TERMINATION_MESSAGE_LIMIT,
    DropFigures,
    EngineFigures,
    HeldOutFigures,
    StageResult,
)
from toxicity_api.spec import MAX_TEST_SETS
from toxicity_api.stage_config import EngineConfig, EvaluationConfig, HeldOutConfig
from toxicity_evaluation.answers import Answers, Say
from toxicity_evaluation.stage import run
from toxicity_stage.errors import DatasetError
from toxicity_training.dataset import Example
from toxicity_training.splits import Splits, write_splits

TRAIN = [Example("ты осёл", True), Example("добрый день", False)]
VALIDATION = [Example("дурак", True), Example("привет", False)]
TEST = [Example("ты дурак", True), Example("болван", True), Example("спасибо", False)]
FORUM = [
    Example("сам дурак", True), Example("тупица", True), Example("хороший чай", False), Example("музыка", False),
    # the same texts as in training, validation and test
    Example("ТЫ  ОСЕЛ!", True), Example("привет", False), Example("спасибо", False),
]  # fmt: skip
ENGINE = EngineFigures(weights="native-4bit", load_seconds=1.5, texts_per_second=40.25, memory_bytes=1 << 30)
SCORES = {
    "quantize-q1": {"дурак": 0.9, "болван": 0.8, "тупица": 0.2},
    "train-t1": {"дурак": 0.9, "болван": 0.8, "тупица": 0.7},
}


def ask(
    config: EngineConfig, validation: Sequence[str], test: Sequence[str], say: Say, out: Path | None
) -> Answers:
    """The score of the first known word of a text, else 0.1."""
    words = SCORES[config.fingerprint]
    seen, last = (
        [next((score for word, score in words.items() if word in text), 0.1) for text in texts]
        for texts in (validation, test)
    )
    return Answers(seen, last, LabelTokens(1, 2), "table 1", ENGINE)


def config(folder: Path, test_sets: dict[str, list[Example]], **fields: str) -> EvaluationConfig:
    write_splits(Splits(TRAIN, VALIDATION, TEST), folder / "splits")
    columns = {"text_column": "comment", "label_column": "toxic"} | fields

    def engine(stage: str) -> EngineConfig:
        return EngineConfig.model_validate(
            {
                "model": "ru-toxicity",
                "fingerprint": stage,
                "modelDir": str(folder / stage / "model"),
                "promptTemplate": "{text}:",
                "labels": {"toxic": "да", "nonToxic": "нет"},
            }
        )

    return EvaluationConfig(
        model="ru-toxicity",
        fingerprint="e1",
        artifacts=folder,
        served=engine("quantize-q1"),
        original=engine("train-t1"),
        splits_dir=folder / "splits",
        seed=1,
        test_sets=[
            HeldOutConfig(name=name, path=write_dataset(folder / f"{name}.csv", rows), **columns)
            for name, rows in test_sets.items()
        ],
    )


def figures(folder: Path, **test_sets: list[Example]) -> list[HeldOutFigures]:
    result = run(config(folder, test_sets), ask).evaluation
    assert result is not None
    assert (result.metrics.threshold, result.metrics.test_samples) == (0.5, 3), "the splits decide as without them"
    return result.test_sets


def test_rows_that_were_trained_on_are_left_out_and_counted(tmp_path: Path) -> None:
    forum, other = figures(tmp_path, forum=FORUM, other=list(reversed(TEST)))
    assert (forum.name, forum.rows, forum.left_out) == ("forum", 5, 2)
    assert (other.name, other.rows, other.left_out) == ("other", 3, 0)


def test_figures_are_those_of_the_decisions_of_both_weights_at_their_thresholds(tmp_path: Path) -> None:
    forum, other = figures(tmp_path, forum=FORUM, other=TEST)
    # TP 1, FN 1, TN 3: toxic F1 2/3, harmless 6/7; the score orders all pairs
    assert (forum.f1, forum.macro_f1, forum.roc_auc) == (0.6667, 0.7619, 1.0)
    assert forum.f1_low < forum.f1 < forum.f1_high == 1.0
    assert (forum.original_f1, other.f1, other.original_f1) == (1.0, 1.0, 1.0)


def test_every_scored_row_is_in_a_file_with_both_scores(tmp_path: Path) -> None:
    figures(tmp_path, forum=FORUM)
    with (tmp_path / "evaluate-e1" / "test-sets" / "forum.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["toxic"], row["score"], row["original_score"], row["text"]) for row in csv.DictReader(file)]
    assert rows[:2] == [("1", "0.9", "0.9", "сам дурак"), ("1", "0.2", "0.7", "тупица")]
    assert [row[3] for row in rows[2:]] == ["хороший чай", "музыка", "спасибо"]


@pytest.mark.parametrize(
    ("rows", "fields", "reason", "words"),
    [
        (
            FORUM,
            {"text_column": "text"},
            "MissingColumn",
            "evaluation.testSets[forum].textColumn: no column 'text'",
        ),
        ([], {}, "NoRows", "evaluation.testSets[forum]: forum.csv has a header and no rows"),
        (FORUM[2:], {}, "OneClassSplit", "of 5 rows, 2 have a text of the training or validation rows"),
        (
            FORUM[:2],
            {},
            "OneClassSplit",
            "the others are 2 toxic and 0 not, both are needed: add labelled comments",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_test_set(
    tmp_path: Path, rows: list[Example], fields: dict[str, str], reason: str, words: str
) -> None:
    with pytest.raises(DatasetError) as refused:
        run(config(tmp_path, {"forum": rows}, **fields), ask)
    assert refused.value.reason == reason
    assert "evaluation.testSets[forum]" in str(refused.value) and words in str(refused.value)


def test_the_result_with_all_test_sets_fits_into_a_termination_message(tmp_path: Path) -> None:
    longest = {f"{number}{'n' * 19}": FORUM for number in range(MAX_TEST_SETS)}
    result = run(config(tmp_path, longest), ask)
    assert result.evaluation is not None
    third = 1 / 3
    ragged = result.evaluation.metrics.model_copy(
        update={
            name: third
            for name, value in result.evaluation.metrics.model_dump().items()
            if isinstance(value, float)
        }
    )
    drop = DropFigures(
        f1_drop=-third, f1_drop_low=-third, f1_drop_high=third, macro_f1_drop=-third, macro_f1_drop_low=-third,
        macro_f1_drop_high=third, agreement=third,
    )  # fmt: skip
    whole = result.evaluation.model_copy(
        update={"metrics": ragged, "original_metrics": ragged, "drop": drop, "compiled_sha256": "f" * 64}
    )
    text = result.model_copy(update={"evaluation": whole}).to_termination_message()
    assert len(text.encode()) <= TERMINATION_MESSAGE_LIMIT
    assert StageResult.model_validate_json(text).evaluation == whole
