"""AWQ's factors cancel out in a sound checkpoint; a factor that nothing cancels is found."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from support.training.checkpoints import Array, bf16, write_safetensors
from toxicity_quantization.proof import fit_factors
from toxicity_quantization.scaling import LARGEST_FACTOR, Factors, remaining_factors
from toxicity_quantization.tensors import read_tensors

BLOCK = "model.layers.3."
NORM, GATE, UP, DOWN, QUERY = (
    BLOCK + name for name in ("norm.weight", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn.q_proj")
)
WIDTH, INNER = 64, 96
Weights = dict[str, Array]


def random(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def spread(size: int, seed: int, middle: float) -> Array:
    """Factors with a large spread around `middle`."""
    return (middle * np.exp(random(size, seed=seed))).astype(np.float32)


@pytest.fixture(params=[0, 1], ids=["weight", "one plus weight"])
def offset(request: pytest.FixtureRequest) -> int:
    """What a norm adds to its weight."""
    offset: int = request.param
    return offset


@pytest.fixture
def before(offset: int) -> Weights:
    return {
        NORM: np.abs(random(WIDTH, seed=1)) + 1 - offset,
        GATE: random(INNER, WIDTH, seed=2),
        UP: random(INNER, WIDTH, seed=3),
        DOWN: random(WIDTH, INNER, seed=4),
        QUERY: random(48, WIDTH, seed=5),
    }


@pytest.fixture
def after(before: Weights, offset: int) -> Weights:
    """The block with the norm's and the gate's factors far from 1, as a switched-off channel leaves them."""
    columns, inner = spread(WIDTH, 6, middle=150), spread(INNER, 7, middle=0.4)
    noise = {name: 1 + 0.05 * random(*array.shape, seed=8) for name, array in before.items()}
    scaled = before | {
        NORM: (before[NORM] + offset) / columns - offset,
        GATE: before[GATE] * columns,
        UP: before[UP] * columns / inner[:, None],
        DOWN: before[DOWN] * inner,
    }
    return {name: array if name == NORM else array * noise[name] for name, array in scaled.items()}


def rest(folder: Path, before: Weights, after: Weights) -> dict[str, float]:
    factors: dict[str, Factors] = {name: fit_factors(before[name], after[name]) for name in before if name != NORM}
    for name, weights in (("before", before), ("after", after)):
        write_safetensors(folder / name / "model.safetensors", {NORM: weights[NORM]})
    return remaining_factors(factors, read_tensors(folder / "before"), read_tensors(folder / "after"))


def test_factors_cancel_whatever_their_size(tmp_path: Path, before: Weights, after: Weights) -> None:
    found = rest(tmp_path, before, after)
    assert found.keys() == {GATE, UP, QUERY}, "the check of up_proj includes down_proj"
    assert list(found.values()) == pytest.approx([1.0] * 3, rel=0.03)


def test_a_norm_in_bf16_is_near_enough(tmp_path: Path, before: Weights, after: Weights) -> None:
    rounded = (bf16(after[NORM]).astype(np.uint32) << 16).view(np.float32)
    assert list(rest(tmp_path, before, after | {NORM: rounded}).values()) == pytest.approx([1.0] * 3, rel=0.2)


@pytest.mark.parametrize("factor", [10.0, 0.1])
@pytest.mark.parametrize(("layer", "named"), [(GATE, GATE), (UP, UP), (DOWN, UP), (QUERY, QUERY)])
def test_a_factor_that_nothing_cancels_is_found(
    tmp_path: Path, before: Weights, after: Weights, layer: str, named: str, factor: float
) -> None:
    found = rest(tmp_path, before, after | {layer: after[layer] * factor})
    assert abs(math.log(found.pop(named))) > math.log(LARGEST_FACTOR) * 2
    assert list(found.values()) == pytest.approx([1.0] * 2, rel=0.03)


def test_a_norm_that_was_not_divided_is_found(tmp_path: Path, before: Weights, after: Weights) -> None:
    columns = 150.0
    found = rest(tmp_path, before, before | {GATE: before[GATE] * columns, UP: before[UP] * columns})
    assert (found[GATE], found[UP]) == pytest.approx((columns, columns), rel=0.03)


def test_a_layer_of_another_block_explains_nothing(tmp_path: Path, before: Weights, after: Weights) -> None:
    there = {name.replace("layers.3.", "layers.4."): array for name, array in before.items() if name != NORM}
    halved = {name: array * 0.5 for name, array in there.items()}
    found = rest(tmp_path, before | there, after | halved)
    assert found[QUERY.replace("3", "4")] == pytest.approx(0.5, rel=0.03)
