"""The evaluation stage with vLLM on a tiny model, run like its container.

They run with the packages of the serving image: `make test-evaluation`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from zipfile import ZipFile

import pytest

from support.serving.process import running
from support.training.evaluation_process import engine_config, evaluate
from support.training.plain_scores import TOXIC, log_odds, transformers_scores
from support.training.tiny import make_examples, write_base_model
from toxicity_api.results import EXIT_INVALID_INPUT, StageResult
from toxicity_api.spec import Split
from toxicity_api.stage_config import COMPILED_FILE
from toxicity_stage.artifacts import read_result
from toxicity_training.splits import read_split, split_examples, write_splits

pytestmark = pytest.mark.engine

ROWS = 120


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the previous stages: splits, merged weights, and a copy of them instead of quantized ones."""
    folder = tmp_path_factory.mktemp("artifacts")
    write_base_model(folder / "train-t1" / "model", hidden_size=64, intermediate_size=128, head_dim=64)
    shutil.copytree(folder / "train-t1" / "model", folder / "quantize-q1" / "model")
    write_splits(split_examples(make_examples(ROWS), Split(validation=0.3, test=0.3)), folder / "splits")
    return folder


def run_stage(
    artifacts: Path, fingerprint: str, *, compare: bool = True, eager: bool = True
) -> tuple[int, StageResult]:
    """As `evaluate`: of the second folder's weights, beside the first's.

    Without `compare` only the weights to be served are asked, which takes half the time; `eager` saves half a minute.
    """
    original, served = (
        engine_config(artifacts / stage / "model", enforceEager=eager) for stage in ("train-t1", "quantize-q1")
    )
    return evaluate(artifacts, fingerprint, served, original if compare else None)


def test_stage_scores_as_transformers_does_and_equal_weights_cost_nothing(artifacts: Path) -> None:
    code, result = run_stage(artifacts, "same")
    assert (code, result.outcome) == (0, "succeeded")
    written = read_result(artifacts / "evaluate-same")
    assert written is not None and result == written.model_copy(update={"storage": result.storage})
    evaluation = result.evaluation
    assert evaluation is not None and evaluation.drop is not None
    assert (evaluation.drop.f1_drop, evaluation.drop.agreement) == (0, 1)
    assert evaluation.engine.startswith("vllm ")
    assert evaluation.figures.memory_bytes > 1 << 26 and evaluation.figures.texts_per_second > 0
    lines = (artifacts / "evaluate-same" / "scores.csv").read_text(encoding="utf-8").splitlines()[1:]
    scores = [float(line.split(",")[1]) for line in lines]
    texts = [example.text for example in read_split(artifacts / "splits", "test")]
    # vLLM computes in bf16, the other in fp32
    expected = [log_odds(score) for score in transformers_scores(artifacts / "quantize-q1" / "model", texts)]
    found = [log_odds(score) for score in scores]
    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) < 0.15
    assert max(expected) - min(expected) > 1, "the texts must not all score alike"


def test_weights_that_answer_no_numbers_are_refused_with_the_folder_named(artifacts: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = artifacts / "quantize-q1" / "model" / "model.safetensors"
    whole = path.read_bytes()
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("down_proj.weight"))
    save_file(tensors | {name: tensors[name] * float("nan")}, path, {"format": "pt"})
    try:
        code, result = run_stage(artifacts, "nan", compare=False)
    finally:
        path.write_bytes(whole)
    assert (code, result.reason) == (EXIT_INVALID_INPUT, "ScoresUnusable")
    assert "quantize-q1" in result.message


def test_swapped_tokenizer_is_refused(artifacts: Path) -> None:
    path = artifacts / "quantize-q1" / "model" / "tokenizer.json"
    whole = path.read_text(encoding="utf-8")
    document = json.loads(whole)
    vocabulary = document["model"]["vocab"]
    vocabulary[TOXIC], vocabulary["чай"] = vocabulary["чай"], vocabulary[TOXIC]
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    try:
        code, result = run_stage(artifacts, "swapped")
    finally:
        path.write_text(whole, encoding="utf-8")
    assert (code, result.reason) == (EXIT_INVALID_INPUT, "LabelTokensChanged")


def test_missing_weights_are_told_and_may_be_tried_again(artifacts: Path) -> None:
    config = artifacts / "quantize-q1" / "model" / "config.json"
    aside = config.rename(config.with_name("aside.json"))
    try:
        code, result = run_stage(artifacts, "missing", compare=False)
    finally:
        aside.rename(config)
    assert (code, result.outcome, result.reason) == (1, "failed", "EvaluationCrashed")
    assert "config.json" in result.message


def test_what_was_compiled_is_taken_over_and_scores_the_same(artifacts: Path, tmp_path: Path) -> None:
    """Serving with the evaluation's compiled code compiles nothing: otherwise vLLM would write more files."""
    code, result = run_stage(artifacts, "compiled", compare=False, eager=False)
    assert code == 0 and result.evaluation is not None and result.evaluation.compiled_sha256 is not None
    rows = [example.text for example in read_split(artifacts / "splits", "test")]
    lines = (artifacts / "evaluate-compiled" / "scores.csv").read_text(encoding="utf-8").splitlines()[1:]
    file = artifacts / "evaluate-compiled" / COMPILED_FILE
    with ZipFile(file) as archive:
        left = set(archive.namelist())
    compiled = {"path": str(file), "sha256": result.evaluation.compiled_sha256}
    with running(artifacts / "quantize-q1" / "model", tmp_path, compiled=compiled) as served:
        assert served.scores(rows) == [float(line.split(",")[1]) for line in lines]
        cache = tmp_path / "vllm"
        assert {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()} == left
        assert "compiled_code_taken" in served.log.read_text()
