"""Reads labelled comments from a file; an error names the file, the field of the spec, the row and the remedy."""

from __future__ import annotations

from pathlib import Path

from toxicity_api.normal_form.form import is_blank
from toxicity_stage.delimited import find_column, shown
from toxicity_stage.errors import DatasetError
from toxicity_training.dataset import Example
from toxicity_training.sources.tables import read_table


def read_dataset(path: Path, text_column: str, label_column: str) -> list[Example]:
    """Reads all rows of a data set, in order. Texts keep the form in which they are written.

    Raises DatasetError for the first invalid row, and for texts without a visible character; rows are counted from 1,
    without the header.
    """
    examples = read_rows(path, text_column, label_column)
    empty = [number for number, example in enumerate(examples, start=1) if is_blank(example.text)]
    if empty:
        raise DatasetError(
            "EmptyText",
            f"dataset.textColumn: {len(empty)} texts in column {shown(text_column)} of {path.name} have no visible"
            f" character, the first in row {empty[0]}; remove these rows",
        )
    return examples


def read_rows(path: Path, text_column: str, label_column: str) -> list[Example]:
    """Reads all rows as `read_dataset` does, blank texts as well."""
    table = read_table(path, (text_column, label_column))
    text_index = find_column(table.columns, text_column, "dataset.textColumn", path.name)
    label_index = find_column(table.columns, label_column, "dataset.labelColumn", path.name)
    if text_index == label_index:
        raise DatasetError(
            "SameColumn",
            f"dataset.textColumn and dataset.labelColumn both name {shown(text_column)} of {path.name}; name two"
            " columns",
        )
    rows = list(table.rows)
    if not rows:
        raise DatasetError("NoRows", f"dataset: {path.name} has a header and no rows; add labelled comments")
    return [
        Example(
            _text(row[text_index], number, text_column, path.name),
            _label(row[label_index], number, label_column, path.name),
        )
        for number, row in rows
    ]


def _text(value: object, number: int, column: str, file: str) -> str:
    if value is None:
        return ""
    place = f"dataset.textColumn: row {number} of {file} has in column {shown(column)}"
    if not isinstance(value, str):
        raise DatasetError("InvalidText", f"{place} a {type(value).__name__}, not a text; write it as text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise DatasetError("InvalidText", f"{place} half a character (U+D800 to U+DFFF); remove it")
    return value


def _label(value: object, number: int, column: str, file: str) -> bool:
    try:
        # Excel writes a decimal comma in Russian
        parsed = float(value.replace(",", ".") if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        parsed = float("nan")
    if parsed not in (0.0, 1.0):
        raise DatasetError(
            "InvalidLabel",
            f"dataset.labelColumn: {shown(value if isinstance(value, str) else str(value))} in column"
            f" {shown(column)}, row {number} of {file}, is not a label; use 1 (toxic) or 0 (not toxic)",
        )
    return parsed == 1.0
