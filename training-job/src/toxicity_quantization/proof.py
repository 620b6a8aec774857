"""Verifies a quantized checkpoint: reads the saved files and compares them with the original weights."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toxicity_api.spec import QuantizationSpec
from toxicity_quantization.packing import BITS, Packing, packing_of, restore, stated_kept, stated_sizes
from toxicity_quantization.refusals import INSTEAD
from toxicity_quantization.scaling import LARGEST_FACTOR, Factors, remaining_factors
from toxicity_quantization.tensors import Array, StoredTensor, first_dead, first_not_finite, read_values
from toxicity_stage.errors import ModelError

WEIGHT = ".weight"
BF16_BYTES = 2

LARGEST_RATIO = 0.4
"""Upper bound of the quantized layers' bytes divided by their bytes in bf16.

4 bit with scales and zero points take 0.26 (groups of 128) to 0.29 (groups of 32). Embeddings are not counted: they are
not quantized, and dominate small models.
"""
LARGEST_ERROR = 0.5
"""Upper bound of a layer's relative error: rounding to 4 bit gives about 0.1, lost weights give 1."""
FIT_ROUNDS = 10
"""Each round reduces the error of `fit_factors` about tenfold for a matrix of 64 columns, more for wider ones."""


@dataclass(frozen=True)
class Layer:
    """A quantized layer: its size in bytes with scales and zero points, and the relative error of its weights."""

    name: str
    rows: int
    columns: int
    size_bytes: int
    error: float

    @property
    def original_bytes(self) -> int:
        """Bytes of its weights in bf16."""
        return self.rows * self.columns * BF16_BYTES


@dataclass(frozen=True)
class Proof:
    """The quantized layers, and the names of the linear layers that were not quantized."""

    layers: list[Layer]
    kept: list[str]

    @property
    def mean_error(self) -> float:
        """The mean relative error of the layers."""
        return sum(layer.error for layer in self.layers) / len(self.layers)

    @property
    def worst(self) -> Layer:
        """The layer with the largest error."""
        return max(self.layers, key=lambda layer: layer.error)

    @property
    def ratio(self) -> float:
        """Bytes of the quantized layers over their bytes in bf16."""
        return sum(layer.size_bytes for layer in self.layers) / sum(layer.original_bytes for layer in self.layers)

    def __str__(self) -> str:
        return (
            f"{len(self.layers)} linear layers in {BITS} bit take {self.ratio:.2f} of their bytes, {len(self.kept)} are"
            f" kept; relative error {self.mean_error:.3f}, at most {self.worst.error:.3f} in {self.worst.name}"
        )


def require_sound(tensors: Mapping[str, StoredTensor]) -> None:
    """Raises ModelError unless the merged weights are finite and no matrix is all zeros."""
    broken = first_not_finite(tensors)
    if broken:
        raise ModelError(
            "WeightsNotFinite",
            f"{broken} of the merged model contains numbers that are not finite; train again, with a lower"
            " training.learningRate",
        )
    dead = first_dead(tensors)
    if dead:
        raise ModelError(
            "DeadLayer", f"{dead} of the merged model is zero throughout; train again from an intact baseModel"
        )


def prove(
    original: Mapping[str, StoredTensor],
    saved: Mapping[str, StoredTensor],
    config: Mapping[str, Any],
    spec: QuantizationSpec,
) -> Proof:
    """Compares the `saved` tensors with the `original` ones; `config` is the saved config.json.

    Raises ModelError if the saved checkpoint is not a quantization of these weights.
    """
    packing = require_config(config, spec)
    require_finite(saved, packing)
    packed, kept = packing.layers(saved), kept_layers(saved, config)
    require_all_quantized(packed, kept)
    compared = {name: compare(name, original, saved, packing) for name in packed}
    proof = Proof([layer for layer, _ in compared.values()], kept)
    require_shrunk(proof, size_of(original), size_of(saved))
    require_near(proof)
    require_cancelled(remaining_factors({name: each for name, (_, each) in compared.items()}, original, saved))
    return proof


def require_config(config: Mapping[str, Any], spec: QuantizationSpec) -> Packing:
    """The packing that config.json states. Raises ModelError unless it matches the spec."""
    if not config.get("quantization_config"):
        raise ModelError(
            "QuantizationConfigMissing",
            f"config.json has no quantization_config: nothing would read the weights right; run again, {INSTEAD}",
        )
    packing, found = packing_of(config), stated_sizes(config)
    if packing is None or found != {(spec.bits, spec.group_size)}:
        raise ModelError(
            "QuantizationConfigWrong",
            f"config.json says {config['quantization_config'].get('quant_method')} with (bits, group size)"
            f" {sorted(found, key=repr)}, quantization.bits and .groupSize say {(spec.bits, spec.group_size)};"
            f" run again, {INSTEAD}",
        )
    return packing


def require_finite(saved: Mapping[str, StoredTensor], packing: Packing) -> None:
    """Raises ModelError unless all values are finite and all scales positive."""
    broken = first_not_finite(saved)
    if broken:
        raise ModelError(
            "WeightsNotFinite",
            f"{broken} of the quantized model contains numbers that are not finite;"
            f" raise quantization.calibrationSamples {INSTEAD}",
        )
    scales = {name: tensor for name, tensor in saved.items() if name.endswith(packing.scale)}
    dead = [name for name, tensor in scales.items() if (read_values(tensor) <= 0).any()]
    if dead:
        raise ModelError(
            "DeadScale",
            f"{len(dead)} layers have scales that are not above zero, the first is {dead[0]};"
            f" raise quantization.calibrationSamples {INSTEAD}",
        )


