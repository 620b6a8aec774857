"""The rows of a CSV, JSON lines or Parquet file, plain or gzip, one after another.

Memory does not depend on the size of the file. The content decides the format, as for data sets.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from toxicity_api.normal_form.form import is_blank
from toxicity_score.errors import InvalidRunError
from toxicity_stage.delimited import decoded, find_column, parse_delimited
from toxicity_stage.errors import DatasetError

Format = Literal["csv", "jsonl", "parquet"]

HEAD_BYTES = 1 << 20
"""How much of the file decides its encoding and delimiter."""

PARQUET_ROWS = 1000
"""Rows of a Parquet file that are in memory at a time."""

_UNREADABLE = (OSError, EOFError, zlib.error)
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"


@dataclass(frozen=True)
class Columns:
    """The columns to read; without `id`, the number of a row is its id."""

    text: str
    id: str | None = None


@dataclass(frozen=True)
class Row:
    """One row. `number` begins with 1 after the header; `problem` says why the text cannot be scored."""

    number: int
    id: str
    text: str
    problem: str = ""


@contextmanager
def open_rows(path: Path, name: str, columns: Columns) -> Iterator[tuple[Format, Iterator[Row]]]:
    """Open a file and yield its format and its rows. `name` stands for it in messages.

    Raises InvalidRunError, also from the rows.
    """
    with path.open("rb") as file:
        start = file.read(len(_PARQUET))
        file.seek(0)
        if start == _PARQUET:
            yield "parquet", _reported(_parquet(file, name, columns))
            return
        content = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if start.startswith(_GZIP) else file
        try:
            rest = _as_text(content, name)
            head = rest.read(HEAD_BYTES) + rest.readline()
        except _UNREADABLE as error:
            raise InvalidRunError(f"--input: {name} cannot be read ({error}); write it again") from error
        if head.lstrip().startswith("["):
            raise InvalidRunError(f"--input: {name} is a JSON array; write one object per line")
        if head.lstrip().startswith("{"):
            yield "jsonl", _reported(_json_lines(head, rest, name, columns))
        else:
            yield "csv", _reported(_delimited(head, rest, name, columns))


def _as_text(content: IO[bytes], name: str) -> IO[str]:
    """The text of a file. Broken bytes behind its beginning become surrogates, which `_row` reports."""
    head = content.read(HEAD_BYTES)
    content.seek(0)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return io.TextIOWrapper(content, "utf-16", errors="replace", newline="")
    try:
        decoded(head[: head.rfind(b"\n") + 1] if len(head) == HEAD_BYTES else head, name)
    except DatasetError as error:
        raise _as_input(error) from error
    return io.TextIOWrapper(content, "utf-8-sig", errors="surrogateescape", newline="")


def _as_input(error: DatasetError) -> InvalidRunError:
    return InvalidRunError(f"--input: {str(error).removeprefix('dataset: ')}")


def _reported(rows: Iterator[Row]) -> Iterator[Row]:
    """Translate the errors of reading. They name the row."""
    try:
        yield from rows
    except DatasetError as error:
        message = str(error)
        if message.startswith("--"):  # of a column, which names its option
            raise InvalidRunError(message) from error
        raise _as_input(error) from error
    except _UNREADABLE as error:
        raise InvalidRunError(f"--input: the file cannot be read to its end ({error})") from error


def _row(number: int, identity: object, text: object) -> Row:
    name = str(number) if identity is None else _encodable(str(identity))
    if text is None:
        return Row(number, name, "", "the text is missing")
    if not isinstance(text, str):
        return Row(number, name, _encodable(str(text)), f"the text is a {type(text).__name__}; write it as text")
    if any("\ud800" <= character <= "\udfff" for character in text):
        return Row(number, name, _encodable(text), "the text has bytes that are not UTF-8, or half a character")
    if is_blank(text):
        return Row(number, name, text, "the text has no visible character")
    return Row(number, name, text)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _delimited(head: str, rest: IO[str], name: str, columns: Columns) -> Iterator[Row]:
    wanted = [column for column in (columns.text, columns.id) if column is not None]
    header, rows = parse_delimited(head, name, wanted, rest)
    text, identity = _positions(header, name, columns)
    for number, row in rows:
        yield _row(number, None if identity is None else row[identity], row[text])


def _positions(header: Sequence[str], name: str, columns: Columns) -> tuple[int, int | None]:
    text = find_column(header, columns.text, "--text-column", name)
    return text, None if columns.id is None else find_column(header, columns.id, "--id-column", name)


def _json_lines(head: str, rest: IO[str], name: str, columns: Columns) -> Iterator[Row]:
    """Objects, one a line. The first one must have the columns; in later ones they may be missing."""
    number = 0
    for part in (io.StringIO(head, newline="\n"), rest):
        for line in part:
            if not line.strip():
                continue
            number += 1
            try:
                record = json.loads(line)
            except ValueError as error:
                record = error
            if number == 1 and isinstance(record, dict):
                _positions(list(record), name, columns)
            yield _json_row(number, record, columns)


def _json_row(number: int, record: object, columns: Columns) -> Row:
    if not isinstance(record, dict):
        reason = f" ({record})" if isinstance(record, ValueError) else ""
        return Row(number, str(number), "", f"the row is not a JSON object{reason}")
    return _row(number, record.get(columns.id) if columns.id else None, record.get(columns.text))


def _parquet(file: IO[bytes], name: str, columns: Columns) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        header = table.schema_arrow.names
        text, identity = _positions(header, name, columns)
        wanted = [header[text], *([] if identity is None else [header[identity]])]
        number = 0
        for batch in table.iter_batches(PARQUET_ROWS, columns=wanted):
            values = [batch.column(column).to_pylist() for column in wanted]
            for row in zip(*values, strict=True):
                number += 1
                yield _row(number, row[1] if len(row) > 1 else None, row[0])
    except pa.ArrowException as error:
        raise InvalidRunError(f"--input: {name} is a broken Parquet file ({error}); write it again") from error
