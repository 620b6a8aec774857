"""Keeps the records of the windows on disk, so that the memory of a run does not grow with its requests.

The file is in the folder for temporary files, in a pod the volume of /tmp. It has no name, so nothing is left of it
when the process ends, however it ends. A record takes 39 bytes.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from toxicity_loadtest.records import Outcome, Record

if TYPE_CHECKING:
    Rows = np.ndarray[tuple[int], np.dtype[np.void]]
    Column = np.ndarray[tuple[int], np.dtype[Any]]

OUTCOMES = tuple(Outcome)
CODES = {outcome: code for code, outcome in enumerate(OUTCOMES)}
OK = CODES[Outcome.OK]

ROW = np.dtype(
    [
        ("slot", np.int32),
        ("scheduled_start", np.float64),
        ("intended_start", np.float64),
        ("start", np.float64),
        ("end", np.float64),
        ("outcome", np.uint8),
        ("status_code", np.int16),
    ]
)

NEW_RECORDS = 1000
"""Records in memory before they are written, which takes about a millisecond."""

READ_ROWS = 100_000
"""Rows that are read at a time: 4 MB."""


class SpillFile:
    """The rows of all windows of a process, in the order in which they were written."""

    def __init__(self) -> None:
        """Create the file. Raises OSError if the folder for temporary files cannot be written."""
        self._file, path = tempfile.mkstemp(prefix="records-")
        os.unlink(path)
        weakref.finalize(self, os.close, self._file)  # the figures of a window are needed after its generator
        self._rows = 0

    def append(self, rows: Rows) -> int:
        """Write rows and return the number of the first one. Raises OSError if the disk is full."""
        data, offset = memoryview(rows.tobytes()), self._rows * ROW.itemsize
        while data:  # a write that reaches the end of the disk can be short
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written
        first, self._rows = self._rows, self._rows + len(rows)
        return first

    def read(self, first: int, count: int) -> Rows:
        """Read rows that were written."""
        data = os.pread(self._file, count * ROW.itemsize, first * ROW.itemsize)
        return np.frombuffer(data, dtype=ROW)


class Records(Sequence[Record]):
    """The records of one window in the order in which they were added, of which only the newest are in memory."""

    def __init__(self, file: SpillFile) -> None:
        self._file = file
        self._new: list[Record] = []
        self._spans: list[tuple[int, int]] = []
        self._written = 0

    def append(self, record: Record) -> None:
        self._new.append(record)
        if len(self._new) >= NEW_RECORDS:
            self.spill()

    def extend(self, records: Iterable[Record]) -> None:
        for record in records:
            self.append(record)

    def take(self, others: Sequence[Records]) -> None:
        """Add the records of others in the order of their slots."""
        self.spill()
        rows, filled = np.empty(sum(map(len, others)), dtype=ROW), 0
        for part in (part for other in others for part in other.chunks()):
            rows[filled : filled + len(part)] = part
            filled += len(part)
        order = np.argsort(rows["slot"], kind="stable")
        for begin in range(0, len(rows), READ_ROWS):
            self._write(rows[order[begin : begin + READ_ROWS]])

    def spill(self) -> None:
        """Write the records that are in memory."""
        if self._new:
            self._write(_rows(self._new))
            self._new = []

    def _write(self, rows: Rows) -> None:
        first, count = self._file.append(rows), len(rows)
        self._written += count
        if self._spans and sum(self._spans[-1]) == first:
            first, count = self._spans[-1][0], self._spans.pop()[1] + count
        self._spans.append((first, count))

    def chunks(self) -> Iterator[Rows]:
        """The rows, READ_ROWS or fewer at a time."""
        for first, count in self._spans:
            for begin in range(first, first + count, READ_ROWS):
                yield self._file.read(begin, min(READ_ROWS, first + count - begin))
        if self._new:
            yield _rows(self._new)

    def __len__(self) -> int:
        return self._written + len(self._new)

    def __iter__(self) -> Iterator[Record]:
        for rows in self.chunks():
            for slot, scheduled_start, intended_start, start, end, outcome, status_code in rows.tolist():
                yield Record(slot, scheduled_start, intended_start, start, end, OUTCOMES[outcome], status_code)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return list(self)[index]


def chunks(records: Sequence[Record]) -> Iterator[Rows]:
    """The rows of records that are on disk or in memory, in parts."""
    return records.chunks() if isinstance(records, Records) else iter([_rows(records)] if records else [])


def column(records: Sequence[Record], name: str) -> Column:
    """One field of all records: float64 seconds for times, the index in OUTCOMES for `outcome`."""
    found, begin = np.empty(len(records), dtype=ROW[name]), 0
    for rows in chunks(records):
        found[begin : begin + len(rows)] = rows[name]
        begin += len(rows)
    return found


def succeeded(records: Sequence[Record]) -> Column:
    """Whether each request succeeded, as booleans."""
    good: Column = column(records, "outcome") == OK
    return good


def _rows(records: Sequence[Record]) -> Rows:
    return np.array([(*record[:5], CODES[record.outcome], record.status_code) for record in records], dtype=ROW)
