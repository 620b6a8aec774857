"""Fixtures of the quantization tests: a tiny Gemma 3 in the published folder of a training stage.

They run once with the packages of each backend's image, on the backend that is there: `make test-quantization`, and
`make test-gpu` for those on a GPU.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from support.training.gpu_device import granted
from support.training.tiny import make_examples, write_base_model
from toxicity_api.normal_form import NORMAL_FORM_VERSION
from toxicity_api.normal_form.folder import write_normal_form
from toxicity_api.results import Metrics, StageResult, TrainingResult
from toxicity_api.spec import Labels, QuantizationSpec, Split, TrainingSpec
from toxicity_api.stage_config import QuantizationConfig
from toxicity_quantization.packing import COMPRESSED_TENSORS, GEMM, Packing
from toxicity_stage.artifacts import MODEL_FOLDER, open_work_folder, publish
from toxicity_training.splits import split_examples, write_splits

ROWS = 150
METRICS = Metrics(
    f1=0.5, macro_f1=0.5, precision=0.5, recall=0.5, roc_auc=0.5, threshold=0.5, test_samples=ROWS // 5
)  # fmt: skip
LIBRARIES = {"llm-compressor": "llmcompressor", "autoawq": "awq"}
PACKINGS = {"llm-compressor": COMPRESSED_TENSORS, "autoawq": GEMM}


@pytest.fixture(scope="session")
def backend() -> str:
    """The backend whose library is installed: each image has one."""
    (installed,) = (name for name, library in LIBRARIES.items() if find_spec(library))
    return installed


@pytest.fixture(scope="session")
def packing(backend: str) -> Packing:
    """The packed format of that backend."""
    return PACKINGS[backend]


@pytest.fixture(scope="session")
def merged_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Gemma 3 in bf16 whose layers are wide enough for groups of 32, and of its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("merged-model")
    write_base_model(folder, hidden_size=64, intermediate_size=128, head_dim=32)
    AutoModelForCausalLM.from_pretrained(folder).to(torch.bfloat16).save_pretrained(folder)
    as_trained(folder)
    return folder


def as_trained(folder: Path) -> None:
    """The config.json and tokenizer_config.json of the training image's Transformers, whichever has written them."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name in ("torch_dtype", "rope_theta", "rope_local_base_freq", "rope_scaling", "sliding_window_pattern"):
        config.pop(name, None)
    config |= {
        "dtype": "bfloat16",
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 500.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        },
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    path = folder / "tokenizer_config.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "TokenizersBackend"}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


@pytest.fixture
def gpus(request: pytest.FixtureRequest) -> int:
    """The number of GPUs of the quantization."""
    return granted(request)


@pytest.fixture
def make_config(tmp_path: Path, merged_model: Path, backend: str, gpus: int) -> Callable[..., QuantizationConfig]:
    """The configuration of a stage after a training that succeeded; keyword arguments are fields of the spec."""

    def make(fingerprint: str = "def", seed: int = 42, **fields: Any) -> QuantizationConfig:
        defaults = {
            "backend": backend,
            "gpus": gpus,
            "group_size": 32,
            "calibration_samples": 12,
            "calibration_length": 32,
        }
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
    write_normal_form(work / MODEL_FOLDER, NORMAL_FORM_VERSION)
    splits = split_examples(make_examples(ROWS), Split(validation=0.2, test=0.2))
    write_splits(splits, work / "splits")
    training = TrainingResult(
        metrics=METRICS, train_samples=len(splits.train), loss=0.3, duration_seconds=1.0, max_input_length=64,
        normal_form=NORMAL_FORM_VERSION,
    )  # fmt: skip
    publish(work, folder, StageResult(stage="train", fingerprint="abc", outcome="succeeded", training=training))


@pytest.fixture
def edit_json() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """edit(path, change): applies `change` to the file's JSON document."""

    def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        change(document)
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")

    return edit


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
