"""Cross-validates the first configuration of a grid: each row is scored by a model that was not trained on it.

Each fold runs in a child process, which frees its memory. Its scores are kept in a file that is named after all they
depend on: the code with its defaults, the data, the base model and the settings. A run that was interrupted continues
with the fold that is missing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from pydantic import ValidationError

from toxicity_api.base import read_document
from toxicity_api.fingerprint import fingerprint
from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT
from toxicity_api.stage_config import TrainingConfig
from toxicity_stage.errors import InputError
from toxicity_training.dataset import Example, normalise
from toxicity_training.evaluation.tables import write_report
from toxicity_training.experiments.grid import (
    DEFAULT_BASE_MODEL,
    plan_runs,
    read_grid,
    read_inputs,
)
from toxicity_training.folds.figures import FoldScores, Pooled, figures_of, gain, pool
from toxicity_training.folds.plan import Fold, plan_folds
from toxicity_training.folds.score import score_fold
from toxicity_training.folds.table import FoldsReport, render
from toxicity_training.sources.files import read_dataset
from toxicity_training.splits import sample


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, EXIT_INVALID_INPUT if nothing can be run, or EXIT_FAILED if a fold's process died."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except InputError as error:
        print(f"quality: {error}", file=sys.stderr)
        return EXIT_INVALID_INPUT
    except BrokenProcessPool:
        print(
            "quality: the process of a fold died, probably for lack of memory; run again to resume",
            file=sys.stderr,
        )
        return EXIT_FAILED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toxicity_training.folds",
        description="Cross-validates a training configuration and compares it with TF-IDF and a previous model.",
    )
    parser.add_argument("grid", type=Path, help="YAML file whose first run is judged")
    parser.add_argument("--dataset", type=Path, required=True, help="file with all rows")
    parser.add_argument("--base-model", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--work", type=Path, required=True, help="folder of the scores; keep it to resume later")
    parser.add_argument("--folds", type=int, choices=range(2, 21), default=5, metavar="2-20")
    parser.add_argument(
        "--other-domain",
        type=Path,
        help="file with comments of another source, which are scored and never trained on",
    )
    parser.add_argument("--other-rows", type=int, default=1000, help="most rows of the other domain to score")
    parser.add_argument("--previous", type=Path, help="predictions-….json of an earlier run on the same data set")
    parser.add_argument("--text-column", default="comment")
    parser.add_argument("--label-column", default="toxic")
    parser.add_argument("--output", type=Path, help="file for the table; default: folds.md in the work folder")
    return parser


def _run(options: argparse.Namespace) -> None:
    config, digest, title = _plan(options)
    rows = read_dataset(config.dataset_path, config.text_column, config.label_column)
    other = _other_rows(options, rows)
    previous = None if options.previous is None else read_previous(options.previous, digest, len(rows))
    folds = plan_folds(rows, options.folds, config.split.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    scores = run_folds(config, folds, other)
    model = pool(config.model, scores, [each.model for each in scores], digest)
    baseline = pool("TF-IDF + LR", scores, [each.baseline for each in scores], digest)
    labels, seed = [row.toxic for row in rows], config.training.seed
    models = [model, baseline, *([previous] if previous else [])]
    elsewhere = [row.toxic for row in other]
    report = FoldsReport(
        title=title,
        rows=len(rows),
        folds=len(folds),
        other_rows=len(other),
        models=[
            # the previous run may have scored other rows of the other domain
            figures_of(
                each if each is not previous else each.model_copy(update={"other": []}), labels, elsewhere, seed
            )
            for each in models
        ],
        gains=[gain(model, over, labels, seed) for over in models[1:]],
    )
    kept = options.work / f"predictions-{config.fingerprint}.json"
    kept.write_text(model.model_dump_json(by_alias=True), encoding="utf-8")
    table = render(report)
    write_report(report, table, options.output or options.work / "folds.md")
    print(f"\n{table}\nThe predictions, for --previous of a later run, are in {kept}", flush=True)


def _plan(options: argparse.Namespace) -> tuple[TrainingConfig, str, str]:
    """The configuration of the grid's first run, the digest of the data set, and the grid's title."""
    grid = read_grid(options.grid)
    inputs = read_inputs(options, {DEFAULT_BASE_MODEL: options.base_model.resolve()})
    (config,) = plan_runs(grid.model_copy(update={"runs": grid.runs[:1]}), inputs)
    return config, inputs.dataset_digest, grid.title


def _other_rows(options: argparse.Namespace, rows: Sequence[Example]) -> list[Example]:
    """A sample of the other domain without the texts of the data set; empty if none is given."""
    if options.other_domain is None:
        return []
    seen = {normalise(row.text) for row in rows}
    found = read_dataset(options.other_domain, options.text_column, options.label_column)
    return sample([row for row in found if normalise(row.text) not in seen], options.other_rows, seed=0)


def read_previous(path: Path, dataset_digest: str, rows: int) -> Pooled:
    """The predictions of an earlier run. Raises InputError unless they are of the same data set."""
    try:
        found = read_document(Pooled, path.read_bytes(), path.name)
    except (OSError, ValidationError) as error:
        raise InputError("PreviousUnreadable", f"--previous: {path} has no predictions: {error}") from error
    if found.dataset != dataset_digest or len(found.scores) != rows:
        raise InputError(
            "PreviousOfOtherData", f"--previous: {path} is of another data set; name one of this data set"
        )
    return found.model_copy(update={"name": "previous model"})


def run_folds(config: TrainingConfig, folds: Sequence[Fold], other: Sequence[Example]) -> list[FoldScores]:
    """The scores of each fold, from its file if it has been run before."""
    found: list[FoldScores] = []
    spent: list[float] = []
    for number, fold in enumerate(folds, start=1):
        own = _of_fold(config, number, len(folds), other)
        path = config.artifacts / f"fold-{own.fingerprint}.json"
        place = f"quality: fold {number} of {len(folds)}"
        if path.exists():
            print(f"{place}: {path.name} is there", flush=True)
        else:
            print(f"{place}: training on {len(fold.splits.train)} rows", flush=True)
            started = time.monotonic()
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                process.submit(score_fold, own, fold, other, path).result()
            spent.append(time.monotonic() - started)
            left = sum(spent) / len(spent) * (len(folds) - number) / 60
            print(f"{place}: done in {spent[-1] / 60:.1f} min, about {left:.0f} min left", flush=True)
        found.append(FoldScores.model_validate_json(path.read_bytes()))
    return found


def _of_fold(config: TrainingConfig, number: int, folds: int, other: Sequence[Example]) -> TrainingConfig:
    """The configuration with the fingerprint of the fold."""
    parts = {"run": config.fingerprint, "fold": [number, folds], "other": [[row.text, row.toxic] for row in other]}
    return config.model_copy(update={"fingerprint": fingerprint(parts)})
