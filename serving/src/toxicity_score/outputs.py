"""Where the parts are written: a folder or a prefix of a bucket. A part is complete or absent, also after a kill."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

from toxicity_score.errors import InvalidRunError, ScoreError
from toxicity_score.objects import OBJECT_SCHEMES, ObjectOptions, open_prefix
from toxicity_score.parts import Part, Scored
from toxicity_score.rows import Format
from toxicity_store.client import Client
from toxicity_store.errors import StoreError

COLUMNS = ("id", "text", "score", "label", "error")
JOURNAL, SUMMARY = "journal.json", "summary.json"
_PART = re.compile(r"part-(\d{6,})\.(csv|jsonl|parquet)")


class Output(Protocol):
    """A place for files. Every method raises ScoreError."""

    def names(self) -> set[str]:
        """The names of the complete files."""

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None if there is none."""

    def publish(self, path: Path, name: str) -> None:
        """Put a local file there. It appears when it is complete."""


class Folder:
    """A folder of a volume."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRunError(f"--output: cannot create {path}: {error.strerror}") from error

    def names(self) -> set[str]:
        return {path.name for path in self._path.iterdir()}

    def read(self, name: str) -> bytes | None:
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    def publish(self, path: Path, name: str) -> None:
        temporary = self._path / f".{name}.tmp"
        try:
            with path.open("rb") as source, temporary.open("wb") as file:
                while chunk := source.read(1 << 20):
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._path / name)
            folder = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise ScoreError(f"--output: cannot write {self._path / name}: {error.strerror}") from error


class Bucket:
    """A prefix of a bucket."""

    def __init__(self, location: str, options: ObjectOptions) -> None:
        prefix, _, name = location.rstrip("/").rpartition("/")
        if "://" not in prefix or prefix.endswith("/"):
            raise InvalidRunError(f"--output: {location} has no prefix; use SCHEME://BUCKET/PREFIX")
        self._name = name
        self._location = location
        self._options = options
        self._client: Client = open_prefix(prefix, "--output", options)

    def names(self) -> set[str]:
        try:
            return {key.rpartition("/")[2] for key in self._client.list_keys(self._name)}
        except StoreError as error:
            raise self._options.translated(error, "--output", self._location) from error

    def read(self, name: str) -> bytes | None:
        try:
            return self._client.read(f"{self._name}/{name}")
        except StoreError as error:
            raise self._options.translated(error, "--output", self._location) from error

    def publish(self, path: Path, name: str) -> None:
        try:
            with path.open("rb") as file:
                self._client.write(f"{self._name}/{name}", file, path.stat().st_size)
        except StoreError as error:
            raise self._options.translated(error, "--output", self._location) from error


def open_output(location: str, options: ObjectOptions) -> Output:
    """Open the output, and create its folder. Raises ScoreError."""
    if urlsplit(location).scheme in OBJECT_SCHEMES:
        return Bucket(location, options)
    return Folder(Path(location))


def part_name(number: int, kind: Format) -> str:
    """The name of a part's file."""
    return f"part-{number:06d}.{kind}"


def part_numbers(names: set[str]) -> set[int]:
    """The numbers of the parts that are complete."""
    return {int(found[1]) for name in names if (found := _PART.fullmatch(name))}


def write_part(part: Part, answers: Sequence[Scored], kind: Format, path: Path) -> None:
    """Write the rows of a part to a local file, in order. Raises ScoreError."""
    assert [scored.row for scored in answers] == list(part.rows)
    records = [
        (row.row.id, row.row.text, row.score, None if row.toxic is None else int(row.toxic), row.error)
        for row in answers
    ]
    try:
        if kind == "parquet":
            _write_parquet(records, path)
            return
        with path.open("w", encoding="utf-8", newline="") as file:
            (_write_csv if kind == "csv" else _write_json_lines)(records, file)
    except OSError as error:
        raise ScoreError(f"--scratch: cannot write {path}: {error.strerror}") from error


Records = Sequence[tuple[str, str, float | None, int | None, str]]


def _write_csv(records: Records, file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(records)


def _write_json_lines(records: Records, file: IO[str]) -> None:
    for record in records:
        print(json.dumps(dict(zip(COLUMNS, record, strict=True)), ensure_ascii=False), file=file)


def _write_parquet(records: Records, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = (pa.string(), pa.string(), pa.float64(), pa.int8(), pa.string())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    columns = [list(values) for values in zip(*records, strict=True)]
    parquet.write_table(pa.table(columns, schema=schema), path)
