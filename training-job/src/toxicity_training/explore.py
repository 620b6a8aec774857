"""Explores a data set without training: `python -m toxicity_training.explore --dataset FILE --base-model DIR`.

It writes what a training stage writes to `eda/`, and prints the percentiles of the lengths as a Markdown table. The
texts that the normal form changes are in CHANGED_FILE.
"""

from __future__ import annotations

import argparse
import csv
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toxicity_api.normal_form import NORMAL_FORM_VERSION
from toxicity_api.normal_form.form import normalise_text
from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_api.spec import PromptFormat, TrainingSpec
from toxicity_stage.errors import InputError, detail_of
from toxicity_training.dataset import Example
from toxicity_training.eda import Eda, LengthFigures
from toxicity_training.evaluation.tables import markdown_table
from toxicity_training.prompts import prompt_lengths
from toxicity_training.refusals import refuse_empty, unreadable
from toxicity_training.sources.files import read_dataset

CHANGED_FILE = "normal_form.csv"
HEADER = ("length in", "rows", "min", "mean", "p25", "p50", "p75", "p85", "p95", "p98", "p99", "max")


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or EXIT_INVALID_INPUT with a message if the data set or the base model cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        eda = explore_file(
            options.dataset, options.text_column, options.label_column, options.base_model, options.output
        )
    except InputError as error:
        print(f"explore: {error}", file=sys.stderr)
        return EXIT_INVALID_INPUT
    print(f"{eda.rows} rows, {eda.toxic} toxic ({eda.toxic_share:.1%})\n\n{render_lengths(eda)}\n")
    print(f"texts that the normal form changes: {options.output / CHANGED_FILE}", flush=True)
    return 0


def explore_file(dataset: Path, text_column: str, label_column: str, base_model: Path, output: Path) -> Eda:
    """Writes eda.json, plots and CHANGED_FILE to `output`. Token lengths are those of prompts of the default template.

    Raises DatasetError or ModelError.
    """
    from toxicity_training.report import write_eda

    rows = read_dataset(dataset, text_column, label_column)
    form = PromptFormat(TrainingSpec().prompt_template, NORMAL_FORM_VERSION)
    eda = write_eda(rows, prompt_lengths(load_tokenizer(base_model), form, [row.text for row in rows]), output)
    write_changes(rows, output / CHANGED_FILE)
    return eda


def write_changes(rows: Sequence[Example], path: Path) -> None:
    """Writes row number, text and normal form of each text that the normal form changes beyond NFC and its ends."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "text", "form"])
        for number, row in enumerate(rows, start=1):
            form = normalise_text(row.text)
            if form != unicodedata.normalize("NFC", row.text).strip():
                writer.writerow([number, row.text, form])


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a Hugging Face folder. Raises ModelError if it has none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise unreadable(folder, f"cannot be loaded: {type(error).__name__}: {detail_of(error)}") from error
    refuse_empty(folder, tokenizer)
    return tokenizer


def render_lengths(eda: Eda) -> str:
    """The percentiles of the lengths in characters and in tokens, of all rows and by label."""
    rows = [
        _cells(f"{unit}, {label}", figures)
        for unit, lengths in (("characters", eda.characters), ("tokens", eda.tokens))
        for label, figures in (("all", lengths.all), ("toxic", lengths.toxic), ("not toxic", lengths.harmless))
        if figures is not None
    ]
    return markdown_table(HEADER, rows)


def _cells(name: str, figures: LengthFigures) -> list[str]:
    values = (
        figures.mean,
        figures.p25,
        figures.p50,
        figures.p75,
        figures.p85,
        figures.p95,
        figures.p98,
        figures.p99,
    )
    return [name, str(figures.rows), str(figures.min), *(f"{value:.0f}" for value in values), str(figures.max)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toxicity_training.explore", description="Counts labels and lengths of a data set, and plots them."
    )
    parser.add_argument(
        "--dataset", type=Path, required=True, help="CSV, TSV, JSON lines or Parquet file, plain or gzip"
    )
    parser.add_argument("--text-column", default="comment", help="column with the texts (default: %(default)s)")
    parser.add_argument("--label-column", default="toxic", help="column with 0 or 1 (default: %(default)s)")
    parser.add_argument(
        "--base-model", type=Path, required=True, help="folder of the model whose tokenizer counts"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for eda.json and the plots")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
