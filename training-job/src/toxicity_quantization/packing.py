"""The two packed formats of 4-bit layers: compressed-tensors' `pack-quantized` and AutoAWQ's `gemm`.

Both store eight 4-bit numbers in each int32, and a scale and a zero point for each group of numbers of a row; weight =
(number - zero point) * scale. They differ in tensor names, in the direction of packing and in the order within a word:

- `pack-quantized`: `weight_packed` (rows x columns/8) and `weight_scale` (rows x groups), `weight_zero_point`
  (rows/8 x groups); numbers run along the row, zero points along the column, the first in the lowest bits
  (https://github.com/vllm-project/compressed-tensors, compressors/pack_quantized);
- `gemm`: `qweight` (columns x rows/8), `scales` (groups x rows), `qzeros` (groups x rows/8); both run across the rows,
  in the order 0, 2, 4, 6, 1, 3, 5, 7 from the lowest bits on (AutoAWQ, awq/utils/packing_utils.py).

Rows are a layer's outputs and columns its inputs, as in torch's Linear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from toxicity_quantization.tensors import Array, StoredTensor, read_values

BITS = 4
PER_WORD = 32 // BITS


@dataclass(frozen=True)
class Packing:
    """A packed format: the suffixes of its tensor names, and the position of each number in a word."""

    method: str
    numbers: str
    scale: str
    zero_point: str
    places: tuple[int, ...]
    """`places[i]`: how many numbers of the word are in lower bits than the i-th one."""
    turned: bool
    """Whether tensors are stored columns x rows."""

    def layers(self, tensors: Mapping[str, StoredTensor]) -> list[str]:
        """The names of the quantized layers."""
        return [name.removesuffix(self.numbers) for name in tensors if name.endswith(self.numbers)]

    def names(self, layer: str) -> tuple[str, str, str]:
        """The names of the tensors of `layer`: numbers, scales, zero points."""
        return layer + self.numbers, layer + self.scale, layer + self.zero_point


COMPRESSED_TENSORS = Packing(
    "compressed-tensors", ".weight_packed", ".weight_scale", ".weight_zero_point", tuple(range(PER_WORD)), False
)
GEMM = Packing("awq", ".qweight", ".scales", ".qzeros", (0, 4, 1, 5, 2, 6, 3, 7), True)
PACKINGS = {packing.method: packing for packing in (COMPRESSED_TENSORS, GEMM)}
"""By quant_method of config.json's quantization_config."""


def packing_of(config: Mapping[str, Any]) -> Packing | None:
    """The format that a config.json names; None if it names none or another one."""
    return PACKINGS.get((config.get("quantization_config") or {}).get("quant_method", ""))


def stated_sizes(config: Mapping[str, Any]) -> set[tuple[Any, Any]]:
    """(bits, group size) of each group of layers in a config.json with a quantization_config."""
    quantization = config["quantization_config"]
    if packing_of(config) is GEMM:
        return {(quantization.get("bits"), quantization.get("group_size"))}
    groups = [group.get("weights") or {} for group in quantization.get("config_groups", {}).values()]
    return {(group.get("num_bits"), group.get("group_size")) for group in groups}


def stated_kept(config: Mapping[str, Any]) -> set[str]:
    """The layers that a config.json with a quantization_config lists as not quantized."""
    quantization = config["quantization_config"]
    listed = quantization.get("modules_to_not_convert" if packing_of(config) is GEMM else "ignore") or []
    return {name for name in listed if not name.startswith("re:")}


def restore(packing: Packing, layer: str, tensors: Mapping[str, StoredTensor]) -> Array:
    """The weights of a quantized layer, rows x columns, in fp32."""
    return dequantize(packing, *(read_values(tensors[name]) for name in packing.names(layer)))


def dequantize(packing: Packing, numbers: Array, scale: Array, zero_point: Array) -> Array:
    """The weights of a layer, rows x columns, in fp32, from its three stored tensors."""
    if packing.turned:
        numbers, zeros, scale = unpack(numbers, packing.places).T, unpack(zero_point, packing.places).T, scale.T
    else:
        numbers, zeros = unpack(numbers, packing.places), unpack(zero_point.T, packing.places).T[: len(scale)]
    group = numbers.shape[1] // scale.shape[1]
    differences = numbers.astype(np.float32) - np.repeat(zeros, group, axis=1)
    weights: Array = differences * np.repeat(scale, group, axis=1)
    return weights


def unpack(words: Array, places: tuple[int, ...]) -> Array:
    """Numbers from 0 to 15, eight for each int32 along a row: (rows, 8 x words)."""
    shifts = np.array(places, dtype=np.uint32) * np.uint32(BITS)
    numbers = (np.ascontiguousarray(words).view(np.uint32)[:, :, None] >> shifts) & np.uint32(2**BITS - 1)
    unpacked: Array = numbers.astype(np.int8).reshape(len(words), -1)
    return unpacked
