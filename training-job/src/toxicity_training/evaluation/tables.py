"""Metrics as text: log lines of the stages, and aligned Markdown tables of `experiments` and `quality`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toxicity_api.base import Document
from toxicity_api.results import Metrics
from toxicity_training.evaluation.metrics import BucketFigures, FamilyFigures

ABSENT = "–"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with the first column aligned left and the others, which are numbers, aligned right."""
    widths = [max(3, *(len(row[index]) for row in (header, *rows))) for index in range(len(header))]
    rule = ["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join(_line(row, widths) for row in (header, rule, *rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
    return f"| {' | '.join(padded)} |"


def figure(value: float | None) -> str:
    """A value from 0 to 1 with three decimals."""
    return ABSENT if value is None else f"{value:.3f}"


def write_report(report: Document, table: str, output: Path) -> None:
    """Writes the table to `output` and the document behind it as JSON beside it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(table, encoding="utf-8")
    json = report.model_dump_json(by_alias=True, exclude_none=True, indent=1)
    output.with_suffix(".json").write_text(json + "\n", encoding="utf-8")


def describe_metrics(metrics: Metrics) -> list[str]:
    """The metrics as log lines; with the stage's name in front they fit 80 columns."""
    return [
        f"F1 {_cell(metrics.f1)} (95 %: {_cell(metrics.f1_low)} to {_cell(metrics.f1_high)})",
        f"macro F1 {_cell(metrics.macro_f1)}, ROC-AUC {_cell(metrics.roc_auc)},"
        f" PR-AUC {_cell(metrics.pr_auc)}, ECE {_cell(metrics.calibration_error)}",
        *_robustness(metrics),
    ]


def _robustness(metrics: Metrics) -> list[str]:
    """A line if the robustness was measured; the evaluation in the serving engine does not measure it."""
    if metrics.distorted_f1 is None and metrics.misspelled_f1 is None:
        return []
    return [f"F1 distorted {_cell(metrics.distorted_f1)}, misspelled {_cell(metrics.misspelled_f1)}"]


def family_table(families: Sequence[FamilyFigures]) -> list[str]:
    """A header and a line per family of misspellings; they fit 80 columns."""
    header = f"{'misspelled':<22}{'rows':>7}{'toxic':>7}{'F1':>8}{'before':>8}"
    return [
        header,
        *(f"{f.name:<22}{f.rows:>7}{f.toxic:>7}{_cell(f.f1):>8}{_cell(f.f1_before):>8}" for f in families),
    ]


def length_table(buckets: Sequence[BucketFigures]) -> list[str]:
    """A header and a line per non-empty bucket of lengths in characters; they fit 80 columns too."""
    lines = [f"{'characters':<12}{'rows':>7}{'toxic':>7}{'F1':>8}{'precision':>11}{'recall':>8}"]
    for bucket in buckets:
        if bucket.rows:
            lines.append(
                f"{bucket.name:<12}{bucket.rows:>7}{bucket.toxic:>7}{_cell(bucket.f1):>8}"
                f"{_cell(bucket.precision):>11}{_cell(bucket.recall):>8}"
            )
    return lines


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
