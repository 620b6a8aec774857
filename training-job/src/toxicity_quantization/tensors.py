"""Reads the tensors of a checkpoint's safetensors files without torch and without the library that wrote them.

The format: eight bytes with the length of a JSON header, the header, the data
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NUMPY_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?",
}  # fmt: skip
CHUNK = 1 << 24
"""Elements read at once if a whole tensor is not needed: 64 MiB in fp32."""


@dataclass(frozen=True)
class StoredTensor:
    """The location of a tensor: its data begins at byte `offset` of `file`. `dtype` is a safetensors name."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int

    @property
    def is_float(self) -> bool:
        """Whether its values can be infinite or NaN."""
        return "F" in self.dtype


def read_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder's safetensors files by name; reads headers only."""
    return {
        name: tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in _read_header(file).items()
    }


def _read_header(file: Path) -> dict[str, StoredTensor]:
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = StoredTensor(file, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin)
    return tensors


def read_values(tensor: StoredTensor) -> Array:
    """The tensor's values: integers as stored, floats as fp32 or wider."""
    return _read(tensor, 0, prod(tensor.shape)).reshape(tensor.shape)


def chunks(tensor: StoredTensor) -> Iterator[Array]:
    """The tensor's values in flat pieces of at most CHUNK."""
    elements = prod(tensor.shape)
    for start in range(0, elements, CHUNK):
        yield _read(tensor, start, min(CHUNK, elements - start))


def _read(tensor: StoredTensor, start: int, count: int) -> Array:
    kind = np.dtype(NUMPY_TYPES[tensor.dtype])
    values: Array = np.fromfile(tensor.file, kind, count, offset=tensor.offset + start * kind.itemsize)
    if tensor.dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32) if tensor.dtype == "F16" else values


def first_not_finite(tensors: Mapping[str, StoredTensor]) -> str | None:
    """The name of a tensor with an infinite value or NaN; None if all values are finite."""
    for name, tensor in tensors.items():
        if tensor.is_float and not all(bool(np.isfinite(part).all()) for part in chunks(tensor)):
            return name
    return None


def first_dead(tensors: Mapping[str, StoredTensor]) -> str | None:
    """The name of a matrix that is all zeros; None if there is none."""
    for name, tensor in tensors.items():
        if len(tensor.shape) == 2 and not any(bool(part.any()) for part in chunks(tensor)):
            return name
    return None
