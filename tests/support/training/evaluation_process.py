"""Runs the evaluation stage with vLLM like its container; needs the packages of the serving image."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.serving.process import engine_fields
from toxicity_api.results import StageResult
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, EngineConfig, EvaluationConfig

STAGE_SECONDS = 400


def engine_config(model_dir: Path, **fields: object) -> EngineConfig:
    """The engine configuration of the tiny model in that folder, with further fields."""
    return EngineConfig.model_validate(engine_fields(model_dir, **fields))


def evaluate(
    artifacts: Path, fingerprint: str, served: EngineConfig, original: EngineConfig | None
) -> tuple[int, StageResult]:
    """The exit code of the stage's process and the result document in its termination message."""
    config = EvaluationConfig(
        model="tiny",
        fingerprint=fingerprint,
        artifacts=artifacts,
        served=served,
        original=original,
        splits_dir=artifacts / "splits",
        seed=1,
    )
    log = artifacts / f"termination-{fingerprint}"
    log.touch()
    done = subprocess.run(
        [sys.executable, "-m", "toxicity_evaluation", "--termination-log", str(log)],
        env=os.environ | {STAGE_CONFIG_VARIABLE: config.model_dump_json(by_alias=True), "HOME": str(artifacts)},
        timeout=STAGE_SECONDS,
        check=False,
    )
    return done.returncode, StageResult.model_validate_json(log.read_bytes())
