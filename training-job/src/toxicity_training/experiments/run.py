"""Runs the training configurations of a grid and compares them: `python -m toxicity_training.experiments grid.yaml`.

Each run is a training stage in a child process, which frees its memory and isolates a crash. A run that has already
succeeded with the same inputs and settings is not repeated.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, StageResult
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, TrainingConfig
from toxicity_stage.artifacts import RESULT_FILE, read_result, succeeded_result
from toxicity_stage.errors import InputError
from toxicity_training.evaluation.tables import write_report
from toxicity_training.experiments.grid import (
    DEFAULT_BASE_MODEL,
    Grid,
    Inputs,
    plan_runs,
    read_grid,
    read_inputs,
    require_base_models,
)
from toxicity_training.experiments.table import ExperimentsReport, RunOutcome, render_table


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if every run succeeded, EXIT_FAILED if one failed, EXIT_INVALID_INPUT if nothing was run."""
    options = _parser().parse_args(arguments)
    try:
        grid = read_grid(options.grid)
        configs = plan_runs(grid, _inputs(grid, options))
    except InputError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return EXIT_INVALID_INPUT
    options.work.mkdir(parents=True, exist_ok=True)
    report = _report(grid, configs, run_all(configs))
    table = render_table(report)
    write_report(report, table, options.output or options.work / f"{options.grid.stem}.md")
    print(f"\n{table}", end="", flush=True)
    return EXIT_FAILED if report.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toxicity_training.experiments", description="Trains several configurations and compares them."
    )
    parser.add_argument("grid", type=Path, help="YAML file with the configurations")
    parser.add_argument(
        "--dataset", type=Path, required=True, help="CSV, TSV, JSON lines or Parquet file, plain or gzip"
    )
    parser.add_argument(
        "--base-model",
        type=_base_model,
        action="append",
        required=True,
        metavar="[NAME=]DIR",
        help="folder of the base model NAME; without NAME, of the runs that set no baseModel",
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs; keep it to resume later")
    parser.add_argument("--text-column", default="comment")
    parser.add_argument("--label-column", default="toxic")
    parser.add_argument(
        "--output",
        type=Path,
        help="file for the table (FILE.md); FILE.json is written beside it; default: in the work folder",
    )
    return parser


def _base_model(argument: str) -> tuple[str, Path]:
    name, separator, folder = argument.partition("=")
    return (name, Path(folder)) if separator else (DEFAULT_BASE_MODEL, Path(argument))


def _inputs(grid: Grid, options: argparse.Namespace) -> Inputs:
    given = {name: folder.resolve() for name, folder in options.base_model}
    require_base_models(grid, given)
    used = {run.base_model or DEFAULT_BASE_MODEL for run in grid.runs}
    return read_inputs(options, {name: given[name] for name in used})


def run_all(configs: Sequence[TrainingConfig]) -> list[StageResult]:
    """Executes the runs one after another and returns their results; logs each run."""
    results = []
    for number, config in enumerate(configs, start=1):
        place = f"experiments: run {number} of {len(configs)}, {config.model}"
        done = succeeded_result(config.output_dir)
        print(f"{place}: {f'{config.output_dir} is already published' if done else 'starting'}", flush=True)
        results.append(done or run_one(config))
        print(f"{place}: {results[-1].outcome}", flush=True)
    return results


def run_one(config: TrainingConfig) -> StageResult:
    """Runs a training stage in a child process, whose output passes through; a crash gives a failed result."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / RESULT_FILE
        code = subprocess.run(
            [sys.executable, "-m", "toxicity_training", "--termination-log", str(log)],
            env={**os.environ, STAGE_CONFIG_VARIABLE: config.model_dump_json(by_alias=True)},
            check=False,
        ).returncode
        said = read_result(log.parent)
    return conclude(config, code, said)


def conclude(config: TrainingConfig, code: int, said: StageResult | None) -> StageResult:
    """The result of a run; success needs exit code 0 and the published folder."""
    if code == 0 and (done := succeeded_result(config.output_dir)) is not None:
        return done
    if said is not None and said.outcome == "failed":
        return said
    reason, message = _ending(code)
    return StageResult(
        stage="train", fingerprint=config.fingerprint, outcome="failed", reason=reason, message=message
    )


def _ending(code: int) -> tuple[str, str]:
    if code == -signal.SIGKILL:
        message = "killed by SIGKILL, probably because memory ran out; lower batchSize or the lengths"
        return "Killed", message
    if code < 0:
        return "Killed", f"killed by {signal.Signals(-code).name}"
    return "NoResult", f"the stage ended with exit code {code} without a matching result"


def _report(grid: Grid, configs: Sequence[TrainingConfig], results: Sequence[StageResult]) -> ExperimentsReport:
    outcomes = [
        RunOutcome(
            name=run.name,
            fingerprint=config.fingerprint,
            base_model=run.base_model or config.base_model_path.name,
            training=config.training,
            published=run.published,
            result=result,
        )
        for run, config, result in zip(grid.runs, configs, results, strict=True)
    ]
    return ExperimentsReport(title=grid.title, runs=outcomes)
