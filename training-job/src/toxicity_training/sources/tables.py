"""Rows of a file: CSV with any usual delimiter, JSON lines, a JSON array or Parquet, plain or gzip.

The content decides the format, since a file from a hub or a ConfigMap can have any name. Errors name the file, the row
and the remedy.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toxicity_stage.delimited import Rows, decoded, parse_delimited
from toxicity_stage.errors import DatasetError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Suffixes of data files, which .gz can follow. A .json file beside data is often a description of it."""

SUPPORTED = "a CSV, TSV, JSON lines or Parquet file, plain or gzip"

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_OTHERS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"ARROW1": "an Arrow file",
    b"Obj\x01": "an Avro file",
    b"%PDF": "a PDF file",
}
_JSON = re.compile(r"\s*(?:\{\s*[\"}]|\[\s*[{\]])")


@dataclass(frozen=True)
class Table:
    """The columns of a file, and its rows with their numbers, which begin with 1 after the header."""

    columns: Sequence[str]
    rows: Rows


def read_table(path: Path, wanted: Sequence[str]) -> Table:
    """Read all rows. The `wanted` columns decide the delimiter of a CSV file. Raises DatasetError."""
    raw = _content(path)
    if raw.startswith(_PARQUET):
        return _parquet(raw, path.name)
    for magic, kind in _OTHERS.items():
        if raw.startswith(magic):
            raise DatasetError(
                "UnsupportedFormat",
                f"dataset: {path.name} is {kind}; provide {SUPPORTED} (in Excel, save the sheet as CSV UTF-8)",
            )
    text = decoded(raw, path.name)
    if _JSON.match(text):
        return _json(text, path.name)
    return Table(*parse_delimited(text, path.name, wanted))


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(
            "FileUnreadable", f"dataset: cannot read {path}: {error.strerror}; correct the source of the data set"
        ) from error
    if not raw.startswith(_GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(
            "CorruptGzip", f"dataset: {path.name} is a broken gzip file ({error}); compress it again"
        ) from error


def _json(text: str, name: str) -> Table:
    """Objects, one a line or in one array. A field that an object lacks is None."""
    records = _records(text, name)
    columns = list(dict.fromkeys(key for record in records for key in record))
    return Table(columns, [(n, [r.get(key) for key in columns]) for n, r in enumerate(records, start=1)])


def _records(text: str, name: str) -> list[dict[str, object]]:
    # not splitlines: a text may contain other line ends, such as U+2028, unescaped
    lines = [text] if text.lstrip().startswith("[") else [line for line in text.split("\n") if line.strip()]
    records: list[object] = []
    for number, line in enumerate(lines, start=1):
        try:
            parsed = json.loads(line)
        except ValueError as error:
            place = name if line is text else f"row {number} of {name}"
            raise DatasetError(
                "InvalidJson", f"dataset: {place} is not valid JSON ({error}); write one object per line"
            ) from error
        records += parsed if isinstance(parsed, list) else [parsed]
    found = [record for record in records if isinstance(record, dict)]
    if len(found) < len(records):
        number = next(n for n, record in enumerate(records, start=1) if not isinstance(record, dict))
        raise DatasetError(
            "InvalidJson", f"dataset: row {number} of {name} is not a JSON object; write one object per line"
        )
    return found


def _parquet(raw: bytes, name: str) -> Table:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DatasetError(
            "UnsupportedFormat",
            f"dataset: {name} is a Parquet file, which this image cannot read; provide a CSV, TSV or JSON lines file",
        ) from error
    try:
        table = parquet.read_table(io.BytesIO(raw))
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            "CorruptParquet", f"dataset: {name} is a broken Parquet file ({error}); write it again"
        ) from error
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return Table(table.column_names, [(number, row) for number, row in enumerate(rows, start=1)])
