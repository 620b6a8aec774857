"""Entry point of the quantization image: `python -m toxicity_quantization`, configured by STAGE_CONFIG."""

from __future__ import annotations

import os
import sys

from toxicity_api.results import StageResult
from toxicity_api.stage_config import QuantizationConfig
from toxicity_stage.entry import Entry, run_stage


def main(arguments: list[str] | None = None) -> int:
    """Runs the stage and returns its exit code."""
    entry = Entry(
        program="toxicity_quantization",
        title="quantization",
        config=QuantizationConfig,
        failed=StageResult(stage="quantize", fingerprint="", outcome="failed"),
        crash_reason="QuantizationCrashed",
        run=_run,
        gpus_field="quantization.gpus",
        gpus=lambda config: config.quantization.gpus,
    )
    return run_stage(entry, arguments)


def _run(config: QuantizationConfig) -> StageResult:
    if config.quantization.gpus == 0:
        # AutoAWQ uses any visible GPU for parts of a model on the CPU; CUDA reads this variable when it starts
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from toxicity_quantization.stage import run

    return run(config)


if __name__ == "__main__":
    sys.exit(main())
