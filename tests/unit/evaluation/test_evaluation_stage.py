"""The evaluation stage with fake engines: the texts it scores, what it compares, writes and refuses."""

from __future__ import annotations

import asyncio
import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from support.training.letter_tokenizer import LetterTokenizer
from toxicity_api.results import EvaluationResult
from toxicity_api.stage_config import EngineConfig, EvaluationConfig
from toxicity_evaluation.answers import Answers, Say, ask
from toxicity_evaluation.stage import AskRows, run
from toxicity_serving.engine.protocol import EngineError, LabelTokenMissing, LoadedModel
from toxicity_stage.artifacts import read_result
from toxicity_stage.errors import ModelError
from toxicity_training.dataset import Example
from toxicity_training.splits import Splits, write_splits

VALIDATION = [Example("дурак", True), Example("привет", False), Example("болван", True), Example("спасибо", False)]
TEST = [
    Example("ты дурак", True), Example("ну ты и болван", True), Example("дурак дураком", True),
    Example("привет всем", False), Example("большое спасибо", False), Example("хорошего дня", False),
]  # fmt: skip


class TableEngine:
    """The score of the first known word in the prompt, else 0.1. Counts the requests."""

    def __init__(self, scores: Mapping[str, float], *, shift: int = 0, misses: str = "", broken: str = "") -> None:
        self._scores, self._shift, self._misses, self._broken = scores, shift, misses, broken
        self.asked: list[str] = []
        self.stopped = False

    async def start(self) -> LoadedModel:
        if self._broken:
            raise EngineError(self._broken)
        return LoadedModel(
            LetterTokenizer(shift=self._shift), sys.maxunicode + 1, "table 1", "native-4bit", "bfloat16"
        )

    async def label_logits(self, prompt_ids: list[int], *, large: bool = False) -> tuple[float, float]:
        text = "".join(chr(token - self._shift) for token in prompt_ids[1:])
        self.asked.append(text)
        if self._misses and self._misses in text:
            raise LabelTokenMissing("no label token")
        score = next((value for word, value in self._scores.items() if word in text), 0.1)
        return (math.log(score), math.log(1 - score)) if math.isfinite(score) else (math.nan, math.nan)

    async def check(self) -> None: ...

    async def stop(self) -> None:
        self.stopped = True


def engine_config(stage: str) -> EngineConfig:
    return EngineConfig.model_validate(
        {
            "model": "ru-toxicity",
            "fingerprint": stage,
            "modelDir": f"/artifacts/{stage}/model",
            "promptTemplate": "текст: {text}\nответ:",
            "labels": {"toxic": "да", "nonToxic": "нет"},
        }
    )


def stage_config(artifacts: Path, *, quantized: bool = True) -> EvaluationConfig:
    write_splits(Splits(TEST, VALIDATION, TEST), artifacts / "splits")
    return EvaluationConfig(
        model="ru-toxicity",
        fingerprint="e1",
        artifacts=artifacts,
        served=engine_config("quantize-q1" if quantized else "train-t1"),
        original=engine_config("train-t1") if quantized else None,
        splits_dir=artifacts / "splits",
        seed=1,
    )


def asking(**by_stage: TableEngine) -> AskRows:
    """Scores the rows with the fake engine of the folder's stage, in this process."""

    def ask_engine(
        config: EngineConfig, validation: Sequence[str], test: Sequence[str], say: Say, compiled: Path | None
    ) -> Answers:
        return asyncio.run(ask(config, by_stage[config.fingerprint.partition("-")[0]], validation, test, say))

    return ask_engine


GOOD = {"дурак": 0.9, "болван": 0.8}


def evaluated(config: EvaluationConfig, **by_stage: TableEngine) -> EvaluationResult:
    result = run(config, asking(**by_stage))
    assert result.evaluation is not None
    return result.evaluation


