"""A container that requests GPUs from an image with the CPU build of torch fails for good and names the remedy.

torch's metadata is real in form; the package itself is not needed, since the check comes before it is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE

Environment = dict[str, str]


@pytest.fixture
def installed(tmp_path: Path) -> Callable[[str], Environment]:
    """Environment variables of a process that finds torch's metadata with this version."""

    def install(version: str) -> Environment:
        folder = tmp_path / version
        metadata = folder / f"torch-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}

    return install


def engine(gpus: int) -> dict[str, Any]:
    return {
        "model": "m",
        "fingerprint": "f1",
        "modelDir": "/nowhere",
        "promptTemplate": "{text}",
        "labels": {},
        "gpus": gpus,
    }


def stage(folder: Path, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "fingerprint": "f0", "artifacts": str(folder), **fields}


def training(folder: Path) -> dict[str, Any]:
    paths = {"datasetPath": str(folder / "none.csv"), "baseModelPath": str(folder)}
    columns = {"textColumn": "comment", "labelColumn": "toxic", "split": {}}
    return stage(folder, **paths, **columns, training={"gpus": 2})


def quantization(folder: Path) -> dict[str, Any]:
    return stage(folder, trainingFingerprint="f2", training={"gpus": 2}, quantization={"gpus": 3})


def evaluation(folder: Path) -> dict[str, Any]:
    return stage(folder, served=engine(4), splitsDir=str(folder), seed=1)


def run(
    program: str, folder: Path, document: dict[str, Any], environment: Environment
) -> tuple[int, dict[str, Any]]:
    log = folder / "log"
    done = subprocess.run(
        [sys.executable, "-m", program, "--termination-log", str(log)],
        env={**environment, STAGE_CONFIG_VARIABLE: json.dumps(document)},
        check=False,
        capture_output=True,
    )
    return done.returncode, json.loads(log.read_text())


@pytest.mark.parametrize(
    ("program", "document", "field"),
    [
        ("toxicity_training", training, "training.gpus is 2"),
        ("toxicity_quantization", quantization, "quantization.gpus is 3"),
        ("toxicity_evaluation", evaluation, "serving.gpus is 4"),
    ],
)
def test_a_stage_refuses_gpus_that_its_image_cannot_use(
    tmp_path: Path,
    installed: Callable[[str], Environment],
    program: str,
    document: Callable[[Path], dict[str, Any]],
    field: str,
) -> None:
    code, result = run(program, tmp_path, document(tmp_path), installed("2.13.0+cpu"))

    assert (code, result["reason"]) == (EXIT_INVALID_INPUT, "ImageWithoutCuda")
    assert field in result["message"]
    assert "TORCH_SOURCE=cuda" in result["message"]


def test_the_cuda_build_goes_on(tmp_path: Path, installed: Callable[[str], Environment]) -> None:
    _, result = run("toxicity_quantization", tmp_path, quantization(tmp_path), installed("2.13.0"))

    assert result["reason"] == "InputMissing"


def test_the_service_refuses_gpus_that_its_image_cannot_use(installed: Callable[[str], Environment]) -> None:
    document = engine(5) | {"threshold": 0.5}
    done = subprocess.run(
        [sys.executable, "-m", "toxicity_serving"],
        env={**installed("2.13.0+cpu"), STAGE_CONFIG_VARIABLE: json.dumps(document)},
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == EXIT_INVALID_INPUT
    assert "serving.gpus is 5" in done.stderr
    assert "TORCH_SOURCE=cuda" in done.stderr
