"""The saved checkpoint is compared with the original weights; each kind of broken checkpoint is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.training.checkpoints import Array, bf16, quantized, write_safetensors
from toxicity_api.spec import QuantizationSpec
from toxicity_quantization.packing import COMPRESSED_TENSORS, GEMM, Packing
from toxicity_quantization.proof import (
    Layer,
    Proof,
    fit_factors,
    prove,
    relative_error,
    require_sound,
    write_layers,
)
from toxicity_quantization.tensors import read_tensors
from toxicity_stage.errors import ModelError

GROUP = 32
SPEC = QuantizationSpec(gpus=0, group_size=GROUP)
TOKENS = 50
QUERY, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"
Tensors = dict[str, Array]
Config = dict[str, Any]


def matrix(rows: int, columns: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


@pytest.fixture(params=[COMPRESSED_TENSORS, GEMM], ids=lambda packing: str(packing.method))
def packing(request: pytest.FixtureRequest) -> Packing:
    packing: Packing = request.param
    return packing


@pytest.fixture
def before() -> Tensors:
    return {
        "model.embed_tokens.weight": matrix(TOKENS, 64),
        f"{QUERY}.weight": matrix(48, 64, 1),
        f"{DOWN}.weight": matrix(64, 128, 2),
        "model.norm.weight": np.ones(64, dtype=np.float32),
    }


def stored(tensors: Tensors) -> Tensors:
    """The tensors as a checkpoint has them: floating-point numbers in bf16."""
    return {name: bf16(array) if array.dtype == np.float32 else array for name, array in tensors.items()}


@pytest.fixture
def after(before: Tensors, packing: Packing) -> Tensors:
    kept = {name: before[name] for name in ("model.embed_tokens.weight", "model.norm.weight")}
    layers = {
        key: part
        for name in (QUERY, DOWN)
        for key, part in quantized(packing, name, before[f"{name}.weight"], GROUP).items()
    }
    return stored(kept | layers)


@pytest.fixture
def config(packing: Packing) -> Config:
    quantization: Config = {"quant_method": packing.method}
    if packing is GEMM:
        quantization |= {"bits": 4, "group_size": GROUP, "modules_to_not_convert": ["lm_head"]}
    else:
        weights = {"num_bits": 4, "group_size": GROUP, "symmetric": False}
        quantization |= {"config_groups": {"group_0": {"weights": weights}}, "ignore": ["lm_head"]}
    return {"vocab_size": TOKENS, "quantization_config": quantization}


def proved(folder: Path, before: Tensors, after: Tensors, config: Config) -> Proof:
    write_safetensors(
        folder / "before" / "model.safetensors", {name: bf16(array) for name, array in before.items()}
    )
    write_safetensors(folder / "after" / "model.safetensors", after)
    return prove(read_tensors(folder / "before"), read_tensors(folder / "after"), config, SPEC)


def test_layers_are_counted_and_their_errors_are_those_of_rounding(
    tmp_path: Path, before: Tensors, after: Tensors, config: Config, packing: Packing
) -> None:
    proof = proved(tmp_path, before, after, config)
    assert [(layer.name, layer.rows, layer.columns) for layer in proof.layers] == [
        (QUERY, 48, 64),
        (DOWN, 64, 128),
    ]
    assert proof.kept == ["lm_head"]
    assert proof.layers[0].original_bytes == 48 * 64 * 2
    # numbers, one scale and half a byte of zero point for each group; one format also stores the shape
    shape = 0 if packing is GEMM else 16
    assert proof.layers[0].size_bytes == 48 * 64 // 2 + 48 * 2 * 2 + 48 * 2 // 2 + shape
    assert 0.05 < proof.mean_error < proof.worst.error < 0.12
    assert 0.28 < proof.ratio < 0.31
    assert "2 linear layers in 4 bit take 0.29 of their bytes, 1 are kept" in str(proof)


def test_a_matrix_that_is_neither_quantized_nor_the_embedding_is_kept(
    tmp_path: Path, before: Tensors, after: Tensors, config: Config
) -> None:
    extra = {"model.router.weight": matrix(8, 64)}
    after = after | {name: bf16(array) for name, array in extra.items()}
    assert proved(tmp_path, before | extra, after, config).kept == ["lm_head", "model.router"]


def drop_config(after: Tensors, config: Config, packing: Packing) -> None:
    del config["quantization_config"]


def other_group_size(after: Tensors, config: Config, packing: Packing) -> None:
    quantization = config["quantization_config"]
    (quantization if packing is GEMM else quantization["config_groups"]["group_0"]["weights"])["group_size"] = 128


def no_sizes(after: Tensors, config: Config, packing: Packing) -> None:
    config["quantization_config"] = {"quant_method": packing.method}


def other_method(after: Tensors, config: Config, packing: Packing) -> None:
    config["quantization_config"]["quant_method"] = "gptq"


def unpacked_everywhere(after: Tensors, config: Config, packing: Packing) -> None:
    for name, shape in ((QUERY, (48, 64)), (DOWN, (64, 128))):
        del after[name + packing.numbers]
        after[f"{name}.weight"] = bf16(matrix(*shape))


def unpacked_namesake(after: Tensors, config: Config, packing: Packing) -> None:
    after["model.layers.1.mlp.down_proj.weight"] = bf16(matrix(64, 128))


def no_smaller(after: Tensors, config: Config, packing: Packing) -> None:
    after[f"{DOWN}.weight_g_idx"] = np.zeros((64, 128), dtype=np.int32)


def large_rest(after: Tensors, config: Config, packing: Packing) -> None:
    after["model.embed_tokens.weight"] = matrix(TOKENS * 8, 64)


def infinite_scale(after: Tensors, config: Config, packing: Packing) -> None:
    after[DOWN + packing.scale][1, 1] = bf16(np.array([np.inf]))[0]


def broken_norm(after: Tensors, config: Config, packing: Packing) -> None:
    after["model.norm.weight"][:] = bf16(np.array([np.nan]))[0]


def zeroed_scales(after: Tensors, config: Config, packing: Packing) -> None:
    after[DOWN + packing.scale][:] = 0


def zeroed_numbers(after: Tensors, config: Config, packing: Packing) -> None:
    after[DOWN + packing.numbers][:] = 0
    after[DOWN + packing.zero_point][:] = 0


def foreign_numbers(after: Tensors, config: Config, packing: Packing) -> None:
    numbers = DOWN + packing.numbers
    after[numbers] = quantized(packing, DOWN, matrix(64, 128, 9), GROUP)[numbers]


def multiplied(after: Tensors, config: Config, packing: Packing) -> None:
    after.update(stored(quantized(packing, QUERY, 10 * matrix(48, 64, 1), GROUP)))


def unknown_layer(after: Tensors, config: Config, packing: Packing) -> None:
    after.update(quantized(packing, "model.layers.7.mlp.up_proj", matrix(64, 64), GROUP))


@pytest.mark.parametrize(
    ("breaks", "reason", "words"),
    [
        (drop_config, "QuantizationConfigMissing", "no quantization_config"),
        (other_group_size, "QuantizationConfigWrong", r"with \(bits, group size\) \[\(4, 128\)\]"),
        (no_sizes, "QuantizationConfigWrong", r"bits, group size\) \[(\(None, None\))?\]"),
        (other_method, "QuantizationConfigWrong", "says gptq with"),
        (unpacked_everywhere, "LayersNotQuantized", "0 linear layers are quantized"),
        (unpacked_namesake, "LayersNotQuantized", r"these are not: model\.layers\.1\.mlp\.down_proj"),
        (no_smaller, "WeightsNotShrunk", "at most 0.4"),
        (large_rest, "WeightsNotShrunk", "bytes after"),
        (infinite_scale, "WeightsNotFinite", r"down_proj\.(weight_scale|scales)"),
        (broken_norm, "WeightsNotFinite", r"model\.norm\.weight"),
        (zeroed_scales, "DeadScale", r"down_proj\.(weight_scale|scales)"),
        (zeroed_numbers, "WeightsLost", r"down_proj with inf"),
        (foreign_numbers, "WeightsLost", r"down_proj with"),
        (multiplied, "WeightsScaled", r"of 1 layers .*q_proj with (9\.9|10\.0)"),
        (unknown_layer, "LayerUnknown", r"layers\.7\.mlp\.up_proj"),
    ],
)
def test_a_broken_checkpoint_is_refused_with_a_reason_and_a_remedy(
    tmp_path: Path,
    before: Tensors,
    after: Tensors,
    config: Config,
    packing: Packing,
    breaks: Callable[[Tensors, Config, Packing], None],
    reason: str,
    words: str,
) -> None:
    breaks(after, config, packing)
    with pytest.raises(ModelError, match=words) as caught:
        proved(tmp_path, before, after, config)
    assert caught.value.reason == reason
    assert "quantization.method: none" in str(caught.value)


@pytest.mark.parametrize("shape", [(16, 32), (64, 128), (200, 64)])
def test_factors_that_were_multiplied_in_are_found(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(3)
    original = matrix(*shape)
    rows, columns = (np.exp(random.normal(size=size)).astype(np.float32) for size in shape)
    fitted = fit_factors(original, rows[:, None] * original * columns)
    expected = np.outer(rows, columns)
    np.testing.assert_allclose(np.outer(fitted.rows, fitted.columns), expected, rtol=1e-2)
    assert error(original, expected * original) < 1e-3


def error(original: Array, restored: Array) -> float:
    return relative_error(original, restored, fit_factors(original, restored))


def test_the_error_is_that_of_what_was_added_whatever_the_factors() -> None:
    original, noise = matrix(96, 128), matrix(96, 128, 1)
    factors = np.exp(np.random.default_rng(3).normal(size=128)).astype(np.float32)
    scaled = original * factors
    noise *= 0.1 * np.linalg.norm(scaled) / np.linalg.norm(noise)
    assert error(original, scaled + noise) == pytest.approx(0.1, rel=0.05)


def test_what_was_lost_counts_whole() -> None:
    original = matrix(64, 128)
    halved = original.copy()
    halved[:32] = 0
    assert error(original, halved) == pytest.approx(math.sqrt(0.5), rel=0.05)
    assert error(original, -original) == math.inf
    assert error(original, np.zeros_like(original)) == math.inf


@pytest.mark.parametrize(("number", "reason"), [(np.nan, "WeightsNotFinite"), (0.0, "DeadLayer")])
def test_merged_weights_that_are_broken_are_refused(
    tmp_path: Path, before: Tensors, number: float, reason: str
) -> None:
    write_safetensors(tmp_path / "model.safetensors", before)
    require_sound(read_tensors(tmp_path))
    before[f"{DOWN}.weight"][:] = number
    write_safetensors(tmp_path / "model.safetensors", before)
    with pytest.raises(ModelError, match=r"down_proj\.weight of the merged model .*; train again") as caught:
        require_sound(read_tensors(tmp_path))
    assert caught.value.reason == reason


def test_layers_are_written_line_by_line(tmp_path: Path) -> None:
    write_layers([Layer("a", 2, 32, 40, 0.125), Layer("b", 4, 64, 99, 0.0625)], tmp_path / "layers.csv")
    assert (tmp_path / "layers.csv").read_text().splitlines() == [
        "layer,rows,columns,original_bytes,bytes,error",
        "a,2,32,128,40,0.125000",
        "b,4,64,512,99,0.062500",
    ]
