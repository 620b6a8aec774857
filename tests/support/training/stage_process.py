"""Runs the training stage in a child process, like its container, and kills it at chosen moments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from toxicity_api.progress import read_progress
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, TrainingConfig


def start(config: TrainingConfig, log: Path, arguments: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Starts the stage in a new process group; `log` is its termination message."""
    return subprocess.Popen(
        [sys.executable, "-m", "toxicity_training", "--termination-log", str(log), *arguments],
        env={**os.environ, STAGE_CONFIG_VARIABLE: config.model_dump_json(by_alias=True)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def configure_training(monkeypatch: pytest.MonkeyPatch, folder: Path, csv: str, gpus: int = 0) -> None:
    """Sets STAGE_CONFIG to a training on the rows of `csv`, with all files in `folder`."""
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
    """Yields its output line by line."""
    assert process.stdout is not None
    yield from process.stdout


def run_until(
    config: TrainingConfig, log: Path, is_moment: Callable[[str], bool], arguments: Sequence[str] = ()
) -> list[str]:
    """The log up to the line that matches `moment`, at which the process is killed; without a moment, the whole log."""
    seen: list[str] = []
    with start(config, log, arguments) as process:
        for line in lines_of(process):
            seen.append(line.rstrip())
            if is_moment(line):
                os.killpg(process.pid, signal.SIGKILL)
                break
    return seen


def run_whole(config: TrainingConfig, log: Path, arguments: Sequence[str] = ()) -> list[str]:
    """The log of an undisturbed stage."""
    return run_until(config, log, lambda line: False, arguments)


def past_step(step: int) -> Callable[[str], bool]:
    """The moment at which the log reports that `step` is done."""

    def is_moment(line: str) -> bool:
        progress = read_progress([line])
        return progress is not None and progress.step >= step

    return is_moment


def final_losses(config: TrainingConfig) -> str:
    """The published losses file as text."""
    return (config.output_dir / "losses.csv").read_text()


def loss_values(config: TrainingConfig) -> list[float]:
    """The loss of each step that the stage published."""
    return [float(line.split(",")[1]) for line in final_losses(config).splitlines()[1:]]
