"""Checkpoints without torch: safetensors files of numpy arrays, and 4-bit layers in both packed formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toxicity_quantization.packing import GEMM, Packing

Array = NDArray[Any]

NAMES = {"float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "uint16": "BF16"}
"""numpy has no bf16; the upper halves of fp32 numbers are stored as uint16."""


def bf16(values: Array) -> Array:
    """fp32 numbers truncated to bf16."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Writes a safetensors file; uint16 stands for bf16."""
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


AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight numbers each four bits of AutoAWQ's words hold, from the lowest on (its packing_utils.AWQ_ORDER)."""


def pack(numbers: Array, order: Sequence[int] = range(8)) -> Array:
    """Rows of numbers from 0 to 15 as int32 words; place i, counted from the lowest bits, holds number `order[i]`."""
    rows, columns = numbers.shape
    padded = np.zeros((rows, -(-columns // 8) * 8), dtype=np.uint32)
    padded[:, :columns] = numbers
    words = sum(padded[:, number::8] << np.uint32(4 * place) for place, number in enumerate(order))
    return np.asarray(words, dtype=np.uint32).view(np.int32)


def round_to_4_bit(weights: Array, group: int) -> tuple[Array, Array, Array]:
    """(numbers rows x columns, scales rows x groups, zero points rows x groups), asymmetric, in groups along rows."""
    rows, columns = weights.shape
    groups = weights.reshape(rows, -1, group)
    low, high = np.minimum(groups.min(2), 0), np.maximum(groups.max(2), 0)
    scale = ((high - low) / 15).astype(np.float32)
    zeros = np.round(-low / scale)
    numbers = np.clip(np.round(groups / scale[:, :, None]) + zeros[:, :, None], 0, 15)
    return numbers.reshape(rows, columns), scale, zeros


def quantized(packing: Packing, name: str, weights: Array, group: int) -> dict[str, Array]:
    """The tensors of a layer quantized to 4 bit."""
    numbers, scale, zeros = round_to_4_bit(weights, group)
    if packing is GEMM:
        return {
            f"{name}.qweight": pack(numbers.T, AWQ_ORDER),
            f"{name}.scales": np.ascontiguousarray(scale.T),
            f"{name}.qzeros": pack(zeros.T, AWQ_ORDER),
        }
    return {
        f"{name}.weight_packed": pack(numbers),
        f"{name}.weight_scale": scale,
        f"{name}.weight_zero_point": np.ascontiguousarray(pack(zeros.T).T),
        f"{name}.weight_shape": np.array(weights.shape),
    }
