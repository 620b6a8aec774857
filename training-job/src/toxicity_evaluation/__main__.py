"""Entry point of the evaluation stage, in the serving image: `python -m toxicity_evaluation`, with STAGE_CONFIG."""

from __future__ import annotations

import os
import sys

from toxicity_api.results import StageResult
from toxicity_api.stage_config import EvaluationConfig
from toxicity_stage.entry import Entry, run_stage


def main(arguments: list[str] | None = None) -> int:
    """Runs the stage and returns its exit code."""
    entry = Entry(
        program="toxicity_evaluation",
        title="evaluation",
        config=EvaluationConfig,
        failed=StageResult(stage="evaluate", fingerprint="", outcome="failed"),
        crash_reason="EvaluationCrashed",
        run=_run,
        gpus_field="serving.gpus",
        gpus=lambda config: config.served.gpus,
    )
    return run_stage(entry, arguments)


def _run(config: EvaluationConfig) -> StageResult:
    from toxicity_evaluation.answers import ask_apart
    from toxicity_evaluation.stage import run
    from toxicity_serving.engine.vllm import set_vllm_environment

    set_vllm_environment(os.environ, config.served.gpus)
    return run(config, ask_apart)


if __name__ == "__main__":
    sys.exit(main())
