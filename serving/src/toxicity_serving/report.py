"""Read what the stages left on the artifact volume: plots, evaluation tables and figures about the data.

A stage can be missing, running or of an older version, so unreadable files are left out. File names are fixed and
never taken from a request. All functions block, without a time limit while the volume hangs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError

from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.results import DataFacts, HeldOutFigures, StageResult
from toxicity_api.stage_config import ServingConfig

logger = logging.getLogger(__name__)

STAGE_PLOTS = {
    "eda/labels.png": "Labels of the data",
    "eda/len_text_chars.png": "Length of the texts in characters",
    "eda/len_text_tokens.png": "Length of the texts in tokens",
    "eda/labels_len.png": "Length in characters by label",
    "evaluation/pr_curve.png": "Precision and recall",
    "evaluation/reliability.png": "Reliability of the score",
    "evaluation/f1_by_length.png": "F1 by length in characters",
}
LOAD_TEST_PLOTS = {
    "p95.png": "Load test: p95 latency by text length",
    "rps.png": "Load test: requests per second by text length",
}
"""Plots by their path in a stage's folder, with their titles on the page."""

RESULT, EVALUATION, LOAD_TEST_STATUS = "result.json", "evaluation/evaluation.json", "status.json"
MAX_FILE_BYTES = 16 << 20
"""Larger files are left out, because a file is read into memory. The stages write much smaller ones."""

Document = TypeVar("Document", bound=BaseModel)


class QualityBucket(BaseModel):
    """Quality on the texts of the test split in one length bucket."""

    name: str = Field(description="range of lengths in characters: low-high")
    rows: int
    toxic: int = Field(description="toxic rows among them")
    f1: float | None = None
    precision: float | None = None
    recall: float | None = None


class WorstText(BaseModel):
    """A text of the test split that was classified wrongly."""

    error: str = Field(description="`false alarm` or `missed`")
    score: float
    suspicious: bool = Field(description="whether the label may be wrong rather than the decision")
    characters: int
    text: str = Field(description="beginning of the text")


class _Evaluation(BaseModel):
    """The part of an evaluation document that the report includes."""

    buckets: list[QualityBucket] = []
    errors: list[WorstText] = []


class PlotLink(BaseModel):
    id: str
    title: str
    path: str = Field(description="URL relative to the page")


class Report(BaseModel):
    """The results of all stages; null or empty where a stage left nothing."""

    data: DataFacts | None = Field(description="the data set as read and split by the training stage")
    train_samples: int | None = Field(description="number of texts that the adapter was trained on")
    quality: list[QualityBucket] = Field(description="quality on the test split by length in characters")
    test_sets: list[HeldOutFigures] = Field(description="quality on further test sets")
    errors: list[WorstText] = Field(description="most confident errors on the test split")
    load_test: LoadTestStatus | None = Field(description="results of the newest load test")
    plots: list[PlotLink]


def read_report(config: ServingConfig) -> Report:
    """Read the report from the volume."""
    results = [result for folder in config.report_dirs if (result := _read(folder / RESULT, StageResult))]
    training = next((result.training for result in results if result.training), None)
    evaluated = next((result.evaluation for result in results if result.evaluation), None)
    evaluation, plots = _evaluation(config.report_dirs), find_plots(config)
    return Report(
        data=training.data if training else None,
        train_samples=training.train_samples if training else None,
        quality=[bucket for bucket in evaluation.buckets if bucket.rows],
        test_sets=evaluated.test_sets if evaluated else [],
        errors=evaluation.errors,
        load_test=_load_test(config.artifacts),
        plots=[PlotLink(id=key, title=title, path=f"v1/plots/{key}") for key, (title, _) in plots.items()],
    )


def find_plots(config: ServingConfig) -> dict[str, tuple[str, Path]]:
    """Return the title and file of each existing plot, by an id such as `eda-labels`."""
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
    """Return the PNG of a plot by its id, or None when there is no such plot."""
    found = find_plots(config).get(plot)
    return _content(found[1]) if found else None


def _id(name: str) -> str:
    return name.removesuffix(".png").replace("/", "-")


def _is_inside(path: Path, root: Path) -> bool:
    """Return whether `path` is a file below `root` after symbolic links are resolved."""
    try:
        return path.is_file() and path.resolve().is_relative_to(root.resolve())
    except OSError as error:
        _left_out(path, error)
        return False


def _load_tests(artifacts: Path) -> list[Path]:
    """Return the folders of finished load tests, newest first. An unfinished one has a dot in its name."""
    try:
        folders = [folder for folder in artifacts.glob("loadtest-*") if "." not in folder.name]
    except OSError as error:
        _left_out(artifacts, error)
        return []
    times = {folder: time for folder in folders if (time := _modified_at(folder)) is not None}
    return sorted(times, key=times.__getitem__, reverse=True)


def _modified_at(folder: Path) -> float | None:
    """Return the modification time in seconds, or None when it is not a folder or was removed."""
    try:
        return folder.stat().st_mtime if folder.is_dir() else None
    except OSError as error:
        _left_out(folder, error)
        return None


def _load_test(artifacts: Path) -> LoadTestStatus | None:
    read = (_read(folder / LOAD_TEST_STATUS, LoadTestStatus) for folder in _load_tests(artifacts))
    return next((status for status in read if status), None)


def _evaluation(folders: Sequence[Path]) -> _Evaluation:
    """Return the last evaluation with a non-empty bucket. The served model's folder comes last."""
    for folder in reversed(folders):
        evaluation = _read(folder / EVALUATION, _Evaluation)
        if evaluation and any(bucket.rows for bucket in evaluation.buckets):
            return evaluation
    return _Evaluation()


def _read(path: Path, kind: type[Document]) -> Document | None:
    """Return the document in a file, or None when it cannot be read or is invalid."""
    content = _content(path)
    try:
        return None if content is None else kind.model_validate_json(content)
    except ValidationError as error:
        _left_out(path, error)
        return None


def _content(path: Path) -> bytes | None:
    """Return the content of a regular file, or None when it is too large or cannot be read.

    Other kinds are not opened: opening a named pipe waits for its writer.
    """
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
    # without the text of a ValidationError, which quotes the document
    reason = str(error) if isinstance(error, OSError) else f"{error.error_count()} errors"
    logger.warning("report_unreadable path=%s error=%s reason=%r", path, type(error).__name__, reason)
