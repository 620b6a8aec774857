"""The training stage on a GPU: bf16, NCCL, torchrun, and the errors that a GPU causes.

`make test-gpu`. Weights are random and the texts easy, so that figures of quality say nothing but that it learns.
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

from support.training.gpu_device import needs_gpu
from support.training.stage_process import loss_values, past_step, run_until, run_whole, start
from support.training.tiny import forget_accelerator, last_adapter, make_examples, untracked
from toxicity_api.results import EXIT_FAILED
from toxicity_api.spec import Lora, TrainingSpec
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, TrainingConfig
from toxicity_stage.artifacts import read_result
from toxicity_training import stage
from toxicity_training.engines.rows import training_rows
from toxicity_training.model import add_lora, load_model
from toxicity_training.prompts import pad_id_of

pytestmark = needs_gpu

MakeSpec = Callable[..., TrainingSpec]
MakeConfig = Callable[..., TrainingConfig]
ENGINES = pytest.mark.parametrize("name", ["trainer", "loop"])
FROM_FP32 = 0.1
"""Tolerance of a loss near 1 to the one in fp32, over about ten steps at a high learning rate."""
FROM_BF16 = 3e-2
"""Tolerance to another bf16 loss on the same rows: kernels sum in different orders."""


@ENGINES
@pytest.mark.parametrize(
    "fields", [{}, {"load4bit": True}, {"load4bit": True, "gradient_checkpointing": True}], ids=str
)
def test_the_container_trains_to_a_whole_folder(
    make_config: MakeConfig, make_spec: MakeSpec, tmp_path: Path, name: str, fields: dict[str, object]
) -> None:
    spec = make_spec(
        engine=name, epochs=12, lora=Lora(r=16, alpha=32, dropout=0.05), max_input_length="auto", **fields
    )
    config = make_config(spec, rows=300)
    log = run_whole(config, tmp_path / "log")
    result = read_result(config.output_dir)
    assert result is not None, log[-20:]
    assert result.outcome == "succeeded", result
    assert json.loads((tmp_path / "log").read_text())["outcome"] == "succeeded"
    assert result.training is not None
    if not spec.load4bit:  # the whole base, into which the adapter is merged, is not the rounded one it grew on
        assert result.training.metrics.f1 > 0.9
    losses = loss_values(config)
    assert len(losses) == 12 * 27
    assert sum(losses[-27:]) < 0.5 * sum(losses[:27])


def walk(base_model: Path, spec: TrainingSpec, checkpoints: Path, watch: Callable[[Any], None]) -> list[float]:
    """The losses of the spec's engine, whose model `watch` sees before it is trained."""
    from transformers import set_seed

    forget_accelerator()
    set_seed(spec.seed)
    model, tokenizer = load_model(base_model, spec)
    adapted = add_lora(model, spec)
    watch(adapted)
    rows = training_rows(tokenizer, make_examples(60), spec)
    return stage.engine(spec)(
        adapted, rows, pad_id_of(tokenizer), spec, checkpoints, print, last_adapter(spec, 60), untracked()
    )


@ENGINES
def test_it_computes_in_bf16_on_the_gpu_and_walks_near_fp32(
    base_model: Path, make_spec: MakeSpec, tmp_path: Path, name: str
) -> None:
    import torch

    seen: set[tuple[str, str, torch.dtype, torch.dtype]] = set()

    def note(module: Any, _: Any, output: Any) -> None:
        weight = module.weight
        seen.add((weight.device.type, output.device.type, weight.dtype, output.dtype))

    def watch(model: Any) -> None:
        for part_name, part in model.named_modules():
            if part_name.endswith("lora_A.default"):
                part.register_forward_hook(note)

    on_gpu = walk(base_model, make_spec(engine=name), tmp_path / "gpu", watch)
    in_fp32 = walk(base_model, make_spec(engine=name, gpus=0), tmp_path / "cpu", lambda model: None)
    assert seen == {("cuda", "cuda", torch.float32, torch.bfloat16)}  # the adapter in fp32, its products in bf16
    assert on_gpu == pytest.approx(in_fp32, abs=FROM_FP32)
    assert on_gpu[-1] < on_gpu[0] - 0.3


@ENGINES
def test_torchrun_with_nccl_trains_as_one_process_alone(
    make_config: MakeConfig,
    make_spec: MakeSpec,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
) -> None:
    alone, launched = (
        make_config(make_spec(engine=name, checkpoint_steps=2), fingerprint=fingerprint)
        for fingerprint in ("alone", "launched")
    )
    stage.run(alone)
    monkeypatch.setenv(STAGE_CONFIG_VARIABLE, launched.model_dump_json(by_alias=True))
    monkeypatch.setenv("NCCL_DEBUG", "VERSION")
    result = stage._launch(launched)  # one process for the one GPU; `run` starts torchrun for two and more
    assert result.outcome == "succeeded"
    assert "NCCL version" in capfd.readouterr().out
    assert loss_values(launched) == pytest.approx(loss_values(alone), abs=FROM_BF16)
    assert not list(launched.artifacts.glob("*.tmp-*"))
    assert not list(launched.artifacts.glob("*.checkpoints"))


def test_more_gpus_than_there_are_fail_with_words(
    make_config: MakeConfig, make_spec: MakeSpec, tmp_path: Path
) -> None:
    import torch

    config = make_config(make_spec(gpus=torch.cuda.device_count() + 1))
    with start(config, tmp_path / "log") as process:
        output, _ = process.communicate()
    assert process.returncode == EXIT_FAILED, output
    written = json.loads((tmp_path / "log").read_text())
    assert (written["outcome"], written["reason"]) == ("failed", "TrainingCrashed")
    assert "device" in written["message"]


OUT_OF_MEMORY = """
import sys, torch
torch.cuda.set_per_process_memory_fraction(1e-6)
from toxicity_training.__main__ import main
sys.exit(main(["--termination-log", sys.argv[1]]))
"""


def test_a_gpu_without_room_is_told_by_its_reason(
    make_config: MakeConfig, make_spec: MakeSpec, tmp_path: Path
) -> None:
    variables = {STAGE_CONFIG_VARIABLE: make_config(make_spec()).model_dump_json(by_alias=True)}
    command = [sys.executable, "-c", OUT_OF_MEMORY, str(tmp_path / "log")]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_FAILED, done.stderr
    written = json.loads((tmp_path / "log").read_text())
    assert (written["outcome"], written["reason"]) == ("failed", "OutOfMemory")
    assert "lower batchSize" in written["message"]


@ENGINES
def test_a_kill_changes_nothing_but_the_last_digits(
    make_config: MakeConfig, make_spec: MakeSpec, tmp_path: Path, name: str
) -> None:
    spec = make_spec(engine=name, dropout=0.1, epochs=2, checkpoint_steps=5, load4bit=True)
    config = make_config(spec, rows=300)
    undisturbed = config.model_copy(update={"artifacts": tmp_path / "undisturbed"})
    run_whole(undisturbed, tmp_path / "log")
    run_until(config, tmp_path / "log", past_step(30))
    assert not config.output_dir.exists()
    log = run_whole(config, tmp_path / "log")
    assert any("training: resuming from checkpoint-" in line for line in log), log
    assert loss_values(config) == pytest.approx(loss_values(undisturbed), abs=FROM_BF16)
    assert [path.name for path in config.artifacts.iterdir()] == [config.output_dir.name]
