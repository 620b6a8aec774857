"""Reads event files of TensorBoard, whose own reader would bring its server and gRPC along."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

HEADER, CHECKSUM = struct.Struct("<QI"), struct.Struct("<I")


def read_curves(folder: Path) -> dict[str, dict[int, float]]:
    """The value of each step, by curve. Of two values of a step, the later one counts, as in TensorBoard."""
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in _records(path.read_bytes()):
            event = Event.FromString(record)
            for value in event.summary.value:
                curves[value.tag][event.step] = value.simple_value
    return dict(curves)


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file: length, checksum, data, checksum."""
    offset = 0
    while offset + HEADER.size <= len(content):
        length, _ = HEADER.unpack_from(content, offset)
        start, end = offset + HEADER.size, offset + HEADER.size + length
        if end + CHECKSUM.size > len(content):
            return  # it is being written
        yield content[start:end]
        offset = end + CHECKSUM.size
