"""The entry point that the model stages share: configuration in, result document and exit code out.

Whatever happens, a result document is left; the exit code says whether a retry may help.
"""

from __future__ import annotations

import argparse
import logging
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from toxicity_api.results import EXIT_INVALID_INPUT, StageResult
from toxicity_api.stage_config import (
    EvaluationConfig,
    QuantizationConfig,
    StageConfigError,
    TrainingConfig,
    parse_stage_config,
)
from toxicity_training.artifacts import (
    TERMINATION_LOG,
    exit_code,
    failed_result,
    keep_failure,
    report,
    succeeded_result,
)
from toxicity_training.errors import InputError, RankFailure
from toxicity_training.rank_failures import is_started, leave_failure

ConfigT = TypeVar("ConfigT", TrainingConfig, QuantizationConfig, EvaluationConfig)


@dataclass(frozen=True)
class Entry(Generic[ConfigT]):
    """What is particular to one stage. `failed` is its result before anything is known; `run` does the work."""

    program: str
    title: str
    config: type[ConfigT]
    failed: StageResult
    crash_reason: str
    run: Callable[[ConfigT], StageResult | None]


def run_stage(entry: Entry[ConfigT], arguments: list[str] | None) -> int:
    """Runs the stage with STAGE_CONFIG as its configuration and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog=entry.program, description=f"The {entry.title} stage of a ToxicityModel."
    )
    parser.add_argument("--termination-log", type=Path, default=TERMINATION_LOG, help="where the result goes")
    parser.add_argument("--rank-failures", type=Path, help="folder for the failure of one of several processes")
    options = parser.parse_args(arguments)
    termination_log = options.termination_log
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars are no log lines; the stage says itself how far it is
    # peft imports it whenever it is there, and without a GPU it warns of kernels that nobody asked for
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        config = parse_stage_config(entry.config, os.environ)
    except StageConfigError as error:
        report(entry.failed.model_copy(update={"reason": "InvalidConfig", "message": str(error)}), termination_log)
        return EXIT_INVALID_INPUT
    done = succeeded_result(config.output_dir)
    if done is not None:
        print(f"{entry.title}: {config.output_dir} is there already", flush=True)
        report(done, termination_log)
        return 0
    try:
        result = entry.run(config)
    except Exception as error:  # noqa: BLE001  a crash must leave a result too
        done = None if is_started(os.environ) else succeeded_result(config.output_dir)
        if done is not None:
            print(f"{entry.title}: another attempt has succeeded, while this one failed: {error}", flush=True)
            report(done, termination_log)
            return 0
        stage = entry.failed.model_copy(update={"fingerprint": config.fingerprint})
        _tell(error, failed_result(stage, error, entry.crash_reason), config.output_dir, options)
        return exit_code(error)
    if result is not None:  # else this process is one of several, and another one reports
        report(result, termination_log)
    return 0


def _tell(error: Exception, failure: StageResult, folder: Path, options: argparse.Namespace) -> None:
    """Leaves the failure where it is looked for; one of several processes leaves it to the one that started them."""
    if not isinstance(error, InputError | RankFailure):  # their message says all that there is to do
        traceback.print_exception(error)
    if options.rank_failures is not None:
        told = RankFailure(failure.reason, failure.message, exit_code(error))
        return leave_failure(told, options.rank_failures, os.environ)
    report(failure, options.termination_log)
    if not is_started(os.environ):
        keep_failure(failure, folder)
