"""Reads labelled comments from a CSV file; an error names the field of the spec, the row and the remedy."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from toxicity_stage.errors import DatasetError, listed
from toxicity_training.dataset import Example

FIELD_LIMIT = 10_000_000
"""The longest field in characters; a longer one means an unclosed quote."""

SHOWN = 40
"""Characters of a value that a message quotes: any cell of the file may hold a whole comment."""

_GZIP_MAGIC = b"\x1f\x8b"


def shown(value: str) -> str:
    """`value` in quotes for a message, cut to SHOWN characters."""
    words = repr(value[: SHOWN + 1])
    return words if len(words) <= SHOWN + 2 else f"{words[: SHOWN + 1]}…{words[0]}"


def read_dataset(path: Path, text_column: str, label_column: str) -> list[Example]:
    """Reads all rows of a CSV file (plain or gzip, UTF-8, with a header row), in order.

    Raises DatasetError for the first invalid row; rows are counted from 1, without the header.
    """
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    csv.field_size_limit(FIELD_LIMIT)
    rows = _records(reader)
    _, header = next(rows, (0, None))
    if header is None:
        raise DatasetError("EmptyFile", f"dataset: {path.name} is empty; provide a CSV file with a header row")
    text_index = _column(header, text_column, "dataset.textColumn", path)
    label_index = _column(header, label_column, "dataset.labelColumn", path)
    if text_index == label_index:
        raise DatasetError(
            "SameColumn",
            f"dataset.textColumn and dataset.labelColumn both name {shown(text_column)}; name two columns",
        )
    numbered = [(number, _fields(row, number, len(header))) for number, row in rows]
    if not numbered:
        raise DatasetError("NoRows", f"dataset: {path.name} has a header and no rows; add labelled comments")
    _refuse_empty(numbered, text_index, text_column)
    return [
        Example(row[text_index], _parse_label(row[label_index], number, label_column)) for number, row in numbered
    ]


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError("FileUnreadable", f"dataset: cannot read {path}: {error.strerror}") from error
    if raw.startswith(_GZIP_MAGIC):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(
                "CorruptGzip", f"dataset: {path.name} is a broken gzip file ({error}); compress it again"
            ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            "WrongEncoding",
            f"dataset: {path.name} is not UTF-8 (byte 0x{raw[error.start]:02x} in line {line}); save it as UTF-8",
        ) from error


def _records(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """(row number, fields) of each row; the header is row 0, blank lines are skipped and not counted."""
    number = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DatasetError(
                "InvalidCsv", f"dataset: {_place(number)} is not valid CSV ({error}); quote fields as in RFC 4180"
            ) from error
        if row:
            yield number, row
            number += 1


def _place(number: int) -> str:
    return f"row {number}" if number else "the header"


def _column(header: Sequence[str], name: str, field: str, path: Path) -> int:
    if header.count(name) > 1:
        raise DatasetError(
            "AmbiguousColumn", f"{field}: column {shown(name)} occurs twice in {path.name}; rename one"
        )
    if name not in header:
        raise DatasetError(
            "MissingColumn",
            f"{field}: no column {shown(name)} in {path.name}, which has {listed([*map(shown, header)])};"
            f" set {field} to one of them",
        )
    return header.index(name)


def _fields(row: list[str], number: int, expected: int) -> list[str]:
    if len(row) != expected:
        raise DatasetError(
            "InvalidCsv",
            f"dataset: row {number} has {len(row)} fields where the header has {expected};"
            " quote texts that contain commas",
        )
    return row


def _refuse_empty(numbered: Iterable[tuple[int, list[str]]], index: int, column: str) -> None:
    empty = [number for number, row in numbered if not row[index].strip()]
    if empty:
        raise DatasetError(
            "EmptyText",
            f"dataset.textColumn: {len(empty)} empty texts in column {shown(column)}, the first in row {empty[0]};"
            " remove these rows",
        )


def _parse_label(value: str, number: int, column: str) -> bool:
    try:
        parsed = float(value)
    except ValueError:
        parsed = float("nan")
    if parsed not in (0.0, 1.0):
        raise DatasetError(
            "InvalidLabel",
            f"dataset.labelColumn: {shown(value)} in column {shown(column)}, row {number}, is not a label;"
            " use 1 (toxic) or 0 (not toxic)",
        )
    return parsed == 1.0