def test_both_folders_are_asked_every_row_in_the_training_prompt(tmp_path: Path) -> None:
    train, quantize = TableEngine(GOOD), TableEngine(GOOD)
    evaluated(stage_config(tmp_path), train=train, quantize=quantize)
    wanted = {f"текст: {example.text}\nответ:" for example in VALIDATION + TEST}
    for engine in (train, quantize):
        assert set(engine.asked) == wanted and engine.stopped


def test_equal_answers_cost_nothing_and_agree_on_every_row(tmp_path: Path) -> None:
    result = evaluated(stage_config(tmp_path), train=TableEngine(GOOD), quantize=TableEngine(GOOD))
    assert (result.metrics.f1, result.metrics.test_samples, result.engine) == (1.0, 6, "table 1")
    assert result.drop is not None
    assert (result.drop.f1_drop, result.drop.f1_drop_low, result.drop.f1_drop_high) == (0, 0, 0)
    assert result.drop.agreement == 1.0
    assert result.figures.texts_per_second > 0 and result.figures.memory_bytes > 0


def test_drop_and_agreement_are_those_of_the_decisions_at_each_ones_threshold(tmp_path: Path) -> None:
    # on the scale of the second the threshold lies at 0.2; it misses the word of one of the three toxic test rows
    scaled = TableEngine({"ну ты": 0.1, "дурак": 0.4, "болван": 0.3})
    result = evaluated(stage_config(tmp_path), train=TableEngine(GOOD), quantize=scaled)
    assert result.original_metrics is not None and result.drop is not None
    assert (result.original_metrics.f1, result.metrics.f1) == (1.0, pytest.approx(0.8))
    assert result.metrics.threshold == pytest.approx(0.2)
    assert result.drop.f1_drop == pytest.approx(0.2)
    assert result.drop.agreement == pytest.approx(5 / 6)
    assert result.drop.f1_drop_low <= 0.2 <= result.drop.f1_drop_high


def test_unquantized_weights_have_figures_and_no_drop(tmp_path: Path) -> None:
    result = evaluated(stage_config(tmp_path, quantized=False), train=TableEngine(GOOD))
    assert result.metrics.f1 == 1.0
    assert (result.drop, result.original_metrics, result.original_figures) == (None, None, None)


def test_folder_holds_the_result_and_the_scores_of_every_test_row(tmp_path: Path) -> None:
    config = stage_config(tmp_path)
    evaluated(config, train=TableEngine(GOOD), quantize=TableEngine({"дурак": 0.7, "болван": 0.6}))
    written = read_result(config.output_dir)
    assert written is not None and written.outcome == "succeeded" and written.evaluation is not None
    with (config.output_dir / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["toxic"] for row in rows] == ["1", "1", "1", "0", "0", "0"]
    assert [float(row["score"]) for row in rows] == pytest.approx([0.7, 0.6, 0.7, 0.1, 0.1, 0.1])
    assert [float(row["original_score"]) for row in rows] == pytest.approx([0.9, 0.8, 0.9, 0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("engine", "reason", "named"),
    [
        (TableEngine(GOOD, misses="спасибо"), "ScoresUnusable", "quantize-q1"),
        (TableEngine({"дурак": math.nan}), "ScoresUnusable", "not finite"),
        (TableEngine(GOOD, shift=5), "LabelTokensChanged", "another tokenizer"),
    ],
    ids=["a label token is missing", "no number", "another tokenizer"],
)
def test_broken_model_is_refused_and_its_engine_stopped(
    tmp_path: Path, engine: TableEngine, reason: str, named: str
) -> None:
    config = stage_config(tmp_path)
    with pytest.raises(ModelError, match=named) as refused:
        run(config, asking(train=TableEngine(GOOD), quantize=engine))
    assert refused.value.reason == reason
    assert engine.stopped and not config.output_dir.exists()


def test_engine_that_does_not_start_is_no_bad_input(tmp_path: Path) -> None:
    broken = TableEngine(GOOD, broken="no memory")
    with pytest.raises(EngineError, match="no memory"):
        run(stage_config(tmp_path), asking(train=TableEngine(GOOD), quantize=broken))
    assert broken.stopped
