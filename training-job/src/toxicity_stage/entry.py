"""The entry point of the stages: reads the configuration, runs the stage, leaves a result document and an exit code.

Every run leaves a result document, also a failed one; the exit code says whether a retry may help.
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
from toxicity_api.torch_build import refuse_cpu_build
from toxicity_stage.artifacts import (
    TERMINATION_LOG,
    exit_code,
    failed_result,
    keep_failure,
    report,
)
from toxicity_stage.errors import InputError, RankFailure
from toxicity_stage.ranks import is_started, leave_failure
from toxicity_stage.transfers import Transfers, open_transfers
from toxicity_store.client import add_secrets_argument
from toxicity_store.errors import StoreError

ConfigT = TypeVar("ConfigT", TrainingConfig, QuantizationConfig, EvaluationConfig)


@dataclass(frozen=True)
class Entry(Generic[ConfigT]):
    """One stage: `failed` is its result before the work starts; `run` returns None if another process reports.

    `gpus_field` is the field of the ToxicityModel that sets the number of GPUs, which `gpus` reads.
    """

    program: str
    title: str
    config: type[ConfigT]
    failed: StageResult
    crash_reason: str
    run: Callable[[ConfigT], StageResult | None]
    gpus_field: str
    gpus: Callable[[ConfigT], int]


def run_stage(entry: Entry[ConfigT], arguments: list[str] | None) -> int:
    """Runs the stage configured by STAGE_CONFIG and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog=entry.program, description=f"The {entry.title} stage of a ToxicityModel."
    )
    parser.add_argument(
        "--termination-log", type=Path, default=TERMINATION_LOG, help="file for the result document"
    )
    parser.add_argument(
        "--rank-failures", type=Path, help="folder for the failures of processes that torchrun started"
    )
    add_secrets_argument(parser)
    options = parser.parse_args(arguments)
    termination_log = options.termination_log
    os.environ.setdefault("TQDM_DISABLE", "1")  # the stage logs its own progress
    # peft imports bitsandbytes if it is installed, which warns about missing kernels on a machine without a GPU
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        config = parse_stage_config(entry.config, os.environ)
    except StageConfigError as error:
        report(entry.failed.model_copy(update={"reason": "InvalidConfig", "message": str(error)}), termination_log)
        return EXIT_INVALID_INPUT
    transfers = None
    try:
        transfers = open_transfers(
            config.object_store, config.owner, config.output_dir, options.object_store_secrets
        )
        result, is_known = _result(entry, config, transfers)
    except Exception as error:  # noqa: BLE001  a crash leaves a result too
        done = None if transfers is None or is_started(os.environ) else transfers.finished_elsewhere()
        if done is not None:
            print(f"{entry.title}: another attempt succeeded; this one failed: {error}", flush=True)
            report(done, termination_log)
            return 0
        stage = entry.failed.model_copy(update={"fingerprint": config.fingerprint})
        _report_failure(error, failed_result(stage, error, entry.crash_reason), config.output_dir, options)
        return exit_code(error)
    if is_known:
        print(f"{entry.title}: {config.output_dir} is already published", flush=True)
    if result is not None:  # None in a process of several that leaves the report to another
        report(result.model_copy(update={"storage": transfers.measure()}), termination_log)
    return 0


def _require_build(entry: Entry[ConfigT], config: ConfigT) -> None:
    """Raises InputError if the stage's GPUs cannot be used with this image."""
    problem = refuse_cpu_build(entry.gpus(config), entry.gpus_field)
    if problem:
        raise InputError("ImageWithoutCuda", problem)


def _result(entry: Entry[ConfigT], config: ConfigT, transfers: Transfers) -> tuple[StageResult | None, bool]:
    """The result of the stage, and whether an earlier attempt has published it."""
    done = transfers.finished()
    if done is not None:
        return done, True
    _require_build(entry, config)
    transfers.remove_old(config.retention)
    transfers.fetch(config.inputs)
    with transfers.saving_checkpoints():
        result = entry.run(config)
    return None if result is None else transfers.publish(result), False


def _report_failure(error: Exception, failure: StageResult, folder: Path, options: argparse.Namespace) -> None:
    """Reports the failure; a process of several writes it to a file for the process that launched them."""
    if not isinstance(error, InputError | RankFailure | StoreError):  # their message is enough
        traceback.print_exception(error)
    if options.rank_failures is not None:
        rank_failure = RankFailure(failure.reason, failure.message, exit_code(error))
        return leave_failure(rank_failure, options.rank_failures, os.environ)
    report(failure, options.termination_log)
    if not is_started(os.environ):
        keep_failure(failure, folder)
