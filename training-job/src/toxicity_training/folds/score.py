"""One fold: trains the model and the baseline, scores the fold's rows and writes the scores to a file."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from toxicity_api.spec import TrainingSpec
from toxicity_api.stage_config import TrainingConfig
from toxicity_stage.artifacts import MODEL_FOLDER, open_work_folder
from toxicity_training import stage
from toxicity_training.dataset import Example
from toxicity_training.engines.checkpoints import open_checkpoints, remove_checkpoints
from toxicity_training.evaluation.baseline import fit_baseline
from toxicity_training.evaluation.distort import distort
from toxicity_training.evaluation.metrics import choose_threshold
from toxicity_training.evaluation.misspell import misspell
from toxicity_training.evaluation.scoring import scores_of
from toxicity_training.folds.figures import FoldScores, ModelScores
from toxicity_training.folds.plan import Fold
from toxicity_training.precision import autocast
from toxicity_training.tracking import open_tracking

Score = Callable[[list[str]], list[float]]


def score_fold(config: TrainingConfig, fold: Fold, other: Sequence[Example], path: Path) -> None:
    """Writes a FoldScores document to `path`. A training that was interrupted continues from its last checkpoint."""
    started = time.monotonic()
    model = _train_and_score(config, fold, other)
    seconds = round(time.monotonic() - started, 1)
    spec = config.training
    fitted = fit_baseline(fold.splits.train, fold.splits.validation, normal_form=spec.prompt_format.normal_form)
    baseline = _scores(fold, other, spec, fitted.scores)
    scores = FoldScores(test_rows=fold.test_rows, model=model, baseline=baseline, seconds=seconds)
    part = path.with_suffix(".part")
    part.write_text(scores.model_dump_json(by_alias=True), encoding="utf-8")
    os.replace(part, path)
    remove_checkpoints(config.output_dir)


def _train_and_score(config: TrainingConfig, fold: Fold, other: Sequence[Example]) -> ModelScores:
    """The scores of the model as it would be saved; its folder is removed."""
    from toxicity_training import model as models

    open_checkpoints(config.output_dir)
    work = open_work_folder(config.output_dir)
    with open_tracking(config, work, stage.say) as tracking:
        trained = stage.train(config, fold.splits, work, tracking)
    stage.merge(config, work)
    models.release_memory()
    loaded, tokenizer = models.load_model(work / MODEL_FOLDER, models.in_full(trained.spec))
    try:
        with autocast(trained.spec):
            return _scores(
                fold, other, trained.spec, lambda texts: scores_of(loaded, tokenizer, texts, trained.spec)
            )
    finally:
        shutil.rmtree(work)


def _scores(fold: Fold, other: Sequence[Example], spec: TrainingSpec, score: Score) -> ModelScores:
    """The threshold from the fold's validation rows, and the scores of its test rows in three spellings."""
    validation, texts = fold.splits.validation, [example.text for example in fold.splits.test]
    parts = [
        [example.text for example in validation],
        texts,
        [distort(text, spec.seed) for text in texts],
        [misspell(text, spec.seed)[0] for text in texts],
        [example.text for example in other],
    ]
    scored = iter(score([text for part in parts for text in part]))
    seen, plain, distorted, misspelled, elsewhere = (list(islice(scored, len(part))) for part in parts)
    return ModelScores(
        threshold=choose_threshold(seen, [example.toxic for example in validation]),
        plain=plain,
        distorted=distorted,
        misspelled=misspelled,
        other=elsewhere,
    )
