"""What the artifact volume tells of the model besides its weights: plots, tables, the data's figures; read-only.

Stages may be missing, running or of an older version: what cannot be read is left out. Files are found by name in
the stages' own folders, never by what a request says.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.results import DataFacts, StageResult
from toxicity_api.stage_config import ServingConfig

logger = logging.getLogger(__name__)

STAGE_PLOTS = {
    "eda/labels.png": "Labels of the data",
    "eda/len_text_chars.png": "Length of the texts in characters",
    "eda/len_text_tokens.png": "Length of the texts in tokens",
    "eda/labels_len.png": "Length by label",
    "evaluation/pr_curve.png": "Precision and recall",
    "evaluation/reliability.png": "Reliability of the score",
    "evaluation/f1_by_length.png": "F1 by length",
}
LOAD_TEST_PLOTS = {
    "p95.png": "Load test: p95 latency by length",
    "rps.png": "Load test: requests per second by length",
}
"""Plots by their path in a stage's folder, with the title that the page gives them."""

RESULT, EVALUATION, LOAD_TEST_STATUS = "result.json", "evaluation/evaluation.json", "status.json"


class QualityBucket(BaseModel):
    """Quality on the test split's texts of one length."""

    name: str = Field(description="characters: low-high")
    rows: int
    toxic: int = Field(description="toxic rows among them")
    f1: float | None = None
    precision: float | None = None
    recall: float | None = None


class PlotLink(BaseModel):
    id: str
    title: str
    path: str = Field(description="where it is, relative to the page")


class Report(BaseModel):
    """Everything that was found; null or empty where a stage left nothing."""

    data: DataFacts | None = Field(description="the data set as it was read and split")
    train_samples: int | None = Field(description="texts that the adapter was trained on")
    quality: list[QualityBucket] = Field(description="by length, before any load test")
    load_test: LoadTestStatus | None = Field(description="the newest load test's figures")
    plots: list[PlotLink]


def read_report(config: ServingConfig) -> Report:
    """The report as the volume has it now."""
    results = [result for folder in config.report_dirs if (result := _result(folder / RESULT))]
    training = next((result.training for result in results if result.training), None)
    plots = find_plots(config)
    return Report(
        data=training.data if training else None,
        train_samples=training.train_samples if training else None,
        quality=_quality(config.report_dirs),
        load_test=_load_test(config.artifacts),
        plots=[PlotLink(id=key, title=title, path=f"v1/plots/{key}") for key, (title, _) in plots.items()],
    )


def find_plots(config: ServingConfig) -> dict[str, tuple[str, Path]]:
    """Title and file of each plot that is there, by an id such as `eda-labels`."""
    found: dict[str, tuple[str, Path]] = {}
    for name, title in STAGE_PLOTS.items():
        for folder in config.report_dirs:
            if _is_inside(folder / name, config.artifacts):
                found[_id(name)] = (title, folder / name)
    for name, title in LOAD_TEST_PLOTS.items():
        for folder in _load_tests(config.artifacts):
            if _is_inside(folder / name, config.artifacts):
                found[_id(f"loadtest/{name}")] = (title, folder / name)
                break
    return found


def _id(name: str) -> str:
    return name.removesuffix(".png").replace("/", "-")


def _is_inside(path: Path, root: Path) -> bool:
    """A file that no link leads out of the volume."""
    return path.is_file() and path.resolve().is_relative_to(root.resolve())


def _load_tests(artifacts: Path) -> list[Path]:
    """Folders of load tests, the newest first; one that is being written has a dot in its name."""
    folders = [folder for folder in artifacts.glob("loadtest-*") if folder.is_dir() and "." not in folder.name]
    return sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)


def _load_test(artifacts: Path) -> LoadTestStatus | None:
    for folder in _load_tests(artifacts):
        text = _text(folder / LOAD_TEST_STATUS)
        if text is not None:
            try:
                return LoadTestStatus.model_validate_json(text)
            except ValidationError as error:
                logger.warning("report_unreadable path=%s errors=%d", folder, error.error_count())
    return None


def _result(path: Path) -> StageResult | None:
    text = _text(path)
    try:
        return None if text is None else StageResult.model_validate_json(text)
    except ValidationError as error:
        logger.warning("report_unreadable path=%s errors=%d", path, error.error_count())
        return None


def _quality(folders: Sequence[Path]) -> list[QualityBucket]:
    """Of the last folder that has it: the model's own after those of what it was made from."""
    for folder in reversed(folders):
        buckets = list(_buckets(folder / EVALUATION))
        if buckets:
            return buckets
    return []


def _buckets(path: Path) -> Iterator[QualityBucket]:
    """Buckets with rows in them."""
    text = _text(path)
    try:
        document: Any = json.loads(text) if text is not None else {}
        buckets = [QualityBucket.model_validate(bucket) for bucket in document.get("buckets", [])]
    except (ValueError, AttributeError, TypeError) as error:
        logger.warning("report_unreadable path=%s error=%s", path, type(error).__name__)
        return
    yield from (bucket for bucket in buckets if bucket.rows)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
