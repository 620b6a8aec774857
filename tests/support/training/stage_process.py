"""The training stage in a process of its own, as a container runs it, and the moments at which tests kill it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toxicity_api.progress import read_progress
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, TrainingConfig


def start(config: TrainingConfig, log: Path) -> subprocess.Popen[str]:
    """The stage in a process group of its own; `log` is its termination message."""
    return subprocess.Popen(
        [sys.executable, "-m", "toxicity_training", "--termination-log", str(log)],
        env={**os.environ, STAGE_CONFIG_VARIABLE: config.model_dump_json(by_alias=True)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def configure_training(monkeypatch: pytest.MonkeyPatch, folder: Path, csv: str, gpus: int = 0) -> None:
    """Gives this process and its children the configuration of a training on the rows of `csv`, all in `folder`."""
    (folder / "c.csv").write_text(csv, encoding="utf-8")
    document = {
        "model": "m",
        "fingerprint": "abc",
        "artifacts": str(folder / "artifacts"),
        "datasetPath": str(folder / "c.csv"),
        "textColumn": "comment",
        "labelColumn": "toxic",
        "split": {},
        "baseModelPath": str(folder / "base"),
        "training": {"gpus": gpus},
    }
    monkeypatch.setenv(STAGE_CONFIG_VARIABLE, json.dumps(document))


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    """Its output, line by line as it comes."""
    assert process.stdout is not None
    yield from process.stdout


def run_until(config: TrainingConfig, log: Path, is_moment: Callable[[str], bool]) -> list[str]:
    """The log up to the line that is the moment, at which the process is killed; the whole log without one."""
    seen: list[str] = []
    with start(config, log) as process:
        for line in lines_of(process):
            seen.append(line.rstrip())
            if is_moment(line):
                os.killpg(process.pid, signal.SIGKILL)
                break
    return seen


def run_whole(config: TrainingConfig, log: Path) -> list[str]:
    """The log of a stage that nobody disturbs."""
    return run_until(config, log, lambda line: False)


def past_step(step: int) -> Callable[[str], bool]:
    """The moment at which the progress says that `step` is done."""

    def is_moment(line: str) -> bool:
        progress = read_progress([line])
        return progress is not None and progress.step >= step

    return is_moment


def final_losses(config: TrainingConfig) -> str:
    """The losses that the stage published, as they stand in their file."""
    return (config.output_dir / "losses.csv").read_text()


def loss_values(config: TrainingConfig) -> list[float]:
    """The loss of each step that the stage published."""
    return [float(line.split(",")[1]) for line in final_losses(config).splitlines()[1:]]
