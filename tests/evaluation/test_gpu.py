"""Test the serving process and the evaluation stage on an NVIDIA GPU with a tiny model, also with an fp8 KV cache.

`make test-gpu` runs them with the packages of the serving image for CUDA.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.serving.process import running
from support.training.evaluation_process import engine_config, evaluate
from support.training.gpu_device import require_gpu
from support.training.plain_scores import log_odds, transformers_scores
from support.training.tiny import make_examples, write_base_model
from toxicity_api.checksums import write_checksums
from toxicity_api.spec import Split
from toxicity_training.splits import split_examples, write_splits

pytestmark = [pytest.mark.engine, pytest.mark.gpu]

GPU = "cuda"
ON_GPU = {"gpuMemoryUtilization": 0.1, "gpus": 1}
"""A share of GPU memory that leaves room for other tests."""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_gpu()
    folder = tmp_path_factory.mktemp("gpu") / "train-t1" / "model"
    write_base_model(folder, hidden_size=64, intermediate_size=128, head_dim=64)
    write_checksums(folder)
    return folder


def test_service_scores_as_transformers_does_alone_and_in_a_batch_and_stops_cleanly(
    model_dir: Path, tmp_path: Path
) -> None:
    texts = [example.text for example in make_examples(64)]
    with running(model_dir, tmp_path, **ON_GPU) as served:
        card = served.client.get("/v1/model").json()
        assert (card["dtype"], card["verified"]) == ("bfloat16", True) and card["engine"].startswith("vllm ")
        together = served.scores(texts)
        alone = [score for text in texts[:8] for score in served.scores([text])]
        expected = [log_odds(score) for score in transformers_scores(model_dir, texts, GPU)]
        # vLLM computes in bf16
        found = [log_odds(score) for score in together]
        assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) < 0.2
        assert max(expected) - min(expected) > 1, "the texts must not all score alike"
        beside = [log_odds(score) for score in alone]
        assert max(abs(one - other) for one, other in zip(beside, found[:8], strict=True)) < 0.2
        served.process.terminate()
        assert served.process.wait(timeout=60) == 0


def test_an_fp8_cache_changes_scores_a_little(model_dir: Path, tmp_path: Path) -> None:
    texts = [example.text for example in make_examples(64)]
    with running(model_dir, tmp_path, **ON_GPU, kvCacheDtype="fp8") as served:
        found = [log_odds(score) for score in served.scores(texts)]
    expected = [log_odds(score) for score in transformers_scores(model_dir, texts, GPU)]
    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) < 1


def test_evaluation_loads_one_engine_after_the_other_with_an_fp8_cache(model_dir: Path, tmp_path: Path) -> None:
    splits = split_examples(make_examples(120), Split(validation=0.3, test=0.3))
    write_splits(splits, tmp_path / "splits")
    served = engine_config(model_dir, **ON_GPU, kvCacheDtype="fp8")
    code, result = evaluate(tmp_path, "e1", served, engine_config(model_dir, **ON_GPU))
    assert (code, result.outcome) == (0, "succeeded"), result.message
    assert result.evaluation is not None and result.evaluation.drop is not None
    assert result.evaluation.drop.agreement > 0.9
