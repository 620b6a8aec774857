"""Entry point of the training image: `python -m toxicity_training`, configured by STAGE_CONFIG."""

from __future__ import annotations

import sys

from toxicity_api.results import StageResult
from toxicity_api.stage_config import TrainingConfig
from toxicity_stage.entry import Entry, run_stage
from toxicity_stage.errors import CRASHED


def main(arguments: list[str] | None = None) -> int:
    """Runs the stage and returns its exit code."""
    entry = Entry(
        program="toxicity_training",
        title="training",
        config=TrainingConfig,
        failed=StageResult(stage="train", fingerprint="", outcome="failed"),
        crash_reason=CRASHED,
        run=_run,
        gpus_field="training.gpus",
        gpus=lambda config: config.training.gpus,
    )
    return run_stage(entry, arguments)


def _run(config: TrainingConfig) -> StageResult | None:
    from toxicity_training.stage import run

    return run(config)


if __name__ == "__main__":
    sys.exit(main())
