"""The report of a cross-validation, as a document and as a table; pure."""

from __future__ import annotations

import textwrap

from toxicity_api.base import Document
from toxicity_training.evaluation.tables import ABSENT, figure, markdown_table
from toxicity_training.folds.figures import Figures, Gain

WIDTH = 100
HEADER = ("model", "macro F1 (95 %)", "F1", "AUC", "dist.", "missp.", "other AUC", "other F1", "best F1")
GAIN_HEADER = ("gain over", "macro F1 (95 %)", "F1 (95 %)")
LEGEND = (
    "{rows} rows, each scored by the model of {folds} that was not trained on it, at the threshold with the best F1 on"
    " that fold's validation rows. F1 is that of the toxic class; dist. and missp.: F1 on the rows with spelling that"
    " evades filters and with misspellings that training never uses; other: means over the folds on {other} rows of the"
    " other domain, F1 at the stored and at the best threshold. Gains are paired on the same rows."
)


class FoldsReport(Document):
    title: str
    rows: int
    folds: int
    other_rows: int
    models: list[Figures]
    gains: list[Gain]


def render(report: FoldsReport) -> str:
    """Markdown: the figures of the models, and the gains of the first one."""
    figures = markdown_table(HEADER, [_cells(each) for each in report.models])
    gains = markdown_table(GAIN_HEADER, [_gain_cells(each) for each in report.gains])
    legend = LEGEND.format(rows=report.rows, folds=f"{report.folds} folds", other=report.other_rows or "no")
    return f"# {report.title}\n\n{figures}\n\n{gains}\n\n{textwrap.fill(legend, WIDTH)}\n"


def _cells(each: Figures) -> list[str]:
    interval = f"{each.macro_f1:.3f} ({each.macro_f1_low:.3f}{ABSENT}{each.macro_f1_high:.3f})"
    others = (each.other_roc_auc, each.other_f1, each.other_best_f1)
    own = (each.f1, each.roc_auc, each.distorted_f1, each.misspelled_f1)
    return [each.name, interval, *map(figure, (*own, *others))]


def _gain_cells(each: Gain) -> list[str]:
    return [
        each.over,
        f"{each.macro_f1:+.3f} ({each.macro_f1_low:+.3f} to {each.macro_f1_high:+.3f})",
        f"{each.f1:+.3f} ({each.f1_low:+.3f} to {each.f1_high:+.3f})",
    ]
