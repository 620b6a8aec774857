"""A killed training resumes from its last checkpoint with the same losses, and never publishes an incomplete folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.training.event_files import read_curves
from support.training.stage_process import final_losses, past_step, run_until, run_whole
from toxicity_api.progress import read_progress
from toxicity_api.spec import Augmentation, Tracking, TrainingSpec
from toxicity_api.stage_config import TrainingConfig
from toxicity_stage.artifacts import read_result
from toxicity_training.engines.checkpoints import (
    checkpoint_folder,
    checkpoints_folder,
    last_checkpoint,
    mark_complete,
)
from toxicity_training.tracking import TENSORBOARD_FOLDER, TRAINING_LOSS, VALIDATION_LOSS

pytestmark = pytest.mark.engine

MOMENTS = {"trainer": (1, 3, 5, 7, 9), "loop": (2, 4, 6, 8, 10)}
"""Elevenths of the steps after which an engine is killed: five for each engine."""
ROWS = 400


@pytest.mark.parametrize("name", ["trainer", "loop"])
def test_kills_change_nothing(
    make_config: Callable[..., TrainingConfig], make_spec: Callable[..., TrainingSpec], tmp_path: Path, name: str
) -> None:
    augmentation = Augmentation(share=0.5)
    fields = {"augmentation": augmentation, "tracking": Tracking(tensor_board=True)}
    spec = make_spec(engine=name, dropout=0.1, epochs=2, checkpoint_steps=2, **fields)
    config = make_config(spec, rows=ROWS)
    undisturbed = config.model_copy(update={"artifacts": tmp_path / "undisturbed"})
    log = run_whole(undisturbed, tmp_path / "log")
    steps = max(progress.steps for line in log if (progress := read_progress([line])))

    for number, moment in enumerate(MOMENTS[name]):
        seen = run_until(config, tmp_path / "log", past_step(moment * steps // 11))
        assert read_result(config.output_dir) is None, seen[-1]
        assert not config.output_dir.exists()
        assert (number == 0) == ("training: resuming from" not in "\n".join(seen))
    seen = run_whole(config, tmp_path / "log")

    result = read_result(config.output_dir)
    assert result is not None, seen[-5:]
    assert result.outcome == "succeeded"
    assert final_losses(config) == final_losses(undisturbed)
    curves = [read_curves(each.output_dir / TENSORBOARD_FOLDER) for each in (config, undisturbed)]
    assert curves[0][TRAINING_LOSS] == curves[1][TRAINING_LOSS]
    assert curves[0][TRAINING_LOSS].keys() == set(range(1, steps + 1))
    assert curves[0][VALIDATION_LOSS] == curves[1][VALIDATION_LOSS] != {}
    assert curves[0]["test/f1"] == pytest.approx({steps: result.training.metrics.f1}, rel=1e-6)
    both = [each.output_dir / "validation.csv" for each in (config, undisturbed)]
    assert both[0].read_text() == both[1].read_text()
    weights = [each.output_dir / "adapter" / "adapter_model.safetensors" for each in (config, undisturbed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert json.loads((tmp_path / "log").read_text())["training"]["trainSamples"] == result.training.train_samples
    # neither checkpoints nor a folder of an attempt that died is left
    assert sorted(path.name for path in config.artifacts.iterdir()) == [config.output_dir.name]


@pytest.mark.parametrize("moment", ["data set:", "parameters are trained", "trained on", "evaluated"])
def test_killed_outside_the_steps(
    make_config: Callable[..., TrainingConfig], make_spec: Callable[..., TrainingSpec], tmp_path: Path, moment: str
) -> None:
    config = make_config(make_spec(checkpoint_steps=1))
    assert moment in run_until(config, tmp_path / "log", lambda line: moment in line)[-1]
    assert not config.output_dir.exists()
    run_whole(config, tmp_path / "log")
    result = read_result(config.output_dir)
    assert result is not None
    assert result.outcome == "succeeded"


def test_a_checkpoint_without_its_mark_is_removed(tmp_path: Path) -> None:
    root = checkpoints_folder(tmp_path / "train-abc")
    for step in (5, 10, 15):
        checkpoint_folder(root, step).mkdir(parents=True)
        (checkpoint_folder(root, step) / "weights").write_text("w")
    for step in (5, 10):
        mark_complete(checkpoint_folder(root, step))
    assert last_checkpoint(root) == checkpoint_folder(root, 10)
    assert sorted(path.name for path in root.iterdir()) == ["checkpoint-10", "checkpoint-5"]


def test_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "none") is None
