"""What the artifact volume tells of the model besides its weights: plots, tables, the data's figures; read-only.

Stages may be missing, running or of an older version: what cannot be read is left out. Files are found by name in
the stages' own folders, never by what a request says. All of it blocks, for ever where the volume hangs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

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
MAX_FILE_BYTES = 16 << 20
"""A larger file is left out: the stages leave far smaller ones, and what is read is kept in memory."""

Document = TypeVar("Document", bound=BaseModel)


class QualityBucket(BaseModel):
    """Quality on the test split's texts of one length."""

    name: str = Field(description="characters: low-high")
    rows: int
    toxic: int = Field(description="toxic rows among them")
    f1: float | None = None
    precision: float | None = None
    recall: float | None = None


class _Evaluation(BaseModel):
    """Of an evaluation's document what is shown."""

    buckets: list[QualityBucket] = []


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
    results = [result for folder in config.report_dirs if (result := _read(folder / RESULT, StageResult))]
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


def read_plot(config: ServingConfig, plot: str) -> bytes | None:
    """The PNG of a plot by its id; None when there is no such plot."""
    found = find_plots(config).get(plot)
    return _content(found[1]) if found else None


def _id(name: str) -> str:
    return name.removesuffix(".png").replace("/", "-")


def _is_inside(path: Path, root: Path) -> bool:
    """A file that no link leads out of the volume."""
    try:
        return path.is_file() and path.resolve().is_relative_to(root.resolve())
    except OSError as error:
        _left_out(path, error)
        return False


def _load_tests(artifacts: Path) -> list[Path]:
    """Folders of load tests, the newest first; one that is being written has a dot in its name."""
    try:
        folders = [folder for folder in artifacts.glob("loadtest-*") if "." not in folder.name]
    except OSError as error:
        _left_out(artifacts, error)
        return []
    times = {folder: time for folder in folders if (time := _written(folder)) is not None}
    return sorted(times, key=times.__getitem__, reverse=True)


def _written(folder: Path) -> float | None:
    """When; None when it is no folder, or none any more."""
    try:
        return folder.stat().st_mtime if folder.is_dir() else None
    except OSError as error:
        _left_out(folder, error)
        return None


def _load_test(artifacts: Path) -> LoadTestStatus | None:
    read = (_read(folder / LOAD_TEST_STATUS, LoadTestStatus) for folder in _load_tests(artifacts))
    return next((status for status in read if status), None)


def _quality(folders: Sequence[Path]) -> list[QualityBucket]:
    """Buckets with rows, of the last folder that has some: the model's own after those of what it was made from."""
    for folder in reversed(folders):
        evaluation = _read(folder / EVALUATION, _Evaluation)
        buckets = [bucket for bucket in evaluation.buckets if bucket.rows] if evaluation else []
        if buckets:
            return buckets
    return []


def _read(path: Path, kind: type[Document]) -> Document | None:
    """The document in that file; None when it cannot be read or is no such document."""
    content = _content(path)
    try:
        return None if content is None else kind.model_validate_json(content)
    except ValidationError as error:
        _left_out(path, error)
        return None


def _content(path: Path) -> bytes | None:
    """None when it is no file (opening a pipe would wait for its writer), is too large or cannot be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise OSError(f"larger than {MAX_FILE_BYTES} bytes")
        return content
    except OSError as error:
        _left_out(path, error)
        return None


def _left_out(path: Path, error: OSError | ValidationError) -> None:
    # without a ValidationError's own words, which repeat the document
    reason = str(error) if isinstance(error, OSError) else f"{error.error_count()} errors"
    logger.warning("report_unreadable path=%s error=%s reason=%r", path, type(error).__name__, reason)
