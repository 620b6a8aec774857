"""The report of a grid of experiments, as a document and as a table; pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.results import StageResult, TrainingResult
from toxicity_api.spec import TrainingSpec
from toxicity_training.evaluation.tables import ABSENT, figure, markdown_table
from toxicity_training.experiments.grid import Published

WIDTH = 100
HEADER = ("run", "F1", "P", "R", "mF1", "AUC", "min", "params", "rows")
LEGEND = (
    "F1, P (precision) and R (recall) of the toxic class, mF1 (macro F1) and AUC (ROC) on the test split; min:"
    " minutes of the whole stage; params: trainable parameters; rows: training rows."
)


class RunOutcome(Document):
    """One run: its configuration and its result."""

    name: str
    fingerprint: str
    base_model: str = Field(description="baseModel folder that was fine-tuned.")
    training: TrainingSpec
    published: Published | None = None
    result: StageResult

    @property
    def figures(self) -> TrainingResult | None:
        """The training result of a run that succeeded; None otherwise."""
        return self.result.training if self.result.outcome == "succeeded" else None


class ExperimentsReport(Document):
    title: str
    runs: list[RunOutcome]

    @property
    def failed(self) -> list[RunOutcome]:
        return [run for run in self.runs if run.figures is None]


def render_table(report: ExperimentsReport) -> str:
    """Markdown of at most WIDTH columns: the runs, best F1 first, then failed runs with their reasons."""
    done = [(run, run.figures) for run in report.runs if run.figures is not None]
    done.sort(key=lambda pair: -pair[1].metrics.f1)
    rows = [row for run, figures in done for row in _rows(run, figures)]
    parts = [f"# {report.title}"]
    if rows:
        parts += [markdown_table(HEADER, rows), _wrap(_legend(figures for _, figures in done))]
    if report.failed:
        parts.append("\n".join(["Failed:", *map(_failure, report.failed)]))
    return "\n\n".join(parts) + "\n"


def _rows(run: RunOutcome, result: TrainingResult) -> list[Sequence[str]]:
    metrics = result.metrics
    shares = (metrics.f1, metrics.precision, metrics.recall, metrics.macro_f1, metrics.roc_auc)
    parameters = result.trainable_parameters
    own = (
        run.name,
        *map(figure, shares),
        f"{result.duration_seconds / 60:.1f}",
        ABSENT if parameters is None else f"{parameters / 1e6:.2f}M",
        str(result.train_samples),
    )
    return [own] if run.published is None else [own, _published(run.published)]


def _published(published: Published) -> Sequence[str]:
    figures = map(figure, (published.f1, published.precision, published.recall))
    return ("(published)", *figures, "", "", "", "", "")


def _legend(results: Iterable[TrainingResult]) -> str:
    counts = sorted({result.metrics.test_samples for result in results})
    return f"{LEGEND} Test rows: {', '.join(map(str, counts))}."


def _failure(run: RunOutcome) -> str:
    message = " ".join(run.result.message.split())
    return _wrap(f"- {run.name}: {run.result.reason}: {message}", indent="  ")


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent)
