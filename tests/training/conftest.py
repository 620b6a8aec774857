"""Fixtures of the tests with torch: a tiny Gemma 3 with a letter tokenizer, and data that it can learn.

They run with the packages of the training image: `make test-training`, and `make test-gpu` for those on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.training.gpu_device import granted
from support.training.tiny import forget_accelerator, make_examples, write_base_model, write_dataset
from toxicity_api.spec import Augmentation, EarlyStopping, Labels, Lora, Split, TrainingSpec
from toxicity_api.stage_config import TrainingConfig


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Gemma 3 with two layers, and of its tokenizer."""
    folder = tmp_path_factory.mktemp("base-model")
    write_base_model(folder)
    return folder


@pytest.fixture
def gpus(request: pytest.FixtureRequest) -> int:
    """The number of GPUs of the training."""
    return granted(request)


@pytest.fixture
def make_spec(gpus: int) -> Callable[..., TrainingSpec]:
    """A training spec for the tiny model; keyword arguments replace its fields."""

    def make(**fields: Any) -> TrainingSpec:
        lora = Lora(r=4, alpha=8, dropout=fields.pop("dropout", 0.0))
        defaults: dict[str, Any] = {
            "gpus": gpus,
            "load4bit": False,
            # sums of fp32 agree in four digits, which shows small faults
            "precision": None if fields.get("gpus", gpus) else "fp32",
            "lora": lora,
            "labels": Labels(toxic="да", non_toxic="нет нет"),
            "learning_rate": 2e-2,
            "max_input_length": 128,
            # the tiny model knows words, not spellings
            "augmentation": Augmentation(share=0),
            # it learns only after a while
            "early_stopping": EarlyStopping(patience=1000),
            "batch_size": 8,
        }
        return TrainingSpec(**{**defaults, **fields})

    return make


@pytest.fixture
def make_config(tmp_path: Path, base_model: Path) -> Callable[..., TrainingConfig]:
    """A stage configuration in a new folder, with a data set of `rows` rows."""

    def make(spec: TrainingSpec, rows: int = 120, fingerprint: str = "abc") -> TrainingConfig:
        return TrainingConfig(
            model="tiny",
            fingerprint=fingerprint,
            artifacts=tmp_path / "artifacts",
            dataset_path=write_dataset(tmp_path / "comments.csv", make_examples(rows)),
            text_column="comment",
            label_column="toxic",
            split=Split(validation=0.15, test=0.15),
            base_model_path=base_model,
            training=spec,
        )

    return make


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    forget_accelerator()
