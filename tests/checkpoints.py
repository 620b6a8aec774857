"""Checkpoints without torch: safetensors files of numpy arrays, and 4-bit layers packed as compressed-tensors does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NAMES = {"float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "uint16": "BF16"}
"""numpy has no bf16: its upper halves of fp32 numbers are held as uint16."""


def bf16(values: Array) -> Array:
    """fp32 numbers cut to bf16."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """A file of the tensors; uint16 stands for bf16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in tensors.items():
        part = array.tobytes()
        offsets = [len(data), len(data) + len(part)]
        header[name] = {"dtype": NAMES[str(array.dtype)], "shape": list(array.shape), "data_offsets": offsets}
        data += part
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def pack(numbers: Array) -> Array:
    """Rows of numbers from 0 to 15 as int32 words, the first of eight in the lowest bits."""
    rows, columns = numbers.shape
    padded = np.zeros((rows, -(-columns // 8) * 8), dtype=np.uint32)
    padded[:, :columns] = numbers
    words = sum(padded[:, place::8] << np.uint32(4 * place) for place in range(8))
    return np.asarray(words, dtype=np.uint32).view(np.int32)


def quantized(name: str, weights: Array, group: int) -> dict[str, Array]:
    """The tensors of a layer rounded to 4 bit, asymmetric, in groups along its rows."""
    rows, columns = weights.shape
    groups = weights.reshape(rows, -1, group)
    low, high = np.minimum(groups.min(2), 0), np.maximum(groups.max(2), 0)
    scale = ((high - low) / 15).astype(np.float32)
    zeros = np.round(-low / scale)
    numbers = np.clip(np.round(groups / scale[:, :, None]) + zeros[:, :, None], 0, 15)
    return {
        f"{name}.weight_packed": pack(numbers.reshape(rows, columns)),
        f"{name}.weight_scale": scale,
        f"{name}.weight_zero_point": np.ascontiguousarray(pack(zeros.T).T),
        f"{name}.weight_shape": np.array([rows, columns]),
    }
