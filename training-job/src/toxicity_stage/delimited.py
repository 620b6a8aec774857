"""Rows of CSV text with any usual delimiter, in UTF-8 or UTF-16, and the columns that a user names."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from toxicity_api.normal_form.characters import clean_characters
from toxicity_stage.errors import DatasetError, listed

SHOWN = 40
"""Characters of a value that a message quotes: any cell of the file may hold a whole comment."""

FIELD_LIMIT = 10_000_000
"""The longest field in characters; a longer one means an unclosed quote."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}

Rows = Iterable[tuple[int, Sequence[object]]]
"""Numbers and values of rows; the first row after the header is 1."""

_DECLARED = re.compile(r"sep=(.)\r?\n")
"""The first line with which Excel is told the delimiter."""


def shown(value: str) -> str:
    """`value` in quotes for a message, cut to SHOWN characters."""
    words = repr(value[: SHOWN + 1])
    return words if len(words) <= SHOWN + 2 else f"{words[: SHOWN + 1]}…{words[0]}"


def find_column(header: Sequence[str], name: str, field: str, file: str) -> int:
    """The index of a column. Names are compared without invisible characters, composed and stripped."""
    clean, wanted = [clean_characters(column) for column in header], clean_characters(name)
    if clean.count(wanted) > 1:
        raise DatasetError("AmbiguousColumn", f"{field}: column {shown(name)} occurs twice in {file}; rename one")
    if wanted not in clean:
        raise DatasetError(
            "MissingColumn",
            f"{field}: no column {shown(name)} in {file}, which has {listed([*map(shown, header)])};"
            f" set {field} to one of them",
        )
    return clean.index(wanted)


def decoded(raw: bytes, name: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark. Raises DatasetError."""
    if raw[1:4:2] == b"\0\0" or raw[0:3:2] == b"\0\0":
        raise DatasetError(
            "WrongEncoding", f"dataset: {name} is UTF-16 without a byte order mark; save it as UTF-8"
        )
    is_utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return raw.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        place = f"byte 0x{raw[error.start]:02x} in line {line}"
        if is_utf16:
            reason, remedy = f"broken UTF-16 ({place})", "save it as UTF-8"
        elif _is_windows_1251(raw):
            reason = f"not UTF-8 but probably Windows-1251 ({place})"
            remedy = f"in Excel, save it as CSV UTF-8; or run: iconv -f WINDOWS-1251 -t UTF-8 {name}"
        else:
            reason, remedy = f"not UTF-8 ({place})", "save it as UTF-8"
        raise DatasetError("WrongEncoding", f"dataset: {name} is {reason}; {remedy}") from error


def _is_windows_1251(raw: bytes) -> bool:
    """Whether most bytes beyond ASCII are lower-case Russian letters of this code page."""
    others = [byte for byte in raw[:100_000] if byte > 0x7F]
    return 2 * sum(byte >= 0xE0 for byte in others) > len(others)


def parse_delimited(
    text: str, name: str, wanted: Sequence[str], rest: Iterable[str] = ()
) -> tuple[list[str], Rows]:
    """The header and the rows; blank lines are skipped and not counted. Raises DatasetError, also from the rows.

    `text` is the file, or its first lines if `rest` has the others.

    The delimiter is the one with which the header has all `wanted` columns. Otherwise it is one with which header and
    first row have equally many fields. A guess from all of the text, as csv.Sniffer makes, would fail for comments,
    which contain every delimiter.
    """
    csv.field_size_limit(FIELD_LIMIT)
    declared = _DECLARED.match(text)
    text = text[declared.end() :] if declared else text
    delimiter = declared[1] if declared else _delimiter(text, wanted)
    rows = _numbered(chain(_lines(text), rest), delimiter, name)
    _, header = next(rows, (0, None))
    if header is None:
        raise DatasetError("EmptyFile", f"dataset: {name} is empty; provide a CSV file with a header row")
    return header, ((number, _whole(row, number, len(header), delimiter, name)) for number, row in rows)


def _delimiter(text: str, wanted: Sequence[str]) -> str:
    names = {clean_characters(name) for name in wanted}

    def fits(delimiter: str) -> tuple[bool, bool, int]:
        columns, *row = _first_rows(text, delimiter) or [[]]
        has_names = names <= {clean_characters(column) for column in columns}
        return has_names, all(len(fields) == len(columns) for fields in row), len(columns)

    return max(DELIMITERS, key=fits)


def _first_rows(text: str, delimiter: str) -> list[list[str]]:
    """The header and the first row; empty if they are no valid CSV with this delimiter."""
    rows = (row for row in csv.reader(_lines(text), delimiter=delimiter, strict=True) if row)
    try:
        return list(islice(rows, 2))
    except csv.Error:
        return []


def _lines(text: str) -> io.StringIO:
    return io.StringIO(text, newline="")


def _numbered(lines: Iterable[str], delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """(row number, fields) of each row; the header is row 0."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            place = f"row {number}" if number else "the header"
            raise DatasetError(
                "InvalidCsv",
                f"dataset: {place} of {name} is not valid CSV ({error}); quote fields as in RFC 4180",
            ) from error
        if row:
            yield number, row
            number += 1


def _whole(row: list[str], number: int, expected: int, delimiter: str, name: str) -> list[str]:
    if len(row) != expected:
        noun = DELIMITERS.get(delimiter, repr(delimiter))
        raise DatasetError(
            "InvalidCsv",
            f"dataset: row {number} of {name} has {len(row)} fields where the header has {expected};"
            f" quote texts that contain {noun}",
        )
    return row
