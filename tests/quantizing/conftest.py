"""What the tests with llm-compressor share: a tiny Gemma 3, published as a training stage would have left it.

They run with the packages of the quantization image: `make test-quantization`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny import make_examples, write_base_model
from toxicity_api.results import Metrics, StageResult, TrainingResult
from toxicity_api.spec import Labels, QuantizationSpec, Split, TrainingSpec
from toxicity_api.stage_config import QuantizationConfig
from toxicity_training.artifacts import MODEL_FOLDER, open_work_folder, publish
from toxicity_training.data import split_examples, write_splits

ROWS = 150
METRICS = Metrics(
    f1=0.5, macro_f1=0.5, precision=0.5, recall=0.5, roc_auc=0.5, threshold=0.5, test_samples=ROWS // 5
)  # fmt: skip


@pytest.fixture(scope="session")
def merged_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Gemma 3 in bf16 whose layers are wide enough for groups of 32, and of its tokenizer."""
    from toxicity_training.model import load_model, save_merged

    folder = tmp_path_factory.mktemp("merged-model")
    write_base_model(folder / "base", hidden_size=64, intermediate_size=128)
    model, tokenizer = load_model(folder / "base", TrainingSpec(gpus=0))
    save_merged(model, tokenizer, folder / "merged")
    return folder / "merged"


@pytest.fixture
def make_config(tmp_path: Path, merged_model: Path) -> Callable[..., QuantizationConfig]:
    """The configuration of a stage after a training that succeeded; keyword arguments are fields of the spec."""

    def make(fingerprint: str = "def", seed: int = 42, **fields: Any) -> QuantizationConfig:
        defaults = {"gpus": 0, "group_size": 32, "calibration_samples": 12, "calibration_length": 32}
        config = QuantizationConfig(
            model="tiny",
            fingerprint=fingerprint,
            artifacts=tmp_path / "artifacts",
            training_fingerprint="abc",
            training=TrainingSpec(
                gpus=0, seed=seed, labels=Labels(toxic="да", non_toxic="нет нет"), max_input_length="auto"
            ),
            quantization=QuantizationSpec(**{**defaults, **fields}),
        )
        if not config.input_dir.exists():
            _publish_training(config.input_dir, merged_model)
        return config

    return make


def _publish_training(folder: Path, model: Path) -> None:
    work = open_work_folder(folder)
    shutil.copytree(model, work / MODEL_FOLDER)
    splits = split_examples(make_examples(ROWS), Split(validation=0.2, test=0.2))
    write_splits(splits, work / "splits")
    training = TrainingResult(
        metrics=METRICS, train_samples=len(splits.train), loss=0.3, duration_seconds=1.0, max_input_length=64
    )
    publish(work, folder, StageResult(stage="train", fingerprint="abc", outcome="succeeded", training=training))


@pytest.fixture
def edit_json() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """edit(path, change): the file's document after `change` has been at it."""

    def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        change(document)
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")

    return edit


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
