"""Entry point of the quantization image: `python -m toxicity_quantization`, configured by STAGE_CONFIG.

Whatever happens, a result document is left; the exit code says whether a retry may help.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from toxicity_api.results import EXIT_INVALID_INPUT, StageResult
from toxicity_api.stage_config import QuantizationConfig, parse_stage_config
from toxicity_training.artifacts import (
    TERMINATION_LOG,
    exit_code,
    failed_result,
    keep_failure,
    report,
    succeeded_result,
)


def main(arguments: list[str] | None = None) -> int:
    """Runs the stage and returns its exit code."""
    parser = argparse.ArgumentParser(prog="toxicity_quantization", description=__doc__)
    parser.add_argument("--termination-log", type=Path, default=TERMINATION_LOG, help="where the result goes")
    termination_log = parser.parse_args(arguments).termination_log
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars are no log lines; the stage says itself how far it is
    stage = StageResult(stage="quantize", fingerprint="", outcome="failed")
    try:
        config = parse_stage_config(QuantizationConfig, dict(os.environ))
    except (KeyError, ValidationError) as error:
        report(stage.model_copy(update={"reason": "InvalidConfig", "message": str(error)}), termination_log)
        return EXIT_INVALID_INPUT
    done = succeeded_result(config.output_dir)
    if done is not None:
        print(f"quantization: {config.output_dir} is there already", flush=True)
        report(done, termination_log)
        return 0
    try:
        from toxicity_quantization.stage import run

        result = run(config)
    except Exception as error:  # noqa: BLE001  a crash must leave a result too
        traceback.print_exc()
        stage = stage.model_copy(update={"fingerprint": config.fingerprint})
        failure = failed_result(stage, error, "QuantizationCrashed")
        report(failure, termination_log)
        keep_failure(failure, config.output_dir)
        return exit_code(error)
    report(result, termination_log)
    return 0


if __name__ == "__main__":
    sys.exit(main())
