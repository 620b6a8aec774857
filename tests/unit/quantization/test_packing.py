"""4-bit layers and their config.json are read in both packed formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.training.checkpoints import AWQ_ORDER, pack, quantized, round_to_4_bit, write_safetensors
from toxicity_quantization.packing import (
    COMPRESSED_TENSORS,
    GEMM,
    Packing,
    dequantize,
    packing_of,
    restore,
    stated_kept,
    stated_sizes,
    unpack,
)
from toxicity_quantization.tensors import read_tensors

BOTH = [COMPRESSED_TENSORS, GEMM]


def test_numbers_are_unpacked_from_the_lowest_bits_on() -> None:
    words = np.array([[0x76543210, -1]], dtype=np.int32)
    assert unpack(words, COMPRESSED_TENSORS.places).tolist() == [[*range(8), *[15] * 8]]


def test_autoawqs_numbers_are_unpacked_from_their_places() -> None:
    words = np.array([[0x75316420]], dtype=np.int32)
    assert unpack(words, GEMM.places).tolist() == [[*range(8)]]
    numbers = np.random.default_rng(0).integers(0, 16, size=(4, 24))
    np.testing.assert_array_equal(unpack(pack(numbers, AWQ_ORDER), GEMM.places), numbers)


def test_dequantized_weights_are_number_minus_zero_point_times_scale() -> None:
    packed = np.array([[0x76543210]], dtype=np.int32)
    zeros = np.array([[1, 3]], dtype=np.int32)
    restored = dequantize(COMPRESSED_TENSORS, packed, np.array([[0.5, 2.0]]), zeros)
    assert restored.tolist() == [[-0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0]]


def test_autoawqs_tensors_lie_columns_by_rows() -> None:
    numbers = np.array([[0x75316420], [0x75316420]], dtype=np.int32)  # two columns of rows 0 to 7
    zeros, scale = np.array([[0x11111111]], dtype=np.int32), np.full((1, 8), 0.5)
    restored = dequantize(GEMM, numbers, scale, zeros)
    assert restored.tolist() == [[0.5 * (row - 1)] * 2 for row in range(8)]


@pytest.mark.parametrize("packing", BOTH, ids=lambda packing: str(packing.method))
def test_a_layer_is_restored_from_its_file(tmp_path: Path, packing: Packing) -> None:
    weights = np.random.default_rng(1).normal(size=(24, 64)).astype(np.float32)
    write_safetensors(tmp_path / "model.safetensors", quantized(packing, "layer", weights, 32))
    tensors = read_tensors(tmp_path)
    numbers, scale, zeros = round_to_4_bit(weights, 32)
    expected = (numbers - np.repeat(zeros, 32, axis=1)) * np.repeat(scale, 32, axis=1)
    assert packing.layers(tensors) == ["layer"]
    np.testing.assert_allclose(restore(packing, "layer", tensors), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("quantization", "packing", "sizes", "kept"),
    [
        (
            {"quant_method": "awq", "bits": 4, "group_size": 64, "modules_to_not_convert": ["lm_head"]},
            GEMM,
            {(4, 64)},
            {"lm_head"},
        ),
        (
            {"quant_method": "awq", "bits": 4, "group_size": 64, "modules_to_not_convert": None},
            GEMM,
            {(4, 64)},
            set(),
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32}}},
                "ignore": ["lm_head", "re:.*router"],
            },
            COMPRESSED_TENSORS,
            {(4, 32)},
            {"lm_head"},
        ),
    ],
)
def test_what_config_json_says(
    quantization: dict[str, Any], packing: Packing, sizes: set[tuple[int, int]], kept: set[str]
) -> None:
    config = {"quantization_config": quantization}
    assert packing_of(config) is packing
    assert stated_sizes(config) == sizes
    assert stated_kept(config) == kept


def test_a_config_json_without_a_known_format_has_none() -> None:
    assert packing_of({}) is None
    assert packing_of({"quantization_config": {"quant_method": "gptq"}}) is None