def kept_layers(saved: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> list[str]:
    """The names of the linear layers that are not quantized.

    These are the layers that config.json lists, tied to the embedding or not, and other matrices that do not have one
    row per token of the vocabulary.
    """
    vocabulary = (config.get("text_config") or config).get("vocab_size")
    matrices = {
        name.removesuffix(WEIGHT)
        for name, tensor in saved.items()
        if name.endswith(WEIGHT) and len(tensor.shape) == 2 and tensor.shape[0] != vocabulary
    }
    return sorted(stated_kept(config) | matrices)


def require_all_quantized(packed: Sequence[str], kept: Sequence[str]) -> None:
    """Raises ModelError unless some layers are quantized, each in all blocks of the model."""
    kinds = {_kind(name) for name in packed}
    left = [name for name in kept if _kind(name) in kinds]
    if not packed or left:
        raise ModelError(
            "LayersNotQuantized",
            f"{len(packed)} linear layers are quantized, and these are not: {', '.join((left or kept)[:3])};"
            f" run again, {INSTEAD}",
        )


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def compare(
    name: str, original: Mapping[str, StoredTensor], saved: Mapping[str, StoredTensor], packing: Packing
) -> tuple[Layer, Factors]:
    """Compares the quantized layer `name` with its original weights. Raises ModelError if their shapes differ."""
    before = original.get(name + WEIGHT)
    restored = restore(packing, name, saved)
    if before is None or before.shape != restored.shape:
        raise ModelError(
            "LayerUnknown",
            f"{name} has the shape {restored.shape} when quantized and {before and before.shape} in the merged model;"
            f" choose another baseModel {INSTEAD}",
        )
    size = sum(tensor.size_bytes for key, tensor in saved.items() if key.rpartition(".")[0] == name)
    rows, columns = before.shape
    whole = read_values(before)
    factors = fit_factors(whole, restored)
    return Layer(name, rows, columns, size, relative_error(whole, restored, factors)), factors


def relative_error(original: Array, restored: Array, factors: Factors) -> float:
    """|restored - scaled| / |scaled| in Frobenius norms, where `scaled` are the original weights with AWQ's factors.

    Infinite if nothing of the original is left. A lost row counts in full.
    """
    alive = factors.rows > 0
    if not alive.any():
        return math.inf
    rows = np.where(alive, factors.rows, np.median(factors.rows[alive]))
    scaled = rows[:, None] * original * factors.columns
    return float(np.linalg.norm(restored - scaled) / np.linalg.norm(scaled))


def fit_factors(original: Array, restored: Array) -> Factors:
    """The non-negative factors for which rows x original x columns is closest to `restored`.

    Alternating least squares: given one of them, each factor of the other has a closed form.
    """
    product, power = original * restored, original**2
    rows = np.ones(len(original), dtype=np.float32)
    for _ in range(FIT_ROUNDS):
        columns = _quotients(rows @ product, rows**2 @ power)
        rows = _quotients(product @ columns, power @ columns**2)
    return Factors(rows, columns)


def _quotients(dividends: Array, divisors: Array) -> Array:
    quotients: Array = np.divide(dividends, divisors, out=np.zeros_like(dividends), where=divisors > 0)
    return quotients.clip(min=0)


def size_of(tensors: Mapping[str, StoredTensor]) -> int:
    """Bytes of all tensors."""
    return sum(tensor.size_bytes for tensor in tensors.values())


def require_shrunk(proof: Proof, bytes_before: int, bytes_after: int) -> None:
    """Raises ModelError unless the layers shrink to LARGEST_RATIO of their bytes in bf16, and the model shrinks too."""
    if proof.ratio > LARGEST_RATIO or bytes_after >= bytes_before:
        raise ModelError(
            "WeightsNotShrunk",
            f"the quantized layers take {proof.ratio:.2f} of their bytes in bf16 where at most {LARGEST_RATIO} is"
            f" expected, all weights {bytes_after} bytes after {bytes_before};"
            f" choose a larger quantization.groupSize {INSTEAD}",
        )


def require_near(proof: Proof) -> None:
    """Raises ModelError unless every quantized layer is within LARGEST_ERROR of its original."""
    far = [layer for layer in proof.layers if not layer.error <= LARGEST_ERROR]
    if far:
        raise ModelError(
            "WeightsLost",
            f"the weights of {len(far)} layers are further than {LARGEST_ERROR} from their originals,"
            f" the worst is {proof.worst.name} with {proof.worst.error:.2f};"
            f" choose a smaller quantization.groupSize, raise quantization.calibrationSamples, {INSTEAD}",
        )


def require_cancelled(factors: Mapping[str, float]) -> None:
    """Raises ModelError unless the factor of each layer that nothing cancels is near 1."""
    far = {name: each for name, each in factors.items() if not 1 / LARGEST_FACTOR <= each <= LARGEST_FACTOR}
    if far:
        name, factor = max(far.items(), key=lambda item: abs(math.log(item[1])))
        raise ModelError(
            "WeightsScaled",
            f"the weights of {len(far)} layers are multiplied by a factor that no norm and no previous layer cancels,"
            f" the worst is {name} with {factor:.2f}; run again, {INSTEAD}",
        )


def write_layers(layers: Sequence[Layer], path: Path) -> None:
    """Writes a CSV file with a line per quantized layer."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["layer", "rows", "columns", "original_bytes", "bytes", "error"])
        for layer in layers:
            sizes = (layer.original_bytes, layer.size_bytes)
            writer.writerow([layer.name, layer.rows, layer.columns, *sizes, f"{layer.error:.6f}"])
