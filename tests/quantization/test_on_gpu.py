"""The quantization stage on a GPU, run like its container, compared with the CPU: `make test-gpu`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.training.gpu_device import needs_gpu
from toxicity_api.results import QuantizationResult
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, QuantizationConfig
from toxicity_stage.artifacts import read_result

pytestmark = needs_gpu

MakeConfig = Callable[..., QuantizationConfig]


def figures_of_container(config: QuantizationConfig, log: Path) -> QuantizationResult:
    """The result that the stage published, run in a child process."""
    command = [sys.executable, "-m", "toxicity_quantization", "--termination-log", str(log)]
    variables = {STAGE_CONFIG_VARIABLE: config.model_dump_json(by_alias=True)}
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = read_result(config.output_dir)
    assert result is not None
    assert result.quantization is not None
    return result.quantization


def test_the_container_quantizes_on_a_gpu_as_on_a_cpu(make_config: MakeConfig, tmp_path: Path) -> None:
    on_gpu = figures_of_container(make_config("gpu"), tmp_path / "gpu.log")
    on_cpu = figures_of_container(make_config("cpu", gpus=0), tmp_path / "cpu.log")
    same = ("calibration_hash", "calibration_samples", "quantized_layers", "kept_layers", "size_bytes", "method")
    assert {name: getattr(on_gpu, name) for name in same} == {name: getattr(on_cpu, name) for name in same}
    # fp32 on the CPU, bf16 on the GPU: the search may choose other scales, but none that lose more
    assert on_gpu.mean_error == pytest.approx(on_cpu.mean_error, rel=0.2)
    assert on_gpu.max_error == pytest.approx(on_cpu.max_error, rel=0.5)
